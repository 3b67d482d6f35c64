/* SPDX-License-Identifier: MIT */
/*
 * level: the test device's INTx line, level-triggered. The handler says "IRQ n" and keeps the line's
 * interrupt in service until the host sends 'd' (the device has lowered the line; 's': it was low,
 * which does not count), then ends it.
 * CPU 0 takes it, or with last=1 the last CPU, for which CPU 0 speaks.
 * Other CPUs count at CPL3; their TSCs never go back.
 * Host: 'r' reports "COUNT n" once all CPUs have been seen running, 'm' and 'u' mask and unmask the IOAPIC
 * pin, 'q' ends.
 */
#include "guest.h"

#define VEC_DEVICE 0x40
#define SLACK_US   5

static volatile uint64_t count;
static volatile int later = -1; /* what the host sent before it knew that the handler runs */

static volatile bool serving; /* by the last CPU */

static void serve(void)
{
	guest_printf("IRQ %lu\n", ++count);
	for (int c; (c = serial_read()) != 'd'; later = c)
		if (c == 's') {
			count--;
			break;
		}
}

static void on_device(struct trap_frame *frame)
{
	(void)frame;
	if (cpu_index() != ioapic_cpu)
		guest_fail("cpu %u got what is cpu %u's", cpu_index(), ioapic_cpu);
	if (ioapic_cpu)
		for (serving = true; serving;)
			cpu_pause();
	else
		serve();
	apic_eoi();
}

static void take(unsigned cpu)
{
	(void)cpu;
	for (;;)
		irq_wait();
}

static struct beat {
	volatile uint64_t count, back; /* back: ticks */
	uint8_t pad[48];
} beats[GUEST_MAX_CPUS] __attribute__((aligned(64)));

static uint64_t beat(void *arg)
{
	struct beat *b = arg;

	for (uint64_t last = rdtsc(), now;; last = now) {
		now = rdtsc();
		if (now + us_to_tsc(SLACK_US) < last)
			b->back = last - now;
		b->count++;
	}
	return 0;
}

static void beat_cpu(unsigned cpu)
{
	user_call(beat, &beats[cpu]);
}

struct beat_wait {
	const struct beat *beat;
	uint64_t seen, until;
};

static uint64_t beat_wait(void *arg)
{
	const struct beat_wait *w = arg;

	while (w->beat->count == w->seen && rdtsc() < w->until)
		;
	return 0;
}

static void beats_check(void)
{
	uint64_t late = 10000000 * option_number("slow", 1);

	for (unsigned i = 1; i < guest_cpus; i++) {
		struct beat_wait w = {&beats[i], beats[i].count, rdtsc() + us_to_tsc(late)};
		user_call(beat_wait, &w);
		if (beats[i].count == w.seen)
			guest_fail("cpu %u stands still", i);
		if (beats[i].back)
			guest_fail("cpu %u: TSC went back by %lu ticks", i, beats[i].back);
	}
}

void guest_main(void)
{
	volatile uint64_t never = 0;
	struct testdev t;

	trap_set(VEC_DEVICE, on_device);
	testdev_find(&t);
	bool last = option_number("last", 0);
	if (last)
		cpu_boot(ioapic_cpu = guest_cpus - 1, take);
	ioapic_set(t.pin, IOAPIC_LEVEL | VEC_DEVICE);
	for (unsigned i = 1; i < guest_cpus && !last; i++)
		cpu_boot(i, beat_cpu);
	guest_printf("READY pin %u\n", t.pin);
	for (;;) {
		if (serving) {
			serve();
			serving = false;
		}
		int c = later >= 0 ? later : serial_poll();
		later = -1;
		if (c == 'q')
			break;
		if (c == 'm' || c == 'u') {
			ioapic_set(t.pin,
				   IOAPIC_LEVEL | VEC_DEVICE | (c == 'm' ? IOAPIC_MASKED : 0));
			guest_printf("%s\n", c == 'm' ? "MASKED" : "UNMASKED");
		}
		if (c == 'r') {
			if (!last)
				beats_check();
			guest_printf("COUNT %lu\n", count);
		}
		if (c < 0)
			wait_flag(&never, 200);
	}
	guest_pass("level count=%lu", count);
}
