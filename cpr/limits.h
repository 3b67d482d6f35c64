/* SPDX-License-Identifier: MIT */
/*
 * Limits of this process that its next image would not fit into. They can be lowered at any time, and they
 * hold for the old program on its way back as well: so they are looked at before anything is paused.
 */
#ifndef MOLT_LIMITS_H
#define MOLT_LIMITS_H

#include <stddef.h>
#include <stdint.h>

struct error;
struct ram;

/* 0, or -ENOMEM with the limit, its value and what is needed. @ram: guest memory as it is mapped now. */
int limits_check(const struct ram *ram, struct error *err);

/* In the sandbox of preflight, before anything else: makes sure that this process is the one that the kernel
 * ends where memory is short. Maps @fd of @len bytes, whose pages are there already, many times over: that
 * takes the mappings' own descriptions, some 100 KiB with a small state. */
void limits_offer(int fd, size_t len);

/* In the sandbox of preflight, with the trial VM in place: has as much memory as an update takes, and gives
 * it back. Where a cgroup or the host has not, the kernel ends this process rather than the guest's.
 * 0 or -errno. */
int limits_try_room(uint32_t cpus, struct error *err);

#endif
