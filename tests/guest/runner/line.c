/* SPDX-License-Identifier: MIT */
#include "tests/guest/runner/line.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "tests/guest/runner/session.h"

#define COME_MS	  10000 /* an interrupt that is not there by then was lost */
#define SETTLE_US 3000	/* one that is not there by then was not made twice */

#define SOFT_KVM_WAIT_NS 600000000ull

int event_signal(struct session *s, int fd)
{
	uint64_t one = 1;

	return write(fd, &one, sizeof(one)) == sizeof(one)
		       ? 0
		       : session_fail(s, "eventfd: %s", strerror(errno));
}

/* Asks until the guest has counted @want, then once more after a while: not one too many. */
int count_expect(struct session *s, uint64_t want, int pending)
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

static int line_update(struct session *s)
{
	struct line *l = s->opaque;

	if (!l->asserted || l->masked)
		return 0;
	l->masked = true;
	l->signals++;
	return event_signal(s, s->trigger);
}

static bool line_spurious(struct session *s, const char *text)
{
	struct line *l = s->opaque;

	if (l->asserted || l->signals < 2 || strncmp(text, "IRQ", 3))
		return false;
	l->signals = 0;
	session_send(s, "s", 1); /* what fails is in session.error */
	return true;
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

void line_attach(struct session *s, struct line *l)
{
	*l = (struct line){0};
	s->opaque = l;
	s->on_poll = line_poll;
	s->on_line = line_spurious;
}

int line_set(struct session *s, bool asserted)
{
	struct line *l = s->opaque;

	l->asserted = asserted;
	if (asserted)
		l->signals = 0;
	return line_update(s);
}

int line_serve(struct session *s)
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

int line_handled(struct session *s)
{
	struct line *l = s->opaque;

	if (session_expect(s, "IRQ", COME_MS))
		return -1;
	l->handled = true;
	l->count++;
	return 0;
}

int line_counted(struct session *s)
{
	const struct line *l = s->opaque;

	return count_expect(s, l->count, -1);
}
