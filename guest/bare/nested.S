/* SPDX-License-Identifier: MIT */
/* VMRUN: AMD APM 2, 15.5; rax is the VMCB's address for all four instructions. */
#include "nested.h"

	.macro each op
	\op rbx, 0
	\op rcx, 1
	\op rdx, 2
	\op rsi, 3
	\op rdi, 4
	\op rbp, 5
	\op r8, 6
	\op r9, 7
	\op r10, 8
	\op r11, 9
	\op r12, 10
	\op r13, 11
	\op r14, 12
	\op r15, 13
	.endm
	.macro get reg, n
	movq inner_regs + 8 * \n, %\reg
	.endm
	.macro put reg, n
	movq %\reg, inner_regs + 8 * \n
	.endm

	.text
	.globl nested_run
nested_run:			/* rdi: VMCB, rsi: registers, rdx: host's page */
	pushq %rbx
	pushq %rbp
	pushq %r12
	pushq %r13
	pushq %r14
	pushq %r15
	pushq %rsi
	pushq %rdx
	movq %rdi, inner_vmcb
	leaq inner_regs, %rdi
	movl $INNER_REGS, %ecx
	rep movsq
	clgi
	sti			/* as it is at VMRUN, interrupts may end the guest's run */
	movq (%rsp), %rax
	vmsave %rax
	movq inner_vmcb, %rax
	vmload %rax
	each get
	vmrun %rax
	vmsave %rax
	each put
	movq (%rsp), %rax
	vmload %rax
	popq %rdx
	popq %rdi
	leaq inner_regs, %rsi
	movl $INNER_REGS, %ecx
	rep movsq
	popq %r15
	popq %r14
	popq %r13
	popq %r12
	popq %rbp
	popq %rbx
	ret

	.globl nested_inner
nested_inner:
	movq %rbx, %rcx
1:	addq $1, %r12
	addq %r12, %r13
	decq %rcx
	jnz 1b
	vmmcall
	jmp nested_inner

	.bss
	.balign 8
inner_vmcb:
	.skip 8
inner_regs:
	.skip 8 * INNER_REGS
