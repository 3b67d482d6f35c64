/* SPDX-License-Identifier: MIT */
/*
 * The INTx line of the test device (--testdev trigger=,unmask=), played by the runner as VFIO does it: it
 * signals once and keeps the line masked; an unmask event looks at the line again
 * (Documentation/driver-api/vfio.rst; drivers/vfio/pci/vfio_pci_intrs.c). The guest is `level`.
 *
 * A KVM ends a level interrupt when the guest writes EOI; the software KVM ends it when it delivers
 * it, before the handler could lower the line. There, an unmask event waits until the handler has
 * spoken, or until it is clear that none runs; that it comes at the EOI is not tested.
 *
 * KVM injects a level interrupt from a kernel thread (kvm_main's irqfd_inject). A second signal for one
 * assertion, which an unmask event brings while the handler runs, may on a busy host be injected after
 * the EOI: a spurious interrupt, as any shared line has them. One for each assertion is let pass then.
 */
#ifndef RUNNER_LINE_H
#define RUNNER_LINE_H

#include <stdbool.h>
#include <stdint.h>

struct session;

struct line {
	bool asserted, masked;
	bool handled;		/* the guest said that its handler runs */
	unsigned signals;	/* of this assertion */
	uint64_t unmask_due_ns; /* software KVM: an event that waits, 0: none */
	uint64_t count;		/* interrupts that the guest has had */
};

/* Plugs @l into the session: from here on unmask events are served whenever the runner waits. */
void line_attach(struct session *s, struct line *l);
/* These use the attached one. 0, or -1 with session.error. */
int line_set(struct session *s, bool asserted);
/* Waits until the guest's handler runs. */
int line_handled(struct session *s);
/* It does: lowers the line, lets the guest end the interrupt, expects the unmask event. */
int line_serve(struct session *s);
/* The guest has counted as many interrupts as there were, also after a while. */
int line_counted(struct session *s);

/* Signals an eventfd. */
int event_signal(struct session *s, int fd);
/* Asks a guest that counts until it has counted @want, then once more: not one too many. @pending: of
 * the masked vector's bit, or -1. */
int count_expect(struct session *s, uint64_t want, int pending);

#endif
