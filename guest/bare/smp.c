/* SPDX-License-Identifier: MIT */
/*
 * smp: starts CPU 1 again and again with INIT and SIPI; each start runs exactly once, whenever it is
 * caught: waiting for the SIPI, in real mode on its way up, or halted. 'q' ends.
 */
#include "guest.h"

static volatile uint64_t starts;

static void started(unsigned cpu)
{
	(void)cpu;
	starts++; /* then halted, interrupts off, until the next INIT */
}

struct wait {
	uint64_t count, until;
};

static uint64_t wait_starts(void *arg)
{
	const struct wait *w = arg;

	while (starts < w->count && rdtsc() < w->until)
		;
	return 0;
}

void guest_main(void)
{
	uint64_t rounds = 0, late = 10000000 * option_number("slow", 1);

	guest_printf("READY\n");
	while (serial_poll() != 'q') {
		struct wait w = {++rounds, rdtsc() + us_to_tsc(late)};
		cpu_boot_async(1, started);
		user_call(wait_starts, &w);
		if (starts != rounds)
			guest_fail("%lu starts of CPU 1, it ran %lu times", rounds, starts);
		w = (struct wait){rounds + 1, rdtsc() + us_to_tsc(rounds % 5 * 100)};
		user_call(wait_starts, &w);
		if (starts != rounds)
			guest_fail("start %lu of CPU 1 ran again", rounds);
	}
	guest_pass("smp starts=%lu", rounds);
}
