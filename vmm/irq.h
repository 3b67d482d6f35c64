/* SPDX-License-Identifier: MIT */
/*
 * Interrupts: GSI numbers, the routing table, and irq_source, an eventfd that reaches the guest
 * while its irqfd is attached. An attached irqfd takes the count out of its eventfd: so an update
 * detaches all before it reads any state (what fires then counts up), and attaches them after
 * commit. A masked vector is not attached: its eventfd is its pending bit. All functions: device
 * lock held, except irq_init, detach_all and attach_all of lines, in which KVM may take long.
 */
#pragma once

#include <pthread.h>

#include "vmm/base/base.h"

#define IRQ_PINS    24	 /* of the interrupt controllers: GSI 0 to 23 */
#define IRQ_MAX_GSI 4096 /* KVM_MAX_IRQ_ROUTES */

enum irq_kind { IRQ_MSI, IRQ_LEVEL };

struct irq_source {
	enum irq_kind kind;
	int fd;	       /* eventfd that the device signals; owned by the table of kept descriptors */
	int unmask_fd; /* IRQ_LEVEL: eventfd the guest's EOI signals (resample), else -1 */
	uint32_t gsi;
	uint64_t msi_addr; /* IRQ_MSI */
	uint32_t msi_data;
	bool wanted;			 /* the device wants it delivered (unmasked, enabled) */
	bool attached;			 /* an irqfd exists in the present VM */
	bool changed;			 /* since irq_apply */
	struct irq_source *next, **link; /* link: what points to it; NULL: not registered */
};

struct irq {
	struct vm *vm;
	pthread_mutex_t lock; /* of the sources. An exit that changes none does not take it */
	bool live; /* irqfds may be attached: false until the machine starts and inside an update */
	bool routes_dirty;
	bool changed;		/* a source is; the device lock's */
	bool missing;		/* KVM has refused one that is wanted: irq_attach_missing() */
	struct arch_pins *pins; /* NULL: KVM has the interrupt controllers */
	int lines_fd;		/* with @pins: an epoll of the level sources that are attached */
	uint8_t gsi_used[IRQ_MAX_GSI / 8];
	struct irq_source *sources;
};

void irq_init(struct irq *irq, struct vm *vm);

/* The pins are not KVM's. It has no irqfds that resample then (kvm_arch_irqfd_allowed): what those do for level sources
 * is done by irq_lines_fired, whenever lines_fd is readable, and by irq_eoi. Right after irq_init. */
struct arch_pins;
int irq_use_pins(struct irq *irq, struct arch_pins *pins, struct error *err);
void irq_lines_fired(void *opaque, uint32_t events);
void irq_eoi(struct irq *irq, uint8_t vector);

/* Before a state is loaded, with nothing attached: no GSI is taken any more, and no source wanted. */
void irq_load_begin(struct irq *irq);

/* A free GSI for one MSI route, or -ENOSPC; or a given one: -EBUSY, -EINVAL. */
int irq_gsi_alloc(struct irq *irq);
int irq_gsi_take(struct irq *irq, uint32_t gsi);
void irq_gsi_free(struct irq *irq, uint32_t gsi);

/* The caller owns the struct; removing detaches. */
void irq_add(struct irq *irq, struct irq_source *src);
void irq_remove(struct irq *irq, struct irq_source *src);

/* irq_want notes whether the source shall reach the guest. irq_apply does it when live, else irq_attach_all does.
 * KVM takes routes as one table, and waits for a grace period: so what changes with one access of the guest is noted
 * first, and applied together. Of several failures irq_apply returns the first; the other sources are still applied. */
void irq_want(struct irq *irq, struct irq_source *src, bool wanted);
int irq_apply(struct irq *irq, struct error *err);

/* Does the eventfd of a source that is not attached hold a signal? (MSI-X pending bit) */
bool irq_pending(const struct irq_source *src);

/* Sets a level or edge pin of the interrupt controllers (GSI 0 to 23). */
void irq_pin(struct irq *irq, uint32_t gsi, bool level);
/* A message to KVM, with the address as KVM wants it. Returns how many vCPUs have taken it, or -errno. */
int irq_msi_send(struct irq *irq, uint64_t addr, uint32_t data);

/* Uploads the routing table if it has changed. */
int irq_routes_commit(struct irq *irq, struct error *err);

/* Takes all irqfds off. Stops at the first error: then the caller attaches all again. KVM waits for a grace period. */
int irq_detach_all(struct irq *irq, struct error *err);

/* Attaches what is wanted of @kind. The unmask eventfd of a level source that was not signalled meanwhile is written
 * too: its line may have been asserted before, and has to be looked at again. What KVM refuses is logged, and what it
 * has counted is injected. Level sources wait for a grace period. */
void irq_attach_all(struct irq *irq, enum irq_kind kind);

/* Tries again what KVM has refused (irq->missing), as memory may be there later. */
void irq_attach_missing(struct irq *irq);
