/* SPDX-License-Identifier: MIT */
/* Interrupt controllers: local APIC in either mode, IOAPIC. */
#include "guest.h"

#define XAPIC_BASE    0xfee00000ul
#define IOAPIC_BASE   0xfec00000ul
#define MSR_APIC_BASE 0x1b
#define APIC_BASE_EN  (1u << 11)
#define APIC_BASE_X2  (1u << 10)
#define MSR_X2APIC    0x800

static bool x2apic;

static volatile uint32_t *mmio(uintptr_t addr)
{
	return (volatile uint32_t *)addr;
}

uint32_t apic_read(uint32_t reg)
{
	if (x2apic)
		return (uint32_t)rdmsr(MSR_X2APIC + (reg >> 4));
	return *mmio(XAPIC_BASE + reg);
}

void apic_write(uint32_t reg, uint32_t v)
{
	if (x2apic)
		wrmsr(MSR_X2APIC + (reg >> 4), v);
	else
		*mmio(XAPIC_BASE + reg) = v;
}

void apic_ipi(unsigned cpu, uint32_t command)
{
	if (x2apic) {
		wrmsr(MSR_X2APIC + (APIC_ICR >> 4), (uint64_t)cpu << 32 | command | ICR_ASSERT);
		return;
	}
	*mmio(XAPIC_BASE + APIC_ICR + 0x10) = cpu << 24;
	*mmio(XAPIC_BASE + APIC_ICR) = command | ICR_ASSERT;
}

void apic_eoi(void)
{
	apic_write(APIC_EOI, 0);
}

void apic_enable(void)
{
	x2apic = option_number("x2apic", 0);
	if (x2apic)
		wrmsr(MSR_APIC_BASE, rdmsr(MSR_APIC_BASE) | APIC_BASE_EN | APIC_BASE_X2);
	apic_write(APIC_SVR, 0x1ff); /* enabled, spurious vector 255 */
	apic_write(APIC_TPR, 0);
	apic_write(APIC_LVT_LINT0, APIC_MASKED);
	apic_write(APIC_TIMER_DIV, 0xb); /* by 1 */
}

uint64_t apic_timer_khz;

struct timer_look {
	uint64_t tsc;
	uint32_t count;
};

/* Count and TSC at the same moment: of ten looks the one that the host interrupted least. */
static struct timer_look timer_look(void)
{
	struct timer_look best = {0};
	uint64_t least = UINT64_MAX;

	for (unsigned i = 0; i < 10; i++) {
		uint64_t before = rdtsc();
		uint32_t count = apic_read(APIC_TIMER_COUNT);
		uint64_t took = rdtsc() - before;
		if (took >= least)
			continue;
		least = took;
		best = (struct timer_look){before + took / 2, count};
	}
	return best;
}

void apic_timer_calibrate(void)
{
	volatile uint64_t never = 0;

	apic_write(APIC_LVT_TIMER, APIC_MASKED);
	apic_write(APIC_TIMER_INIT, UINT32_MAX);
	struct timer_look from = timer_look();
	wait_flag(&never, 5000 * option_number("slow", 1));
	struct timer_look to = timer_look();
	apic_timer_khz = (uint64_t)(from.count - to.count) * tsc_khz / (to.tsc - from.tsc);
	apic_write(APIC_TIMER_INIT, 0);
}

void apic_timer_start(uint32_t lvt, uint64_t us)
{
	apic_write(APIC_LVT_TIMER, lvt);
	apic_write(APIC_TIMER_INIT, (uint32_t)(us * apic_timer_khz / 1000));
}

unsigned ioapic_cpu;

void ioapic_set(unsigned pin, uint32_t low)
{
	mmio(IOAPIC_BASE)[0] = 0x11 + 2 * pin; /* bits 8 to 14 of an id are in bits 49 to 55 */
	mmio(IOAPIC_BASE)[4] = (ioapic_cpu & 0xff) << 24 | ioapic_cpu >> 8 << 17;
	mmio(IOAPIC_BASE)[0] = 0x10 + 2 * pin;
	mmio(IOAPIC_BASE)[4] = low;
}

uint32_t ioapic_get(unsigned pin)
{
	mmio(IOAPIC_BASE)[0] = 0x10 + 2 * pin;
	return mmio(IOAPIC_BASE)[4];
}
