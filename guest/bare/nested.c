/* SPDX-License-Identifier: MIT */
/*
 * nested: runs a guest of its own with SVM, and checks what that does and what comes back: its sums, its registers and
 * the guest's own, interrupts that end its run, and that none comes while the global interrupt flag is clear. With and
 * without nested page tables, by turns. Host: 'q' ends. spin=N: steps of the inner guest until it tells.
 */
#include "nested.h"
#include "guest.h"

#define MSR_EFER     0xc0000080
#define MSR_VM_CR    0xc0010114
#define MSR_VM_HSAVE 0xc0010117
#define EFER_SVME    (1u << 12)
#define VECTOR	     0x40
#define CLEAR_US     1000 /* how long the flag stays clear, times slow= */

/* AMD APM 2, appendix B: offsets in the VMCB. */
enum {
	INTERCEPT_1 = 0x00c, /* INTR: bit 0 */
	INTERCEPT_2 = 0x010, /* VMRUN, VMMCALL: bits 0, 1 */
	ASID = 0x058,
	TLB_CONTROL = 0x05c,
	INT_CONTROL = 0x060,
	EXIT_CODE = 0x070,
	NESTED_CONTROL = 0x090,
	NESTED_CR3 = 0x0b0,
	SAVED = 0x400,
};
enum { EXIT_INTR = 0x60, EXIT_VMMCALL = 0x81 };

static uint8_t vmcb[4096] __attribute__((aligned(4096)));
static uint8_t host[4096] __attribute__((aligned(4096)));
static uint8_t host_save[4096] __attribute__((aligned(4096)));
static uint64_t regs[INNER_REGS];
static volatile uint64_t interrupts;

static volatile uint32_t *field32(unsigned offset)
{
	return (volatile uint32_t *)(vmcb + offset);
}
static volatile uint64_t *field(unsigned offset)
{
	return (volatile uint64_t *)(vmcb + offset);
}
#define RAX field(SAVED + 0x1f8)
#define RIP field(SAVED + 0x178)

static void segment(unsigned offset, uint16_t selector, uint16_t attributes)
{
	*field32(SAVED + offset) = selector | (uint32_t)attributes << 16;
	*field32(SAVED + offset + 4) = ~0u;
}

static void table(unsigned offset, bool idt)
{
	struct {
		uint16_t limit;
		uint64_t base;
	} __attribute__((packed)) t;
	if (idt)
		__asm__ volatile("sidt %0" : "=m"(t));
	else
		__asm__ volatile("sgdt %0" : "=m"(t));
	*field32(SAVED + offset + 4) = t.limit;
	*field(SAVED + offset + 8) = t.base;
}

/* The first GiB, mapped to itself, and for users, as nested tables must be. */
static uint64_t nested_tables(void)
{
	static uint64_t tables[3][512] __attribute__((aligned(4096)));
	tables[0][0] = (uint64_t)tables[1] | 7;
	tables[1][0] = (uint64_t)tables[2] | 7;
	for (uint64_t i = 0; i < 512; i++)
		tables[2][i] = i << 21 | 0x87;
	return (uint64_t)tables[0];
}

static void inner_make(void)
{
	*field32(INTERCEPT_1) = 1;
	*field32(INTERCEPT_2) = 3;
	*field32(ASID) = 1;
	*field32(INT_CONTROL) =
		1u << 24; /* interrupts are masked by this guest's flag, not the inner one's */
	*field(NESTED_CR3) = nested_tables();
	segment(0x00, SEL_KDATA, 0xc93);
	segment(0x10, SEL_KCODE, 0xa9b);
	segment(0x20, SEL_KDATA, 0xc93);
	segment(0x30, SEL_KDATA, 0xc93);
	table(0x60, false);
	table(0x80, true);
	*field(SAVED + 0x0d0) = rdmsr(MSR_EFER);
	*field(SAVED + 0x148) = read_cr4();
	*field(SAVED + 0x150) = read_cr3();
	*field(SAVED + 0x158) = read_cr0();
	*field(SAVED + 0x160) = 0x400;		       /* DR7 */
	*field(SAVED + 0x168) = 0xffff0ff0;	       /* DR6 */
	*field(SAVED + 0x170) = 2;		       /* RFLAGS */
	*field(SAVED + 0x268) = 0x0007040600070406ull; /* PAT */
	*RIP = (uint64_t)nested_inner;
	for (unsigned i = 0; i < INNER_REGS; i++)
		regs[i] = 0x1111111111111111ull * (i + 1);
	regs[INNER_RBX] = option_number("spin", 5000);
	regs[INNER_R12] = regs[INNER_R13] = 0;
	__asm__ volatile("vmsave %0" : : "a"((uint64_t)vmcb) : "memory"); /* FS, GS, LDTR, TR */
}

