/* SPDX-License-Identifier: MIT */
/*
 * What a new program may not do in its preflight. It has the same user and file system as the running
 * one, so that the two can be kept apart only by what it may ask of the kernel: it cannot signal, trace or
 * change another process, write, make, remove or rename a file, open a socket, start a process, or outlive
 * its time. It can read files (its libraries), have memory, and use the descriptors it was given.
 *
 * Against mistakes and wrong programs, not against an enemy: who may replace the program's file gets the
 * guest anyway.
 */
#ifndef MOLT_SANDBOX_H
#define MOLT_SANDBOX_H

/* Written and read by that process itself: ended before all others where memory is short. */
#define SANDBOX_OOM_FILE  "/proc/self/oom_score_adj"
#define SANDBOX_OOM_FIRST "1000"

struct sandbox {
	unsigned cpu_s;	  /* CPU time, seconds */
	unsigned files;	  /* open descriptors */
	int parent;	  /* process id: ends with this one */
	const char *step; /* out: what failed */
};

/* In the child, between clone(CLONE_VM | CLONE_VFORK) and exec, on a stack with 16 KiB of room: a session of
 * its own, limits, no new privileges, filter. The last may be undone by nobody. 0 or -errno. */
long sandbox_enter(struct sandbox *s);

#endif
