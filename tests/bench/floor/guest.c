/* SPDX-License-Identifier: MIT */
/* The guest: page tables that map 1 GiB to itself, open to CPL3, and a loop that watches the TSC. */
#include <string.h>

#include "floor.h"

enum { PML4 = 0x1000, PDPT = 0x2000, REPORT = 0x3000, CODE = 0x4000, PD = 0x5000, STACK = 0x8000 };

#define PTE_PRESENT_WRITE_USER 7ull
#define PTE_LARGE	       0x80ull

extern const char guest_code[], guest_code_end[];
__asm__(".pushsection .rodata\n"
	".globl guest_code, guest_code_end\n"
	"guest_code:\n"
	"1:	rdtsc\n"
	"	shl $32, %rdx\n"
	"	or %rdx, %rax\n"
	"	mov %rax, %rcx\n"
	"	sub 8(%rdi), %rcx\n" /* since the last reading */
	"	mov %rax, 8(%rdi)\n"
	"	cmp 16(%rdi), %rcx\n"
	"	jbe 2f\n"
	"	mov %rcx, 16(%rdi)\n"
	"2:	incq (%rdi)\n"
	"	jmp 1b\n"
	"guest_code_end:\n"
	".popsection\n");

struct guest_report *guest_report(uint8_t *ram)
{
	return (struct guest_report *)(ram + REPORT);
}

/* Flat 64-bit segments at CPL3 (SDM 3A 3.4.5). */
static struct kvm_segment segment(uint16_t selector, uint8_t type, bool code)
{
	return (struct kvm_segment){.limit = 0xffffffff,
				    .selector = selector,
				    .type = type,
				    .present = 1,
				    .dpl = 3,
				    .db = !code,
				    .s = 1,
				    .l = code,
				    .g = 1};
}

void guest_boot(uint8_t *ram, struct kvm_sregs2 *sregs, struct kvm_regs *regs)
{
	uint64_t *pd = (uint64_t *)(ram + PD);

	*(uint64_t *)(ram + PML4) = PDPT | PTE_PRESENT_WRITE_USER;
	*(uint64_t *)(ram + PDPT) = PD | PTE_PRESENT_WRITE_USER;
	for (uint64_t i = 0; i < 512; i++)
		pd[i] = i << 21 | PTE_PRESENT_WRITE_USER | PTE_LARGE;
	memcpy(ram + CODE, guest_code, (size_t)(guest_code_end - guest_code));

	sregs->cs = segment(0x33, 11, true);
	sregs->ss = sregs->ds = sregs->es = sregs->fs = sregs->gs = segment(0x2b, 3, false);
	sregs->cr3 = PML4;
	sregs->cr4 = 0x620;	 /* PAE, OSFXSR, OSXMMEXCPT */
	sregs->cr0 = 0x80050033; /* PG, AM, WP, NE, ET, MP, PE */
	sregs->efer = 0x501;	 /* SCE, LME, LMA */
	*regs = (struct kvm_regs){.rip = CODE, .rdi = REPORT, .rsp = STACK, .rflags = 2};
}
