/* SPDX-License-Identifier: MIT */
/*
 * uint64_t legacy_run(unsigned how): from long mode to one that `how` says, waits there for a byte of the console,
 * and comes back. Returns what was wrong with two registers: 0.
 */
#include "layout.h"
#include "states.h"

#define MSR_EFER 0xc0000080
#define EFER_LME 0x100
#define CR0_PE	 1
#define CR0_PG	 0x80000000
#define SEL_L32	 0x20
#define SEL_L16	 0x28
#define MAGIC	 0x5a17c0de

	.text
	.code64
	.globl legacy_run
legacy_run:
	pushq %rbx
	pushq %rbp
	pushq %r12
	pushq %r13
	pushq %r14
	pushq %r15
	pushfq
	cli
	movq %rsp, saved_rsp
	lgdt legacy_gdt_pointer
	pushq $SEL_KCODE32
	pushq $compat
	lretq

	.code32
compat:
	movl $SEL_KDATA, %eax
	movl %eax, %ds
	movl %eax, %es
	movl %eax, %ss
	movl %cr0, %eax
	andl $~CR0_PG, %eax
	movl %eax, %cr0
	testl $LEGACY_LME, %edi
	jnz 1f
	movl $MSR_EFER, %ecx
	rdmsr
	andl $~EFER_LME, %eax
	wrmsr
1:	testl $LEGACY_PAE, %edi
	jz 2f
	movl $pae_pdpt, %eax
	movl %eax, %cr3
	movl %cr0, %eax
	orl $CR0_PG, %eax
	movl %eax, %cr0
2:	movl $MAGIC, %ebx
	movl $~MAGIC, %ebp
	testl $LEGACY_REAL, %edi
	jnz 3f
	testl $LEGACY_L, %edi
	jz poll
	ljmpl $SEL_L32, $poll
3:	ljmpl $SEL_L16, $0

poll:
	movl $0x3fd, %edx
	inb %dx, %al
	testb $1, %al
	jz poll
	movl $0x3f8, %edx
	inb %dx, %al
	ljmpl $SEL_KCODE32, $back
	.globl legacy_back
legacy_back:
back:
	movl $SEL_KDATA, %eax
	movl %eax, %ds
	movl %eax, %es
	movl %eax, %ss
	movl %cr0, %eax
	andl $~CR0_PG, %eax
	movl %eax, %cr0
	movl $MSR_EFER, %ecx
	rdmsr
	orl $EFER_LME, %eax
	wrmsr
	movl $boot_pml4, %eax
	movl %eax, %cr3
	movl %cr0, %eax
	orl $CR0_PG, %eax
	movl %eax, %cr0
	ljmpl $SEL_KCODE, $back64

	.code64
back64:
	lgdt gdt_pointer
	movl $SEL_KDATA, %eax
	movl %eax, %ds
	movl %eax, %es
	movl %eax, %ss
	movq saved_rsp, %rsp
	xorl $MAGIC, %ebx
	xorl $~MAGIC, %ebp
	movl %ebx, %eax
	orl %ebp, %eax
	popfq
	popq %r15
	popq %r14
	popq %r13
	popq %r12
	popq %rbp
	popq %rbx
	ret

/* Copied to LEGACY_PAGE, where SEL_L16 begins. */
	.section .rodata
	.code16
	.globl real_code, real_code_end
real_code:
	movl %cr0, %eax
	andl $~CR0_PE, %eax
	movl %eax, %cr0
1:	movw $0x3fd, %dx
	inb %dx, %al
	testb $1, %al
	jz 1b
	movw $0x3f8, %dx
	inb %dx, %al
	movl %cr0, %eax
	orl $CR0_PE, %eax
	movl %eax, %cr0
	ljmpl $SEL_KCODE32, $legacy_back
real_code_end:

	.data
	.balign 16
legacy_gdt:
	.quad 0
	.quad 0x00cf9b000000ffff	/* 08 code, 32 bits */
	.quad 0x00cf93000000ffff	/* 10 data */
	.quad 0x00af9b000000ffff	/* 18 code, 64 bits */
	.quad 0x00ef9b000000ffff	/* 20 code, 32 bits, and L */
	.quad 0x00209b000000ffff + (LEGACY_PAGE << 16)	/* 28 code, 16 bits, and L */
legacy_gdt_end:
legacy_gdt_pointer:
	.word legacy_gdt_end - legacy_gdt - 1
	.quad legacy_gdt
	.balign 32
pae_pdpt:
	.quad boot_pd + 0x0001, boot_pd + 0x1001, boot_pd + 0x2001, boot_pd + 0x3001

	.bss
	.balign 8
saved_rsp:
	.skip 8

	.section .note.GNU-stack, "", @progbits
