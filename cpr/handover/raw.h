/* SPDX-License-Identifier: MIT */
/*
 * For children that share the address space (clone(CLONE_VM)): errno, stdio, every lock and what
 * sanitizers keep about stacks belong to the program itself, so they get along with system calls alone.
 */
#pragma once

#define RAW __attribute__((no_sanitize("address", "undefined"), no_stack_protector))

/* Returns what the kernel does: -errno for an error. */
RAW static inline long raw_syscall(long n, long a, long b, long c, long d, long e)
{
	long rc;
#if defined(__x86_64__)
	register long r10 __asm__("r10") = d;
	register long r8 __asm__("r8") = e;
	__asm__ volatile("syscall"
			 : "=a"(rc)
			 : "a"(n), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8)
			 : "rcx", "r11", "memory");
#else
#error "raw system calls of this architecture"
#endif
	return rc;
}
