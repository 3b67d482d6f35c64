/* SPDX-License-Identifier: MIT */
/*
 * stress: every CPU takes its periodic timer interrupt, sends interrupts to the next CPU and counts
 * its own exactly; CPU 0 prints numbered lines ("L number check") and takes bytes from the host by
 * interrupt, 'A' to 'Z' round and round. 'q' ends.
 */
#include "guest.h"

#define VEC_TIMER  0x40
#define VEC_IPI	   0x41
#define VEC_SERIAL 0x42
#define PERIOD_US                                                                                  \
	2000 /* longer on a slow host, which would be busy with the timers of many CPUs alone */
#define LOST_US 10000000 /* an interrupt that is not there by then was lost */

static struct cpu_work {
	volatile uint64_t ticks, received, sent, start, elapsed, done;
	uint8_t pad[16];
} work[GUEST_MAX_CPUS] __attribute__((aligned(64)));
static volatile uint64_t bytes, go, stop;

static uint64_t period_us(void)
{
	return PERIOD_US * option_number("slow", 1);
}

static void on_timer(struct trap_frame *frame)
{
	(void)frame;
	work[cpu_index()].ticks++;
	apic_eoi();
}

static void on_ipi(struct trap_frame *frame)
{
	(void)frame;
	work[cpu_index()].received++;
	apic_eoi();
}

static void on_serial(struct trap_frame *frame)
{
	(void)frame;
	for (int c; (c = serial_poll()) >= 0;) {
		if (c == 'q')
			stop = 1;
		else if (c != 'A' + (int)(bytes % 26))
			guest_fail("byte %lu from the host is %c (%x), not %c", bytes, c, c,
				   'A' + (int)(bytes % 26));
		else
			bytes++;
	}
	apic_eoi();
}

struct change {
	volatile uint64_t *value;
	uint64_t from, until;
};

/* CPL3: until *value is no longer from. */
static uint64_t wait_change(void *arg)
{
	struct change *c = arg;

	while (*c->value == c->from)
		if (rdtsc() > c->until)
			return *c->value != c->from;
	return 1;
}

static void change_expect(volatile uint64_t *value, uint64_t from, const char *what, unsigned cpu)
{
	struct change c = {value, from, rdtsc() + us_to_tsc(LOST_US * option_number("slow", 1))};

	if (!user_call(wait_change, &c))
		guest_fail("cpu %u: %s lost (%lu)", cpu, what, from);
}

static uint64_t spin(void *until)
{
	while (rdtsc() < *(uint64_t *)until && !stop)
		;
	return 0;
}

static void work_round(unsigned cpu, uint64_t round)
{
	struct cpu_work *self = &work[cpu], *next = &work[(cpu + 1) % guest_cpus];
	uint64_t ticks = self->ticks, before = next->received;
	uint64_t until = rdtsc() + us_to_tsc(300);

	if (before != self->sent)
		guest_fail("cpu %u sent %lu interrupts, %lu came", cpu, self->sent, before);
	self->sent++;
	apic_ipi((cpu + 1) % guest_cpus, VEC_IPI);
	change_expect(&next->received, before, "interrupt to the next CPU", cpu);
	if (round % 4 == 0) { /* wait for the timer: at CPL3, and halted */
		change_expect(&self->ticks, ticks, "timer tick", cpu);
		irq_wait();
	}
	user_call(spin, &until);
}

static void work_finish(unsigned cpu)
{
	struct cpu_work *self = &work[cpu];

	irq_off();
	self->elapsed = rdtsc() - self->start;
	apic_write(APIC_LVT_TIMER, APIC_MASKED);
	irq_on();
	self->done = 1;
}

static void work_begin(unsigned cpu)
{
	work[cpu].start = rdtsc();
	apic_timer_start(VEC_TIMER | APIC_TIMER_PERIODIC, period_us());
}

static void stress_cpu(unsigned cpu)
{
	change_expect(&go, 0, "start", cpu); /* an INIT takes a CPU's pending interrupts away */
	work_begin(cpu);
	for (uint64_t round = 0; !stop; round++)
		work_round(cpu, round);
	work_finish(cpu);
	for (;;)
		user_call(spin, &(uint64_t){UINT64_MAX});
}

/* All CPUs are done: nobody may have got more or fewer than were sent. */
static void check(unsigned cpu)
{
	const struct cpu_work *self = &work[cpu], *next = &work[(cpu + 1) % guest_cpus];
	uint64_t due = self->elapsed / us_to_tsc(period_us()) + option_number("updates", 0) + 2;

	if (next->received != self->sent)
		guest_fail("cpu %u sent %lu interrupts, %lu came", cpu, self->sent, next->received);
	/* The periodic timer may lose a pause, and start its period again, but never gain. */
	if (self->ticks > due)
		guest_fail("cpu %u: %lu timer ticks where %lu were due", cpu, self->ticks, due);
}

void guest_main(void)
{
	unsigned lines = 0;
	uint64_t ipis = 0, ticks = 0;

	trap_set(VEC_TIMER, on_timer);
	trap_set(VEC_IPI, on_ipi);
	trap_set(VEC_SERIAL, on_serial);
	apic_timer_calibrate();
	for (unsigned i = 1; i < guest_cpus; i++)
		cpu_boot(i, stress_cpu);
	serial_irq_enable(VEC_SERIAL);
	guest_printf("READY\n");
	go = 1;
	work_begin(0);
	for (uint64_t round = 0; !stop; round++) {
		work_round(0, round);
		guest_printf("L %08u %08x\n", lines, lines * 2654435761u);
		lines++;
	}
	work_finish(0);
	for (unsigned i = 0; i < guest_cpus; i++)
		change_expect(&work[i].done, 0, "end of a CPU", i);
	for (unsigned i = 0; i < guest_cpus; i++) {
		check(i);
		ipis += work[i].sent;
		ticks += work[i].ticks;
	}
	guest_pass("stress lines=%u received=%lu ipis=%lu ticks=%lu", lines, bytes, ipis, ticks);
}
