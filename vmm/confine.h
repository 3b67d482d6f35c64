/* SPDX-License-Identifier: MIT */
/*
 * System calls that the threads of a running guest may make: a seccomp filter on each thread that
 * works on what the guest hands over. The leader has none: filters survive exec, which it does at an
 * update. Which calls: vmm/confine_table.c and the architecture's confine.c.
 */
#pragma once

#include "vmm/base/base.h"

enum confine_mode {
	CONFINE_KILL, /* a call that is not allowed is named, and the guest ends: status 159 */
	CONFINE_LOG,  /* it is named and made all the same, to find out what a thread needs */
	CONFINE_OFF,
};

enum confine_thread { CONFINE_VCPU, CONFINE_LOOP, CONFINE_CONTROL, CONFINE_THREADS };

/* What --sandbox says. A sanitizer's report needs calls that no filter could foresee. */
#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define CONFINE_SANITIZED
#endif
#elif defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define CONFINE_SANITIZED
#endif
#ifdef CONFINE_SANITIZED
#define CONFINE_DEFAULT "log"
#else
#define CONFINE_DEFAULT "kill"
#endif

/* Before there are other threads. Catches SIGSYS in every mode, since a filter may have been put on
 * molt from outside; whoever caught it before still gets what ends the program. Unless
 * @mode is CONFINE_OFF this process and all it becomes gain no privileges by exec from now on. */
int confine_init(enum confine_mode mode, struct error *err);

/* The calling thread puts its filter on, for good. Nothing in mode CONFINE_OFF. */
int confine_enter(enum confine_thread thread, struct error *err);
