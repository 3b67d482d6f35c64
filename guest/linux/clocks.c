/* SPDX-License-Identifier: MIT */
/* A thread that looks at all clocks often: how long was the guest away, and did any of them go
 * back? */
#include "guest.h"

#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

static struct {
	_Atomic uint64_t gap_ns, max_gap_ns, back, boot_drift_ns;
	uint64_t sample_ns;
} watch;

uint64_t clocks_tsc(void)
{
#if defined(__x86_64__)
	return __builtin_ia32_rdtsc();
#elif defined(__aarch64__)
	uint64_t v;

	__asm__ volatile("isb; mrs %0, cntvct_el0" : "=r"(v));
	return v;
#else
	return 0;
#endif
}

static uint64_t read_ns(clockid_t id)
{
	struct timespec ts;

	clock_gettime(id, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static void raise_to(_Atomic uint64_t *at, uint64_t value)
{
	uint64_t old = atomic_load(at);

	while (old < value && !atomic_compare_exchange_weak(at, &old, value))
		;
}

enum { MONOTONIC, BOOTTIME, REALTIME, TSC, CLOCKS };

static void look(uint64_t now[CLOCKS])
{
	now[MONOTONIC] = read_ns(CLOCK_MONOTONIC);
	now[BOOTTIME] = read_ns(CLOCK_BOOTTIME);
	now[REALTIME] = read_ns(CLOCK_REALTIME);
	now[TSC] = clocks_tsc();
}

static void *watch_run(void *unused)
{
	struct timespec nap = {(time_t)(watch.sample_ns / 1000000000u),
			       (long)(watch.sample_ns % 1000000000u)};
	uint64_t last[CLOCKS], now[CLOCKS], drift0;

	(void)unused;
	look(last);
	drift0 = last[BOOTTIME] - last[MONOTONIC];
	for (;;) {
		int64_t drift;

		nanosleep(&nap, NULL);
		look(now);
		for (int i = 0; i < CLOCKS; i++)
			if (now[i] < last[i])
				atomic_fetch_add(&watch.back, 1);
		if (now[MONOTONIC] > last[MONOTONIC]) {
			raise_to(&watch.gap_ns, now[MONOTONIC] - last[MONOTONIC]);
			raise_to(&watch.max_gap_ns, now[MONOTONIC] - last[MONOTONIC]);
		}
		/* The clocks are read one after the other: being put aside in between shows here
		 * too. */
		drift = (int64_t)(now[BOOTTIME] - now[MONOTONIC] - drift0);
		raise_to(&watch.boot_drift_ns, (uint64_t)(drift < 0 ? -drift : drift));
		for (int i = 0; i < CLOCKS; i++)
			last[i] = now[i];
	}
	return NULL;
}

int clocks_start(unsigned int sample_ms)
{
	pthread_t thread;

	watch.sample_ns = (uint64_t)sample_ms * 1000000u;
	return pthread_create(&thread, NULL, watch_run, NULL);
}

void clocks_report(struct clock_report *out)
{
	out->gap_ns = atomic_exchange(&watch.gap_ns, 0);
	out->max_gap_ns = atomic_load(&watch.max_gap_ns);
	out->back = atomic_load(&watch.back);
	out->boot_drift_ns = atomic_load(&watch.boot_drift_ns);
}
