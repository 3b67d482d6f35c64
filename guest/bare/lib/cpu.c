/* SPDX-License-Identifier: MIT */
/* Start of each CPU, traps, CPL3, application processors. */
#include "guest.h"

extern uint8_t trap_entries[], user_exit[], user_return[], ap_trampoline[], ap_trampoline_end[];
extern uint64_t gdt[];
extern volatile uint32_t ap_cpu;
uint64_t user_enter(uint64_t (*fn)(void *), void *arg, void *stack, void *rsp0);
void trap_handle(struct trap_frame *frame);
void cpu_start(unsigned cpu) __attribute__((noreturn));
void option_init(void);

/* 64-bit TSS: SDM vol. 3, figure 8-11. */
struct tss {
	uint32_t reserved;
	uint32_t rsp0[2];
	uint32_t rest[22];
	uint32_t iomap; /* offset in the high half */
};
_Static_assert(sizeof(struct tss) == 104, "TSS");

static struct tss tss[GUEST_MAX_CPUS];
static struct {
	uint64_t lo, hi;
} idt[256];
static trap_fn *handlers[256];
static uint8_t user_stacks[GUEST_MAX_CPUS][GUEST_STACK_LEN] __attribute__((aligned(16)));
static void (*volatile ap_fn[GUEST_MAX_CPUS])(unsigned);
static volatile uint64_t ap_running[GUEST_MAX_CPUS];
static uint64_t volatile fault_resume[GUEST_MAX_CPUS]; /* where a #GP continues, 0: nowhere */

unsigned guest_cpus;
uint64_t tsc_khz;

unsigned cpu_index(void)
{
	uint32_t tr;

	__asm__ volatile("str %0" : "=r"(tr));
	return (tr - SEL_TSS) / 16;
}

void trap_set(uint8_t vector, trap_fn *fn)
{
	handlers[vector] = fn;
}

void trap_handle(struct trap_frame *frame)
{
	unsigned cpu = cpu_index();

	if (frame->vector == 6 && frame->rip == (uint64_t)user_exit) {
		frame->rip = (uint64_t)user_return;
		frame->cs = SEL_KCODE;
		frame->ss = SEL_KDATA;
		frame->rsp = tss[cpu].rsp0[0];
		frame->rflags = 2;
		return;
	}
	if (handlers[frame->vector]) {
		handlers[frame->vector](frame);
		return;
	}
	if (frame->vector == 13 && fault_resume[cpu]) {
		frame->rip = fault_resume[cpu];
		frame->rax = frame->rdx = 0;
		fault_resume[cpu] = 0;
		return;
	}
	guest_fail("cpu %u: unexpected vector %lu error %lx rip %lx cs %lx cr2 %lx", cpu,
		   frame->vector, frame->error, frame->rip, frame->cs, read_cr2());
}

/* Local labels by number: the resume point is right after the instruction. */
#define SAFE(instruction, ...)                                                                     \
	__asm__ volatile("leaq 1f(%%rip), %%r8\n\tmovq %%r8, (%%rdi)\n\t" instruction "\n1:"       \
			 : __VA_ARGS__                                                             \
			 : "r8", "memory")

bool rdmsr_safe(uint32_t msr, uint64_t *v)
{
	unsigned cpu = cpu_index();
	uint32_t lo, hi;

	SAFE("rdmsr", "=a"(lo), "=d"(hi) : "c"(msr), "D"(&fault_resume[cpu]));
	*v = (uint64_t)hi << 32 | lo;
	bool ok = fault_resume[cpu];
	fault_resume[cpu] = 0;
	return ok;
}

bool wrmsr_safe(uint32_t msr, uint64_t v)
{
	unsigned cpu = cpu_index();
	uint32_t lo = (uint32_t)v, hi = (uint32_t)(v >> 32);

	SAFE("wrmsr", "+a"(lo), "+d"(hi) : "c"(msr), "D"(&fault_resume[cpu]));
	bool ok = fault_resume[cpu];
	fault_resume[cpu] = 0;
	return ok;
}

