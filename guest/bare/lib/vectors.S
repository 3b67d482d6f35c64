/* SPDX-License-Identifier: MIT */
/* 256 interrupt entries of 16 bytes each, and the way to CPL3 and back. */
#include "layout.h"

	.text
	.code64
	.balign 16
	.globl trap_entries
trap_entries:
	.set vector, 0
	.rept 256
	.balign 16
	/* Vectors with an error code: SDM vol. 3, table 6-1. */
	.if !(vector == 8 || (vector >= 10 && vector <= 14) || vector == 17 || vector == 21)
	pushq $0
	.endif
	pushq $vector
	jmp trap_common
	.set vector, vector + 1
	.endr

	.balign 16
trap_common:
	pushq %rax
	pushq %rcx
	pushq %rdx
	pushq %rbx
	pushq %rbp
	pushq %rsi
	pushq %rdi
	pushq %r8
	pushq %r9
	pushq %r10
	pushq %r11
	pushq %r12
	pushq %r13
	pushq %r14
	pushq %r15
	cld
	movq %rsp, %rdi
	call trap_handle
	popq %r15
	popq %r14
	popq %r13
	popq %r12
	popq %r11
	popq %r10
	popq %r9
	popq %r8
	popq %rdi
	popq %rsi
	popq %rbp
	popq %rbx
	popq %rdx
	popq %rcx
	popq %rax
	addq $16, %rsp
	iretq

/*
 * uint64_t user_enter(fn, arg, user_stack, void *rsp0): calls fn(arg) at CPL3. The seven pushes leave
 * rsp a multiple of 16, so that an interrupt taken at CPL3 starts its frame exactly there. fn returns
 * to user_exit, whose #UD trap_handle turns into a jump to user_return (software implementations of
 * KVM know no INT n in protected mode).
 */
	.globl user_enter
user_enter:
	pushq %rbx
	pushq %rbp
	pushq %r12
	pushq %r13
	pushq %r14
	pushq %r15
	pushfq
	movq %rsp, (%rcx)
	leaq user_exit(%rip), %rax
	movq %rax, -8(%rdx)
	subq $8, %rdx
	pushq $SEL_UDATA
	pushq %rdx
	pushq $0x202
	pushq $SEL_UCODE
	pushq %rdi
	movq %rsi, %rdi
	iretq

	.globl user_exit, user_return
user_exit:			/* CPL3: fn's return address */
	ud2

user_return:			/* CPL0, rsp: rsp0, rax: fn's result */
	popfq
	popq %r15
	popq %r14
	popq %r13
	popq %r12
	popq %rbp
	popq %rbx
	ret

	.section .note.GNU-stack, "", @progbits
