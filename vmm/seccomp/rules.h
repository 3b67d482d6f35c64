/* SPDX-License-Identifier: MIT */
/* The rows that filters are made of, and what makes them. Inside vmm/seccomp/, for the architecture
 * and for their test. */
#pragma once

#include <linux/filter.h>
#include <sys/syscall.h>

#include "vmm/seccomp/seccomp.h"

/* One call that is allowed, perhaps only where an argument is right. A call may have several rows.
 * Only the low 32 bits of the argument are looked at: all that the kernel uses of those tested here. */
struct seccomp_row {
	uint16_t nr;
	uint8_t arg;
	enum { SECCOMP_ANY, SECCOMP_IS, SECCOMP_LACKS, SECCOMP_IS_PID, SECCOMP_IS_TID } test;
	uint32_t value;
};

/* The names of some calls are macros of the C library: each is pasted before it could be
 * expanded. */
#define SECCOMP_ROW(nr, arg, test, v)	 ((struct seccomp_row){nr, arg, test, (uint32_t)(v)})
#define SECCOMP_CALL(name)		 SECCOMP_ROW(SYS_##name, 0, SECCOMP_ANY, 0)
#define SECCOMP_CALL_IS(name, arg, v)	 SECCOMP_ROW(SYS_##name, arg, SECCOMP_IS, v)
#define SECCOMP_CALL_LACKS(name, arg, v) SECCOMP_ROW(SYS_##name, arg, SECCOMP_LACKS, v)
#define SECCOMP_IOCTL(request)		 SECCOMP_CALL_IS(ioctl, 1, request)

struct seccomp_rows {
	const struct seccomp_row *row;
	unsigned n;
};
#define SECCOMP_ROWS(array) ((struct seccomp_rows){array, ARRAY_LEN(array)})

#define SECCOMP_MAX_ROWS 192
#define SECCOMP_MAX_CODE 512

/* Copies all rows of @thread to @out, which has room for SECCOMP_MAX_ROWS. Returns how many. */
unsigned seccomp_rows(enum seccomp_thread thread, struct seccomp_row *out);

/* What is not known before the thread runs. */
struct seccomp_env {
	uint32_t pid, tid;
	uintptr_t pass; /* a call whose return address this is, is allowed; 0: none is */
};

/* Writes the filter for @rows, which it sorts by number. Returns its length, or 0: more than
 * @room. */
unsigned seccomp_compile(struct seccomp_row *rows, unsigned n, const struct seccomp_env *env,
			 struct sock_filter *out, unsigned room);
const char *seccomp_call_name(long nr);

/* ---- the architecture's part (vmm/arch/<arch>/seccomp.c) ---- */

extern const uint32_t arch_seccomp_audit;			     /* AUDIT_ARCH_... */
extern const struct seccomp_rows arch_seccomp_rows[SECCOMP_THREADS]; /* calls only it has */

/* Of the ucontext of a SIGSYS: the six arguments; what the call is to return. */
void arch_seccomp_args(const void *ucontext, long args[6]);
void arch_seccomp_return(void *ucontext, long value);

/* Makes a system call; returns what the kernel returned. _pass: the address it returns to. */
long arch_seccomp_call(long nr, const long args[6]);
uintptr_t arch_seccomp_pass(void);
