/* SPDX-License-Identifier: MIT */
/*
 * gap: each CPU runs at CPL3 and notes the largest gap between two readings of the TSC: the pause as
 * the guest sees it. The TSC must never go back, on one CPU or from one to another.
 *
 * vectors=N: with that many MSI-X vectors of passed-through devices in use.
 * look=N: CPU 0 looks at the console each N ms (2) and stays at CPL3 between.
 *
 * Host: 'm' touches all memory and reports "TOUCHED pages ns". 'r' reports "GAP ns,ns,..." (one per CPU, since the last
 * report), 't' reports "TSC n n", as read by RDTSC and from its MSR (software KVMs let the first through untouched);
 * 'q' ends.
 */
#include "guest.h"

#define MSR_TSC	   0x10
#define SLACK_US   5
#define VEC_DEVICE 0x60

static struct cpu_gap {
	volatile uint64_t largest, resets, reset_seen, loops;
	volatile uint64_t back, behind; /* ticks: at most, on this CPU, and after CPU 0's */
	uint8_t pad[16];
} gaps[GUEST_MAX_CPUS] __attribute__((aligned(64)));
static volatile uint64_t latest; /* last reading published by CPU 0 */

struct watch {
	struct cpu_gap *gap;
	uint64_t from, until; /* TSC: last reading so far; when to return */
};

static uint64_t gap_watch(void *arg)
{
	struct watch *w = arg;
	struct cpu_gap *g = w->gap;
	uint64_t last = w->from, now = last;

	for (; now < w->until; last = now) {
		now = rdtsc();
		if (now < last) {
			if (last - now > g->back)
				g->back = last - now;
		} else if (now - last > g->largest) {
			g->largest = now - last;
		}
		if (g->resets != g->reset_seen) {
			g->largest = 0;
			g->reset_seen = g->resets;
		}
		g->loops++;
		if (g == gaps)
			latest = now;
		else if ((g->loops & 1023) == 0) {
			uint64_t seen = latest, here = rdtsc_after_loads();
			if (here < seen && seen - here > g->behind)
				g->behind = seen - here;
		}
	}
	return now;
}

static void gap_cpu(unsigned cpu)
{
	struct watch w = {&gaps[cpu], rdtsc(), UINT64_MAX};

	user_call(gap_watch, &w);
}

static void gap_report(void)
{
	for (unsigned i = 0; i < guest_cpus; i++)
		if (gaps[i].back > us_to_tsc(SLACK_US) || gaps[i].behind > us_to_tsc(SLACK_US))
			guest_fail("cpu %u: TSC went back by %lu ticks, or was %lu behind CPU 0's",
				   i, gaps[i].back, gaps[i].behind);
	guest_printf("GAP");
	for (unsigned i = 0; i < guest_cpus; i++)
		guest_printf("%c%lu", i ? ',' : ' ', tsc_to_ns(gaps[i].largest));
	guest_printf("\n");
	gaps[0].largest = 0;
	for (unsigned i = 1; i < guest_cpus; i++)
		gaps[i].resets++;
}

static void touch_report(void)
{
	uint64_t from = rdtsc(), pages = memory_touch();

	guest_printf("TOUCHED %lu %lu\n", pages, tsc_to_ns(rdtsc() - from));
}

static void vectors_enable(unsigned n)
{
	unsigned got = msix_enable_all(n, VEC_DEVICE);

	if (got != n)
		guest_fail("%u vectors in all devices, not %u", got, n);
}

void guest_main(void)
{
	uint64_t start = rdtsc(), loops = 0, back = 0, behind = 0;
	uint64_t look = us_to_tsc(1000 * option_number("look", 2));
	struct watch w = {&gaps[0], start, 0};

	vectors_enable((unsigned)option_number("vectors", 0));
	for (unsigned i = 1; i < guest_cpus; i++)
		cpu_boot(i, gap_cpu);
	guest_printf("READY\n");
	for (;;) {
		/* What looking at the console takes is part of the largest gap, as an update may well
		 * begin there. Only answering is not. */
		int c = serial_poll();

		if (c == 'r')
			gap_report();
		else if (c == 'm')
			touch_report();
		else if (c == 't')
			guest_printf("TSC %lu %lu\n", rdtsc(), rdmsr(MSR_TSC));
		else if (c == 'q')
			break;
		uint64_t now = rdtsc();
		if (now < w.from)
			guest_fail("TSC went back by %lu over a console access", w.from - now);
		if (c >= 0)
			w.from = now;
		w.until = now + look;
		w.from = user_call(gap_watch, &w);
	}
	for (unsigned i = 0; i < guest_cpus; i++) {
		loops += gaps[i].loops;
		back = gaps[i].back > back ? gaps[i].back : back;
		behind = gaps[i].behind > behind ? gaps[i].behind : behind;
	}
	guest_pass("gap cpus=%u loops=%lu tsc_elapsed=%lu back=%lu behind=%lu", guest_cpus, loops,
		   rdtsc() - start, back, behind);
}
