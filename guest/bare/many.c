/* SPDX-License-Identifier: MIT */
/*
 * many: all CPUs but the first wait in HLT. 'k' wakes each by an interrupt of its own, and all by a broadcast, which
 * each must count once; 'q' ends.
 */
#include "guest.h"

#define VEC_ONE		 0x40
#define VEC_ALL		 0x41
#define ICR_ALL_BUT_SELF 0xc0000
#define WAIT_US		 20000000

static volatile uint64_t ones[GUEST_MAX_CPUS], alls[GUEST_MAX_CPUS];

static void on_one(struct trap_frame *frame)
{
	(void)frame;
	ones[cpu_index()]++;
	apic_eoi();
}

static void on_all(struct trap_frame *frame)
{
	(void)frame;
	alls[cpu_index()]++;
	apic_eoi();
}

static void wait_for_ever(unsigned cpu)
{
	uint32_t id = apic_read(APIC_ID) >> (option_number("x2apic", 0) ? 0 : 24);

	if (id != cpu)
		guest_fail("cpu %u has the local APIC id %u", cpu, id);
	for (;;)
		irq_wait();
}

struct count {
	volatile uint64_t *of;
	uint64_t want, until;
};

static uint64_t all_have(void *arg)
{
	const struct count *c = arg;

	for (unsigned cpu = 1; cpu < guest_cpus; cpu++)
		while (c->of[cpu] < c->want)
			if (rdtsc() >= c->until)
				return cpu;
	return 0;
}

static void check(volatile uint64_t *of, uint64_t want, const char *what)
{
	struct count c = {of, want, rdtsc() + us_to_tsc(WAIT_US)};
	uint64_t missing = user_call(all_have, &c);

	if (missing)
		guest_fail("cpu %lu: %s", missing, what);
	for (unsigned cpu = 1; cpu < guest_cpus; cpu++)
		if (of[cpu] != want)
			guest_fail("cpu %u has counted %lu of %lu: %s", cpu, of[cpu], want, what);
}

void guest_main(void)
{
	uint64_t rounds = 0;

	trap_set(VEC_ONE, on_one);
	trap_set(VEC_ALL, on_all);
	for (unsigned cpu = 1; cpu < guest_cpus; cpu++)
		cpu_boot(cpu, wait_for_ever);
	guest_printf("READY\n");
	for (int c; (c = serial_read()) != 'q';) {
		if (c != 'k')
			continue;
		rounds++;
		for (unsigned cpu = 1; cpu < guest_cpus; cpu++)
			apic_ipi(cpu, VEC_ONE);
		check(ones, rounds, "an interrupt of its own");
		apic_ipi(0, VEC_ALL | ICR_ALL_BUT_SELF);
		check(alls, rounds, "a broadcast");
		guest_printf("ALL %u\n", guest_cpus);
	}
	guest_pass("%u cpus, woken %lu times", guest_cpus, rounds);
}
