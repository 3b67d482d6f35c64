/* SPDX-License-Identifier: MIT */
/* A seccomp filter on each thread that works on what the guest hands over; the calls are in table.c
 * and the architecture's seccomp.c. The leader has none: filters survive exec. */
#pragma once

#include "vmm/base/base.h"

enum seccomp_mode {
	SECCOMP_KILL, /* a call that is not allowed is named, and the guest ends: status 159 */
	SECCOMP_LOG,  /* it is named and made all the same, to find out what a thread needs */
	SECCOMP_OFF,
};

enum seccomp_thread { SECCOMP_VCPU, SECCOMP_LOOP, SECCOMP_CONTROL, SECCOMP_DISK, SECCOMP_THREADS };

/* What --sandbox says. A sanitizer's report needs calls that no filter could foresee. */
#ifdef MOLT_SANITIZED
#define SECCOMP_DEFAULT "log"
#else
#define SECCOMP_DEFAULT "kill"
#endif

/* Before there are other threads. Catches SIGSYS in every mode, since a filter may have been put on
 * molt from outside. Unless @mode is SECCOMP_OFF nobody gains privileges by exec from now on. */
int seccomp_init(enum seccomp_mode mode, struct error *err);

/* Before there are other threads: an ioctl that this machine's devices make from vCPUs and the event loop, and most
 * machines' do not. */
void seccomp_allow_ioctl(unsigned long request);

/* The calling thread puts its filter on, for good. Nothing in mode SECCOMP_OFF. */
int seccomp_enter(enum seccomp_thread thread, struct error *err);
