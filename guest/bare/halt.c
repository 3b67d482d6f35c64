/* SPDX-License-Identifier: MIT */
/*
 * halt: halted CPUs stay halted until what wakes them. CPU 0 waits in HLT for bytes of the host; CPU 1
 * in HLT for an interrupt; CPU 2 in HLT with interrupts off, for an NMI. Each counts how often the
 * instruction after HLT ran, and its handlers how often there was a reason to.
 * Host: 'k' wakes each once and checks; 'q' ends.
 */
#include "guest.h"

#define VEC_WAKE   0x40
#define VEC_SERIAL 0x41
#define VEC_NMI	   2

static volatile uint64_t wakes[3], reasons[3];
static volatile int input = -1;

static void on_wake(struct trap_frame *frame)
{
	(void)frame;
	reasons[1]++;
	apic_eoi();
}

static void on_nmi(struct trap_frame *frame)
{
	(void)frame;
	reasons[2]++;
}

static void on_serial(struct trap_frame *frame)
{
	(void)frame;
	reasons[0]++;
	for (int c; (c = serial_poll()) >= 0;)
		input = c;
	apic_eoi();
}

static void halt_interruptible(unsigned cpu)
{
	for (;;) {
		irq_wait();
		wakes[cpu]++;
	}
}

static void halt_deaf(unsigned cpu)
{
	for (;;) {
		__asm__ volatile("cli; hlt" : : : "memory");
		wakes[cpu]++;
	}
}

struct count {
	volatile uint64_t *value;
	uint64_t want, until;
};

static uint64_t wait_count(void *arg)
{
	const struct count *c = arg;

	while (*c->value < c->want && rdtsc() < c->until)
		;
	return 0;
}

static void count_expect(const char *what, volatile uint64_t *value, uint64_t want, uint64_t us)
{
	struct count c = {value, want, rdtsc() + us_to_tsc(us)};

	user_call(wait_count, &c);
	if (*value != want)
		guest_fail("%s: %lu, should be %lu", what, *value, want);
}

static void wake_all(uint64_t n)
{
	static const struct {
		const char *slept, *interrupts, *ran;
		uint32_t command;
	} cpus[3] = {
		[1] = {"CPU 1 ran without a reason", "interrupts of CPU 1", "wakes of CPU 1",
		       VEC_WAKE},
		[2] = {"CPU 2 ran without a reason", "NMIs of CPU 2", "wakes of CPU 2", ICR_NMI},
	};
	uint64_t late = 10000000 * option_number("slow", 1);

	for (unsigned i = 1; i < guest_cpus; i++) {
		count_expect(cpus[i].slept, &wakes[i], n, 0);
		apic_ipi(i, cpus[i].command);
		count_expect(cpus[i].ran, &wakes[i], n + 1, late);
		count_expect(cpus[i].interrupts, &reasons[i], n + 1, 0);
	}
}

void guest_main(void)
{
	static void (*const fn[])(unsigned) = {NULL, halt_interruptible, halt_deaf};
	volatile uint64_t never = 0;
	uint64_t woken = 0;

	trap_set(VEC_WAKE, on_wake);
	trap_set(VEC_SERIAL, on_serial);
	trap_set(VEC_NMI, on_nmi);
	for (unsigned i = 1; i < guest_cpus; i++)
		cpu_boot(i, fn[i]);
	wait_flag(&never, 50000); /* let them halt */
	serial_irq_enable(VEC_SERIAL);
	guest_printf("READY\n");
	for (;;) {
		while (input < 0) {
			irq_wait();
			if (++wakes[0] > reasons[0])
				guest_fail("CPU 0 woke %lu times for %lu interrupts", wakes[0],
					   reasons[0]);
		}
		int c = input;
		input = -1;
		if (c == 'q')
			break;
		wake_all(woken++);
		guest_printf("WOKEN %lu\n", woken);
	}
	guest_pass("halt woken=%lu", woken);
}
