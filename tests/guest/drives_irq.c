/* SPDX-License-Identifier: MIT */
/* The test device's interrupt, with the runner in the place of the hardware. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cases.h"
#include "drives.h"
#include "session.h"

#define BOOT_MS	  30000
#define COME_MS	  10000 /* an interrupt that is not there by then was lost */
#define SETTLE_US 3000	/* one that is not there by then was not made twice */

static int event_signal(struct session *s, int fd)
{
	uint64_t one = 1;

	return write(fd, &one, sizeof(one)) == sizeof(one)
		       ? 0
		       : session_fail(s, "eventfd: %s", strerror(errno));
}

/* Asks until the guest has counted @want, then once more after a while: not one too many. */
static int count_expect(struct session *s, uint64_t want, int pending)
{
	uint64_t until = clock_ns() + (uint64_t)COME_MS * 1000000 * s->set->slow, got = 0;
	int bit = -1;

	for (bool settled = false;;) {
		if (session_ask(s, 'r', "COUNT "))
			return -1;
		sscanf(s->line, "COUNT %llu pending %d", (unsigned long long *)&got, &bit);
		if (got > want || (got < want && clock_ns() > until) ||
		    (got == want && pending >= 0 && bit != pending))
			return session_fail(s, "after update %u: '%s', expected %llu pending %d",
					    s->updates, s->line, (unsigned long long)want, pending);
		if (got == want && settled)
			return 0;
		settled = got == want;
		if (session_wait_us(s, settled ? SETTLE_US : 500))
			return -1;
	}
}

/* ---- MSI-X ---- */

static int wait_random(struct session *s)
{
	const struct test_case *t = s->test;

	return session_wait_us(s, t->min_us + session_random(s, t->max_us - t->min_us + 1));
}

static int irq_before(struct session *s, uint64_t *count)
{
	*count += 1;
	return event_signal(s, s->trigger) || session_update(s) || count_expect(s, *count, 0);
}

static int irq_inside(struct session *s, uint64_t *count)
{
	*count += 1;
	return session_update_begin(s) || wait_random(s) || event_signal(s, s->trigger) ||
	       session_update_end(s) || count_expect(s, *count, 0);
}

static int irq_after(struct session *s, uint64_t *count)
{
	*count += 1;
	return session_update(s) || count_expect(s, *count - 1, 0) || event_signal(s, s->trigger) ||
	       count_expect(s, *count, 0);
}

static int irq_none(struct session *s, uint64_t *count)
{
	return session_update(s) || count_expect(s, *count, 0);
}

/* Signalled while masked: pending over the update, delivered once when unmasked. */
static int irq_masked_before(struct session *s, uint64_t *count)
{
	return session_ask(s, 'm', "MASKED") || event_signal(s, s->trigger) ||
	       count_expect(s, *count, 1) || session_update(s) || count_expect(s, *count, 1) ||
	       session_ask(s, 'u', "UNMASKED") || count_expect(s, *count += 1, 0);
}

static int irq_masked_inside(struct session *s, uint64_t *count)
{
	return session_ask(s, 'm', "MASKED") || count_expect(s, *count, 0) ||
	       session_update_begin(s) || wait_random(s) || event_signal(s, s->trigger) ||
	       session_update_end(s) || count_expect(s, *count, 1) ||
	       session_ask(s, 'u', "UNMASKED") || count_expect(s, *count += 1, 0);
}

/* One before, one inside, one after: they may meet in the eventfd, but never vanish or multiply. */
static int irq_burst(struct session *s, uint64_t *count)
{
	unsigned long long got = 0;

	if (event_signal(s, s->trigger) || session_update_begin(s) || wait_random(s) ||
	    event_signal(s, s->trigger) || session_update_end(s) || event_signal(s, s->trigger) ||
	    session_wait_us(s, 20000) || session_ask(s, 'r', "COUNT "))
		return -1;
	sscanf(s->line, "COUNT %llu", &got);
	if (got < *count + 1 || got > *count + 3)
		return session_fail(s, "after update %u: 3 signals, '%s' where %llu were before",
				    s->updates, s->line, (unsigned long long)*count);
	*count = got;
	return count_expect(s, *count, 0);
}

int drive_irq(struct session *s, unsigned updates)
{
	static int (*const rounds[])(struct session *, uint64_t *) = {
		irq_before,	   irq_inside, irq_after, irq_masked_before,
		irq_masked_inside, irq_none,   irq_burst,
	};
	uint64_t count = 0;

	if (session_expect(s, "READY", BOOT_MS))
		return -1;
	for (unsigned i = 0; i < updates; i++)
		if (rounds[i % (sizeof(rounds) / sizeof(rounds[0]))](s, &count))
			return -1;
	return session_send(s, "q", 1) || session_finish(s) ? -1 : 0;
}

