/* SPDX-License-Identifier: MIT */
/* The test device's interrupt, with the runner in the place of the hardware. */
#include <stdio.h>

#include "tests/guest/cases/cases.h"
#include "tests/guest/cases/drives.h"
#include "tests/guest/runner/line.h"
#include "tests/guest/runner/session.h"

#define BOOT_MS	  30000
#define SETTLE_US 3000 /* one that is not there by then was not made twice */

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
	static int (*const rounds[])(struct session *) = {level_in_handler, level_masked,
							  level_inside, level_withdrawn};
	struct line line;

	if (session_expect(s, "READY", BOOT_MS))
		return -1;
	line_attach(s, &line);
	for (unsigned i = 0; i < updates; i++)
		if (rounds[i % (sizeof(rounds) / sizeof(rounds[0]))](s) || line_counted(s))
			return -1;
	return session_send(s, "q", 1) || session_finish(s) ? -1 : 0;
}
