/* SPDX-License-Identifier: MIT */
/*
 * clock: kvmclock goes on through updates: it never goes back, and stays with the host's clock.
 * Host: 'c' reports "CLOCK ns", 'q' ends.
 */
#include "guest.h"

#define CPUID_FEATURES	    0x40000001
#define FEATURE_CLOCKSOURCE (1u << 3)
#define MSR_SYSTEM_TIME	    0x4b564d01

/* Documentation/virt/kvm/x86/msr.rst, MSR_KVM_SYSTEM_TIME_NEW. */
struct clock_page {
	volatile uint32_t version;
	uint32_t pad;
	volatile uint64_t tsc;
	volatile uint64_t system_time;
	volatile uint32_t mul;
	volatile int8_t shift;
	volatile uint8_t flags;
	uint8_t pad2[2];
} __attribute__((aligned(64)));

static struct clock_page pages[GUEST_MAX_CPUS];
static struct {
	volatile uint64_t back, by, reads;
	uint8_t pad[40];
} cpus[GUEST_MAX_CPUS];

/* CPL3. */
static uint64_t clock_read(const struct clock_page *p)
{
	uint32_t version;
	uint64_t ns;

	do {
		version = p->version & ~1u;
		__atomic_thread_fence(__ATOMIC_ACQUIRE);
		uint64_t delta = rdtsc_after_loads() - p->tsc;
		delta = p->shift < 0 ? delta >> -p->shift : delta << p->shift;
		ns = p->system_time + (uint64_t)((unsigned __int128)delta * p->mul >> 32);
		__atomic_thread_fence(__ATOMIC_ACQUIRE);
	} while (p->version != version);
	return ns;
}

struct watch {
	unsigned cpu;
	uint64_t last, until; /* ns; TSC */
};

static uint64_t clock_watch(void *arg)
{
	struct watch *w = arg;

	do {
		uint64_t now = clock_read(&pages[w->cpu]);
		if (now < w->last) {
			cpus[w->cpu].by = w->last - now;
			cpus[w->cpu].back++;
		}
		w->last = now;
		cpus[w->cpu].reads++;
	} while (rdtsc() < w->until);
	return 0;
}

static void clock_enable(unsigned cpu)
{
	wrmsr(MSR_SYSTEM_TIME, (uint64_t)&pages[cpu] | 1);
}

static void clock_cpu(unsigned cpu)
{
	struct watch w = {cpu, 0, UINT64_MAX};

	clock_enable(cpu);
	user_call(clock_watch, &w);
}

void guest_main(void)
{
	struct watch w = {0, 0, 0};
	uint64_t reads = 0;
	int c = 0;

	if (!(cpuid(CPUID_FEATURES, 0).eax & FEATURE_CLOCKSOURCE))
		guest_fail("no kvmclock");
	clock_enable(0);
	for (unsigned i = 1; i < guest_cpus; i++)
		cpu_boot(i, clock_cpu);
	guest_printf("READY\n");
	for (; c != 'q'; c = serial_poll()) {
		w.until = rdtsc() + us_to_tsc(1000);
		user_call(clock_watch, &w);
		if (c == 'c')
			guest_printf("CLOCK %lu\n", w.last);
		for (unsigned i = 0; i < guest_cpus; i++)
			if (cpus[i].back)
				guest_fail("cpu %u: kvmclock went back %lu times, last by %lu ns",
					   i, cpus[i].back, cpus[i].by);
	}
	for (unsigned i = 0; i < guest_cpus; i++)
		reads += cpus[i].reads;
	guest_pass("clock cpus=%u reads=%lu", guest_cpus, reads);
}
