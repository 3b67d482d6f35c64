/* SPDX-License-Identifier: MIT */
/*
 * many: all CPUs but the first wait in HLT. 'k' wakes each by an interrupt of its own, all by a broadcast, and the last
 * one by the serial port's line, which is edge-triggered; each must count once. 'q' ends.
 */
#include "guest.h"

#define VEC_ONE		 0x40
#define VEC_ALL		 0x41
#define VEC_LINE	 0x42
#define SERIAL_PIN	 4
#define SERIAL_IER	 0x3f9
#define IER_THRE	 2
#define SERIAL_MCR	 0x3fc
#define MCR_OUT2	 8 /* its line reaches the interrupt controllers */
#define ICR_ALL_BUT_SELF 0xc0000
#define WAIT_US		 20000000

static volatile uint64_t ones[GUEST_MAX_CPUS], alls[GUEST_MAX_CPUS], lines;

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

static void on_line(struct trap_frame *frame)
{
	(void)frame;
	if (cpu_index() != guest_cpus - 1)
		guest_fail("cpu %u got what is the last one's", cpu_index());
	lines++;
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

struct line_wait {
	uint64_t want, until;
};

static uint64_t line_has(void *arg)
{
	const struct line_wait *w = arg;

	while (lines < w->want)
		if (rdtsc() >= w->until)
			return 0;
	return 1;
}

/* The transmitter is empty: as soon as it may the port asserts its line. */
static void check_line(uint64_t want)
{
	struct line_wait w = {want, rdtsc() + us_to_tsc(WAIT_US)};

	outb(SERIAL_IER, IER_THRE);
	bool came = user_call(line_has, &w);
	outb(SERIAL_IER, 0);
	if (!came || lines != want)
		guest_fail("the last cpu has counted %lu of %lu: a line", lines, want);
}

void guest_main(void)
{
	uint64_t rounds = 0;

	trap_set(VEC_ONE, on_one);
	trap_set(VEC_ALL, on_all);
	trap_set(VEC_LINE, on_line);
	ioapic_cpu = guest_cpus - 1;
	outb(SERIAL_MCR, MCR_OUT2);
	ioapic_set(SERIAL_PIN, VEC_LINE);
	bool wide = cpuid(0x40000001, 0).eax >> 15 & 1;
	if (wide != (guest_cpus > 255))
		guest_fail("extended destination ids with %u cpus: %u", guest_cpus, wide);
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
		check_line(rounds);
		guest_printf("ALL %u\n", guest_cpus);
	}
	guest_pass("%u cpus, woken %lu times", guest_cpus, rounds);
}
