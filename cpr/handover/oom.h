/* SPDX-License-Identifier: MIT */
/*
 * Who is ended first where memory is short: a process that does not have the guest, and shall not be missed. Of
 * oom_score_adj: Documentation/filesystems/proc.rst, 3.1. Children are made so before exec (spawn.c).
 */
#pragma once

struct error;

#define OOM_PATH  "/proc/self/oom_score_adj"
#define OOM_FIRST "1000" /* OOM_SCORE_ADJ_MAX */

/* Sets this process's oom_score_adj to its parent's, now that it has the guest. That needs no privilege: it is where
 * it came from. */
void oom_restore(void);

/* Is there room for what others will allocate because of this update? The incumbent, which has the guest, does when
 * it is greeted. The kernel does when @cpus vCPUs first run (page tables, filters), while those of the predecessor
 * are given back later. Where the limit of a cgroup is in the way, this process is ended here, and not one that has
 * the guest. -ENOMEM. */
int oom_probe(unsigned cpus, struct error *err);

/* Touches as much of the leader's stack as it will ever need: RLIMIT_STACK ends this process here, or never. */
void oom_probe_stack(void);
