/* SPDX-License-Identifier: MIT */
/* What nested.c and nested.S share. */
#ifndef NESTED_H
#define NESTED_H

#define INNER_REGS 14 /* rbx rcx rdx rsi rdi rbp r8 to r15: VMRUN leaves them alone */
#define INNER_RBX  0
#define INNER_RCX  1
#define INNER_R12  10
#define INNER_R13  11

#ifndef __ASSEMBLER__
#include <stdint.h>

/* Runs the guest of @vmcb with @regs until #VMEXIT, which leaves the global interrupt flag clear. Interrupts are on
 * when it returns, and wait for that flag. @host: a page for FS to TR and what else VMRUN does not change back. */
void nested_run(uint64_t vmcb, uint64_t *regs, uint64_t host);

/* The guest in the guest: adds 1 to r12 and r12 to r13, rbx times, and tells with VMMCALL; again and again. */
void nested_inner(void);

static inline void stgi(void)
{
	__asm__ volatile("stgi" : : : "memory");
}
#endif

#endif