/* ---- INTx ---- */

/*
 * What VFIO does for a level interrupt: it signals once and keeps the line masked; an unmask event
 * looks at the line again (Documentation/driver-api/vfio.rst; drivers/vfio/pci/vfio_pci_intrs.c).
 *
 * A KVM ends a level interrupt when the guest writes EOI; the software KVM ends it when it delivers
 * it, before the handler could lower the line. There, an unmask event waits until the handler has
 * spoken, or until it is clear that none runs; that it comes at the EOI is not tested.
 */
#define SOFT_KVM_WAIT_NS 600000000ull

struct line {
	bool asserted, masked;
	bool handled;		/* the guest said that its handler runs */
	uint64_t unmask_due_ns; /* software KVM: an event that waits, 0: none */
};

static int line_update(struct session *s)
{
	struct line *l = s->opaque;

	if (!l->asserted || l->masked)
		return 0;
	l->masked = true;
	return event_signal(s, s->trigger);
}

static int line_poll(struct session *s)
{
	struct line *l = s->opaque;
	uint64_t n;

	if (read(s->unmask, &n, sizeof(n)) == sizeof(n))
		l->unmask_due_ns =
			clock_ns() + (s->set->soft_kvm ? SOFT_KVM_WAIT_NS * s->set->slow : 0);
	if (!l->unmask_due_ns || (s->set->soft_kvm && l->handled) ||
	    (l->asserted && clock_ns() < l->unmask_due_ns))
		return 0;
	l->unmask_due_ns = 0;
	l->masked = false;
	return line_update(s);
}

static int line_set(struct session *s, bool asserted)
{
	struct line *l = s->opaque;

	l->asserted = asserted;
	return line_update(s);
}

/* The guest is in its handler: lower the line, let it end the interrupt, expect the unmask event. */
static int line_serve(struct session *s)
{
	struct line *l = s->opaque;
	uint64_t until = clock_ns() + (uint64_t)COME_MS * 1000000 * s->set->slow;

	l->handled = false;
	if (line_set(s, false) || session_send(s, "d", 1))
		return -1;
	while (l->masked) {
		if (session_wait_us(s, 2000))
			return -1;
		if (clock_ns() > until)
			return session_fail(s, "after update %u: no unmask event", s->updates);
	}
	return 0;
}

static int line_handled(struct session *s)
{
	struct line *l = s->opaque;

	if (session_expect(s, "IRQ", COME_MS))
		return -1;
	l->handled = true;
	return 0;
}

static int level_in_handler(struct session *s)
{
	return line_set(s, true) || line_handled(s) || session_update(s) || line_serve(s);
}

static int level_masked(struct session *s)
{
	return session_ask(s, 'm', "MASKED") || line_set(s, true) ||
	       session_wait_us(s, SETTLE_US) || session_update(s) ||
	       session_wait_us(s, SETTLE_US) || session_ask(s, 'u', "UNMASKED") ||
	       line_handled(s) || line_serve(s);
}

static int level_inside(struct session *s)
{
	return session_update_begin(s) || wait_random(s) || line_set(s, true) ||
	       session_update_end(s) || line_handled(s) || line_serve(s);
}

/* Masked and asserted, but lowered again before the guest looks: nothing may come. */
static int level_withdrawn(struct session *s)
{
	return session_ask(s, 'm', "MASKED") || session_update(s) ||
	       session_ask(s, 'u', "UNMASKED") || session_wait_us(s, SETTLE_US);
}

int drive_level(struct session *s, unsigned updates)
{
	static const struct {
		int (*run)(struct session *);
		unsigned interrupts;
	} rounds[] = {
		{level_in_handler, 1}, {level_masked, 1}, {level_inside, 1}, {level_withdrawn, 0}};
	struct line line = {0};
	uint64_t count = 0;

	if (session_expect(s, "READY", BOOT_MS))
		return -1;
	s->opaque = &line;
	s->on_poll = line_poll;
	for (unsigned i = 0; i < updates; i++) {
		unsigned r = i % (sizeof(rounds) / sizeof(rounds[0]));
		count += rounds[r].interrupts;
		if (rounds[r].run(s) || count_expect(s, count, -1))
			return -1;
	}
	return session_send(s, "q", 1) || session_finish(s) ? -1 : 0;
}
