/* SPDX-License-Identifier: MIT */
/* The rows that filters are made of, and what makes and explains filters. For confine*.c, the
 * architecture's confine.c and their test. */
#pragma once

#include <linux/filter.h>
#include <sys/syscall.h>

#include "vmm/confine.h"

/* One call that is allowed, perhaps only where an argument is right. A call may have several rows.
 * Only the low 32 bits of the argument are looked at: all that the kernel uses of those tested here. */
struct confine_row {
	uint16_t nr;
	uint8_t arg;
	enum { CONFINE_ANY, CONFINE_IS, CONFINE_LACKS, CONFINE_IS_PID, CONFINE_IS_TID } test;
	uint32_t value;
};

#define CONFINE_CALL(name)                                                                         \
	{                                                                                          \
		SYS_##name, 0, CONFINE_ANY, 0                                                      \
	}
#define CONFINE_CALL_IS(name, arg, v)                                                              \
	{                                                                                          \
		SYS_##name, arg, CONFINE_IS, (uint32_t)(v)                                         \
	}
#define CONFINE_CALL_LACKS(name, arg, v)                                                           \
	{                                                                                          \
		SYS_##name, arg, CONFINE_LACKS, (uint32_t)(v)                                      \
	}
#define CONFINE_IOCTL(request) CONFINE_CALL_IS(ioctl, 1, request)

struct confine_rows {
	const struct confine_row *row;
	unsigned n;
};
#define CONFINE_ROWS(array)                                                                        \
	{                                                                                          \
		array, ARRAY_LEN(array)                                                            \
	}

#define CONFINE_MAX_ROWS 192
#define CONFINE_MAX_CODE 512

/* Copies all rows of @thread to @out, which has room for CONFINE_MAX_ROWS. Returns how many. */
unsigned confine_rows(enum confine_thread thread, struct confine_row *out);

/* What is not known before the thread runs. */
struct confine_env {
	uint32_t pid, tid;
	uintptr_t pass; /* a call whose return address this is, is allowed; 0: none is */
};

/* Writes the filter for @rows, which it sorts by number: those of one call keep their order. Returns
 * the number of instructions, or 0: more than @room. */
unsigned confine_compile(struct confine_row *rows, unsigned n, const struct confine_env *env,
			 struct sock_filter *out, unsigned room);

/* "openat", or "?". Async-signal-safe. */
const char *confine_call_name(long nr);

/* ---- the architecture's part (vmm/arch/<arch>/confine.c) ---- */

extern const uint32_t arch_confine_audit;			     /* AUDIT_ARCH_... */
extern const struct confine_rows arch_confine_rows[CONFINE_THREADS]; /* calls only it has */

/* Of the ucontext of a SIGSYS: the six arguments; what the call is to return. */
void arch_confine_args(const void *ucontext, long args[6]);
void arch_confine_return(void *ucontext, long value);

/* Makes a system call; returns what the kernel returned. _pass: the address it returns to. */
long arch_confine_call(long nr, const long args[6]);
uintptr_t arch_confine_pass(void);
