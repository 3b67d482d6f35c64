/* SPDX-License-Identifier: MIT */
/* One hand-over of the floor program (tests/bench/floor), with all of its processes under ptrace. */
#ifndef RUNNER_FLOOR_TRACE_H
#define RUNNER_FLOOR_TRACE_H

#include "calls.h"

/* In the order in which they are started; NONE: nobody. */
enum floor_who { FLOOR_PARENT, FLOOR_INCUMBENT, FLOOR_SUCCESSOR, FLOOR_NONE };

struct floor_trace {
	/* Result: */
	struct calls calls; /* of the pause: "old" is the incumbent, "new" the successor */
	unsigned processes; /* that there were */
	bool began, over;   /* there was a pause, and an end of it */
	int status;	    /* of the parent's end, as waitpid gives it */
};

/* Kills @victim, if any, when the successor begins to load: within the pause. Returns when all processes have
 * ended. -1: one did not, or it did not start, session.error says so; then they are killed. */
int floor_trace(struct session *s, const char *floor, enum floor_who victim, struct floor_trace *f);

#endif
