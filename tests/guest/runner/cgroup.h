/* SPDX-License-Identifier: MIT */
/* A memory cgroup for molt, below the runner's own (v1) or beside it (v2), so that whatever limits the runner
 * limits molt too. */
#ifndef RUNNER_CGROUP_H
#define RUNNER_CGROUP_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct session;

/* Makes it. NULL, or why that is not possible here. */
const char *cgroup_make(void);
void cgroup_remove(void);

/* Moves this process in. 0 or -1. */
int cgroup_enter(void);

/* Lets the group have @room bytes more than it has now; -1: as much as it wants. */
int cgroup_limit(struct session *s, int64_t room);
/* The most that it has had since the last cgroup_limit, above what it had then; -1: not known. */
int64_t cgroup_peak(void);

#endif