static void on_interrupt(struct trap_frame *frame)
{
	(void)frame;
	interrupts++;
	apic_eoi();
}

/* The flag is clear, as #VMEXIT has left it: for @us longer no interrupt comes. @seen: how many had come before
 * VMRUN. */
static void check_held(uint64_t seen, uint64_t us)
{
	for (uint64_t end = rdtsc() + us_to_tsc(us); rdtsc() < end;)
		cpu_pause();
	if (interrupts != seen)
		guest_fail("an interrupt has come with the global interrupt flag clear");
}

static void same(const char *name, uint64_t got, uint64_t want)
{
	if (got != want)
		guest_fail("%s is %lx, expected %lx", name, got, want);
}

static void check_inner(uint64_t told)
{
	uint64_t n = told * regs[INNER_RBX];
	same("the inner guest's count", regs[INNER_R12], n);
	same("its sum", regs[INNER_R13], n % 2 ? (n + 1) / 2 * n : n / 2 * (n + 1));
	same("its RAX", *RAX, told - 1);
	same("its RCX", regs[INNER_RCX], 0);
	for (unsigned i = 2; i < INNER_REGS; i++)
		if (i != INNER_R12 && i != INNER_R13)
			same("a register of it", regs[i], 0x1111111111111111ull * (i + 1));
}

static void check_own(uint64_t cr3, uint64_t vm_cr)
{
	same("CR3", read_cr3(), cr3);
	same("VM_HSAVE_PA", rdmsr(MSR_VM_HSAVE), (uint64_t)host_save);
	same("VM_CR", rdmsr(MSR_VM_CR), vm_cr);
	same("EFER.SVME", rdmsr(MSR_EFER) & EFER_SVME, EFER_SVME);
}

void guest_main(void)
{
	uint64_t told = 0, ended = 0, held = 0, slow = option_number("slow", 1);
	uint64_t cr3 = read_cr3(), vm_cr;

	if (!(cpuid(0x80000001, 0).ecx & 4))
		guest_fail("no SVM");
	bool npt = cpuid(0x8000000a, 0).edx & 1;
	wrmsr(MSR_EFER, rdmsr(MSR_EFER) | EFER_SVME);
	wrmsr(MSR_VM_HSAVE, (uint64_t)host_save);
	wrmsr_safe(MSR_VM_CR, 1 << 1); /* INIT is redirected, of which there is none */
	vm_cr = rdmsr(MSR_VM_CR);
	trap_set(VECTOR, on_interrupt);
	apic_timer_calibrate();
	inner_make();
	guest_printf("READY\n");
	while (serial_poll() != 'q') {
		uint64_t seen = interrupts, hold_us = 0;
		*field32(TLB_CONTROL) = 1;
		*field(NESTED_CONTROL) = npt && told % 2;
		apic_timer_start(VECTOR, (300 + told % 7 * 100) * slow);
		nested_run((uint64_t)vmcb, regs, (uint64_t)host);
		switch (*field(EXIT_CODE)) {
		case EXIT_INTR:
			if (++ended % 4 == 0 && ++held)
				hold_us = CLEAR_US * slow;
			break;
		case EXIT_VMMCALL:
			check_inner(++told);
			*RAX = told;
			*RIP += 3;
			break;
		default:
			guest_fail("exit %lx of the inner guest at %lx", *field(EXIT_CODE), *RIP);
		}
		check_held(seen, hold_us);
		stgi();
		while (*field(EXIT_CODE) == EXIT_INTR && interrupts == seen)
			cpu_pause(); /* the one that has waited comes now */
		irq_off();
		check_own(cr3, vm_cr);
	}
	guest_pass("nested rounds=%lu interrupted=%lu held=%lu npt=%d", told, ended, held, npt);
}