uint64_t user_call(uint64_t (*fn)(void *arg), void *arg)
{
	unsigned cpu = cpu_index();

	return user_enter(fn, arg, user_stacks[cpu] + GUEST_STACK_LEN, tss[cpu].rsp0);
}

uint64_t user_wait_flag(void *wait)
{
	const struct user_wait *w = wait;

	while (!*w->flag)
		if (rdtsc() >= w->until)
			return *w->flag != 0;
	return 1;
}

bool wait_flag(volatile uint64_t *flag, uint64_t us)
{
	struct user_wait w = {flag, rdtsc() + us_to_tsc(us)};

	return user_call(user_wait_flag, &w);
}

void cpu_boot_async(unsigned cpu, void (*fn)(unsigned cpu))
{
	uint8_t *page = (uint8_t *)(uintptr_t)AP_PAGE;

	__asm__("" : "+r"(page)); /* a constant address is no object the compiler knows */
	memcpy(page, ap_trampoline, (size_t)(ap_trampoline_end - ap_trampoline));
	ap_cpu = cpu;
	ap_fn[cpu] = fn;
	ap_running[cpu] = 0;
	apic_ipi(cpu, ICR_INIT);
	apic_ipi(cpu, ICR_SIPI | AP_PAGE >> 12);
}

void cpu_boot(unsigned cpu, void (*fn)(unsigned cpu))
{
	cpu_boot_async(cpu, fn);
	if (!wait_flag(&ap_running[cpu], 5000000))
		guest_fail("cpu %u does not start", cpu);
}

static void spurious(struct trap_frame *frame)
{
	(void)frame;
}

static void cpu_load_tables(unsigned cpu)
{
	uint64_t base = (uint64_t)&tss[cpu];
	uint64_t *desc = &gdt[SEL_TSS / 8 + 2 * cpu];
	struct {
		uint16_t limit;
		uint64_t base;
	} __attribute__((packed)) pointer = {sizeof(idt) - 1, (uint64_t)idt};

	tss[cpu].iomap = (uint32_t)sizeof(struct tss) << 16; /* beyond the limit: none */
	desc[0] = (sizeof(struct tss) - 1) | (base & 0xffffff) << 16 | 0x89ull << 40 |
		  (base >> 24 & 0xff) << 56;
	desc[1] = base >> 32;
	__asm__ volatile("ltr %w0" : : "r"(SEL_TSS + 16 * cpu));
	__asm__ volatile("lidt %0" : : "m"(pointer));
}

static void guest_init(void)
{
	for (unsigned i = 0; i < 256; i++) {
		uint64_t entry = (uint64_t)trap_entries + 16 * i;
		/* Interrupt gates; #BP, #OF and a test vector may be used from CPL3. */
		uint64_t type = i == 3 || i == 4 || i == VEC_USER_INT ? 0xee : 0x8e;
		idt[i].lo = (entry & 0xffff) | (uint64_t)SEL_KCODE << 16 | type << 40 |
			    (entry >> 16 & 0xffff) << 48;
		idt[i].hi = entry >> 32;
	}
	trap_set(255, spurious);
	option_init();
	guest_cpus = (unsigned)option_number("cpus", 1);
	tsc_khz = option_number("tsc_khz", 0);
	if (!tsc_khz)
		tsc_khz = cpuid(0x40000010, 0).eax;
	if (!tsc_khz)
		guest_fail("TSC rate unknown: pass tsc_khz=");
	if (guest_cpus > GUEST_MAX_CPUS)
		guest_fail("too many cpus");
	outb(0x21, 0xff); /* legacy interrupt controllers: all masked */
	outb(0xa1, 0xff);
}

void cpu_start(unsigned cpu)
{
	if (cpu == 0)
		guest_init();
	cpu_load_tables(cpu);
	apic_enable();
	if (cpu == 0) {
		guest_main();
		guest_fail("guest_main returned");
	}
	ap_running[cpu] = 1;
	ap_fn[cpu](cpu);
	for (;;)
		__asm__ volatile("cli; hlt");
}
