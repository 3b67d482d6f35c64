/* SPDX-License-Identifier: MIT */
/* What molt's two processes have: to see that an update, however it went, left nothing over. */
#ifndef RUNNER_AFTERMATH_H
#define RUNNER_AFTERMATH_H

struct session;

struct aftermath {
	char text
		[16384]; /* a line per descriptor, with its close-on-exec flag, and per thread; sorted,
			  * of the parent, then of the worker */
};

/* What molt has now. */
int aftermath_take(struct session *s, struct aftermath *a);

/* Waits until it has just that again, and the parent one child, which has none: neither a successor nor a
 * zombie; and that molt is the only child of this process, which adopts what molt leaves behind. -1 names the
 * difference. */
int aftermath_check(struct session *s, const struct aftermath *before);

#endif
