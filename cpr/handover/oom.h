/* SPDX-License-Identifier: MIT */
/*
 * Who is ended first where memory is short: a process that does not have the guest, and shall not be missed. Of
 * oom_score_adj: Documentation/filesystems/proc.rst, 3.1. Children are made so before exec (spawn.c).
 */
#pragma once

struct error;

#define OOM_PATH  "/proc/self/oom_score_adj"
#define OOM_FIRST "1000" /* OOM_SCORE_ADJ_MAX */

/* As this process's parent is: it has the guest now. Nobody needs a privilege to go back to what it came from. */
void oom_restore(void);

/* Whether there is room for what this update makes others take: the incumbent, which has the guest, once it is greeted; the
 * kernel for @cpus vCPUs once they run, for page tables of the guest and filters, as the predecessor's are given back only
 * later. Where a cgroup's limit is in the way, this process ends here, and not one with the guest. -ENOMEM. */
int oom_probe(unsigned cpus, struct error *err);

/* Touches as much of the leader's stack as it will ever need: RLIMIT_STACK ends this process here, or never. */
void oom_probe_stack(void);
