/* SPDX-License-Identifier: MIT */
/* How a thread is scheduled, as its operator may have changed it: carried over an update. */
#pragma once

#include <pthread.h>
#include <sys/types.h>

#include "cpr/state/fields.h"

#define SCHED_AFFINITY_WORDS 16
#define SCHED_CGROUP_LEN     2036
#define SCHED_NICE_ZERO	     20 /* @nice is stored above it */

/* State: part of the program's node (its leader) and of each vCPU's. */
struct thread_sched {
	uint64_t affinity[SCHED_AFFINITY_WORDS]; /* bit mask of host CPUs, all zero: not known */
	uint32_t policy;			 /* SCHED_* */
	uint32_t priority;			 /* of real-time policies */
	uint32_t nice;				 /* SCHED_NICE_ZERO - 20 to + 19 */
	/* Lines of cgroups(7), /proc/PID/cgroup: of the leader all; of another thread those that differ. */
	char cgroup[SCHED_CGROUP_LEN];
};

/* Fields of the struct thread_sched that is member @m of state struct @S; its cgroups and nice value came with
 * version 2 of vCPUs, and all of it with version 2 of the program. */
#define SCHED_CPU_FIELDS(S, m)                                                                     \
	FIELD_ARRAY(S, m.affinity), FIELD_U(S, m.policy), FIELD_U(S, m.priority),                  \
		FIELD_U_SINCE(S, m.nice, 2, SCHED_NICE_ZERO), FIELD_STR_SINCE(S, m.cgroup, 2)
#define SCHED_PROGRAM_FIELDS(S, m)                                                                 \
	FIELD_ARRAY_SINCE(S, m.affinity, 2), FIELD_U_SINCE(S, m.policy, 2, 0),                     \
		FIELD_U_SINCE(S, m.priority, 2, 0), FIELD_U_SINCE(S, m.nice, 2, SCHED_NICE_ZERO),  \
		FIELD_STR_SINCE(S, m.cgroup, 2)

/* Reads thread @tid of this process. @leader: what its cgroups are compared with, NULL: nothing. */
void sched_read(struct thread_sched *s, pid_t tid, const struct thread_sched *leader);

/* Sets what differs of the calling thread; what cannot be set is told, with @what in front. @now: how it is. */
void sched_apply(const struct thread_sched *want, const struct thread_sched *now, const char *what);

/* Lowers the priority of the calling thread, and of those that it makes: the guest may want the same processors.
 * Only where it will be allowed to raise it again (sched(7), RLIMIT_NICE). */
void sched_step_back(void);
/* Takes that back for a moment: for a thread that the kernel makes now, and that stays. */
void sched_step_forward(bool forward);

/* The calling thread gets the processor when nobody else wants it (SCHED_IDLE); or, where it would not be allowed to
 * take that back, next to nothing of it. hurry: takes that back for @thread. */
void sched_idle(void);
void sched_hurry(pthread_t thread);

/* Puts the calling thread, or with @process this process, into the groups of @lines that it is not
 * in. */
int cgroup_join(const char *lines, const char *now, bool process);
