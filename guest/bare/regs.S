/* SPDX-License-Identifier: MIT */
#include "regs.h"

	.macro for_each_high op
	.irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
	\op \n
	.endr
	.endm
	.macro high_load n
	vinsertf128 $1, REGS_HIGH - REGS_GPR + 16 * \n(%rsp), %ymm\n, %ymm\n
	.endm
	.macro high_store n
	vextractf128 $1, %ymm\n, REGS_GOT_HIGH - REGS_GPR + 16 * \n(%rsp)
	.endm
	.macro gpr op, at
	\op rax, \at, 0
	\op rbx, \at, 1
	\op rdx, \at, 3
	\op rsi, \at, 4
	\op rdi, \at, 5
	\op rbp, \at, 6
	\op r8, \at, 8
	\op r9, \at, 9
	\op r10, \at, 10
	\op r11, \at, 11
	\op r12, \at, 12
	\op r13, \at, 13
	\op r14, \at, 14
	\op r15, \at, 15
	\op rcx, \at, 2
	.endm
	.macro gpr_load reg, at, n
	movq \at - REGS_GPR + 8 * \n(%rsp), %\reg
	.endm
	.macro gpr_store reg, at, n
	movq %\reg, \at - REGS_GPR + 8 * \n(%rsp)
	.endm

	.text
	.globl regs_spin
regs_spin:
	pushq %rbx
	pushq %rbp
	pushq %r12
	pushq %r13
	pushq %r14
	pushq %r15
	movq %rsp, REGS_STACK(%rdi)
	leaq REGS_GPR(%rdi), %rsp
	fxrstor64 REGS_FX - REGS_GPR(%rsp)
	cmpq $0, REGS_AVX - REGS_GPR(%rsp)
	je 1f
	for_each_high high_load
1:	leaq REGS_FLAGS - REGS_GPR(%rsp), %rsp
	popfq				/* rsp is at REGS_GPR again; no flag changes from here */
	gpr gpr_load, REGS_GPR
2:	leaq -1(%rcx), %rcx
	jecxz 3f
	jmp 2b
3:	gpr gpr_store, REGS_GOT
	movq %rsp, REGS_GOT - REGS_GPR + 8 * REGS_RSP(%rsp)
	pushfq				/* to REGS_FLAGS */
	cld
	leaq REGS_GPR - REGS_FLAGS(%rsp), %rsp
	fxsave64 REGS_GOT_FX - REGS_GPR(%rsp)
	cmpq $0, REGS_AVX - REGS_GPR(%rsp)
	je 4f
	for_each_high high_store
	vzeroupper
4:	movq REGS_STACK - REGS_GPR(%rsp), %rsp
	popq %r15
	popq %r14
	popq %r13
	popq %r12
	popq %rbp
	popq %rbx
	ret

	.section .note.GNU-stack, "", @progbits
