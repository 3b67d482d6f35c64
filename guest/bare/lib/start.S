/* SPDX-License-Identifier: MIT */
/*
 * From the PVH entry (32-bit protected mode, paging off, ebx: hvm_start_info) to C in long mode, with
 * the first 4 GiB mapped to themselves and open to CPL3. Application processors join from their SIPI.
 */
#include "layout.h"

#define MSR_EFER 0xc0000080
#define EFER_SET 0x901		/* SCE, LME, NXE */
#define CR0_SET  0x80010033	/* PG, WP, NE, ET, MP, PE */
#define CR4_SET  0x620		/* PAE, OSFXSR, OSXMMEXCPT */

/* xen/include/public/elfnote.h: XEN_ELFNOTE_PHYS32_ENTRY */
	.section .note.pvh, "a", @note
	.balign 4
	.long 4, 4, 18
	.asciz "Xen"
	.long pvh_start

	.text
	.code32
	.globl pvh_start
pvh_start:
	cli
	cld
	movl %ebx, pvh_info
	movl $cpu_stacks + GUEST_STACK_LEN, %esp
	xorl %edi, %edi
enter_long_mode:		/* edi: CPU number, esp: its stack */
	movl $CR4_SET, %eax
	movl %eax, %cr4
	movl $boot_pml4, %eax
	movl %eax, %cr3
	movl $MSR_EFER, %ecx
	movl $EFER_SET, %eax
	xorl %edx, %edx
	wrmsr
	movl $CR0_SET, %eax
	movl %eax, %cr0
	lgdtl gdt_pointer
	ljmpl $SEL_KCODE, $start64

	.code64
start64:
	movl $SEL_KDATA, %eax
	movl %eax, %ds
	movl %eax, %es
	movl %eax, %ss
	xorl %eax, %eax
	movl %eax, %fs
	movl %eax, %gs
	movl %edi, %edi
	movl %esp, %esp
	call cpu_start		/* does not return */
1:	cli
	hlt
	jmp 1b

/* Copied to AP_PAGE: real mode, cs = AP_PAGE >> 4. */
	.section .rodata
	.code16
	.globl ap_trampoline, ap_trampoline_end
ap_trampoline:
	cli
	movw %cs, %ax
	movw %ax, %ds
	lgdtl ap_gdt_pointer - ap_trampoline
	movl $0x11, %eax
	movl %eax, %cr0
	ljmpl $SEL_KCODE32, $ap_start32
	.balign 4
ap_gdt_pointer:
	.word gdt_end - gdt - 1
	.long gdt
ap_trampoline_end:

	.text
	.code32
ap_start32:
	movl $SEL_KDATA, %eax
	movl %eax, %ds
	movl %eax, %es
	movl %eax, %ss
	movl ap_cpu, %edi
	movl %edi, %eax
	incl %eax
	imull $GUEST_STACK_LEN, %eax
	addl $cpu_stacks, %eax
	movl %eax, %esp
	jmp enter_long_mode

	.data
	.balign 16
	.globl gdt, gdt_pointer
gdt:
	.quad 0
	.quad 0x00cf9b000000ffff	/* 08 kernel code, 32 bits */
	.quad 0x00cf93000000ffff	/* 10 kernel data */
	.quad 0x00af9b000000ffff	/* 18 kernel code */
	.quad 0x00cff3000000ffff	/* 20 user data */
	.quad 0x00affb000000ffff	/* 28 user code */
	.fill 2 + 2 * GUEST_MAX_CPUS, 8, 0	/* 30 LDT, 40 TSS of each CPU: filled in by C */
gdt_end:
gdt_pointer:
	.word gdt_end - gdt - 1
	.quad gdt

/* Present, writable, user; the top GiB, where devices live, uncached. */
	.balign 4096
	.globl boot_pml4, boot_pdpt, boot_pd
boot_pml4:
	.quad boot_pdpt + 7
	.fill 511, 8, 0
boot_pdpt:
	.quad boot_pd + 7, boot_pd + 0x1007, boot_pd + 0x2007, boot_pd + 0x3007
	.fill 508, 8, 0
boot_pd:
	.set page, 0x87
	.rept 1536
	.quad page
	.set page, page + 0x200000
	.endr
	.set page, page + 0x18
	.rept 512
	.quad page
	.set page, page + 0x200000
	.endr

	.bss
	.balign 16
	.globl cpu_stacks, pvh_info, ap_cpu
cpu_stacks:
	.skip GUEST_MAX_CPUS * GUEST_STACK_LEN
pvh_info:
	.skip 8
ap_cpu:
	.skip 4

	.section .note.GNU-stack, "", @progbits
