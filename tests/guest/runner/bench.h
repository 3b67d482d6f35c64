/* SPDX-License-Identifier: MIT */
/*
 * What scripts/bench measures with guests of this folder. A benchmark prints what it saw, one sample a
 * line: series, place on the series' axis (may be empty), value, with tabs between. What is made of
 * them is scripts/bench.d/figures.awk's.
 */
#ifndef MOLT_TEST_BENCH_H
#define MOLT_TEST_BENCH_H

#include <stdint.h>

#include "tests/guest/cases/cases.h"

struct session;
struct settings;

struct bench {
	const char *name;
	/* Prints its samples; @updates: how many of each, @floor: the program of tests/bench/floor or
	 * NULL. Returns 0, or -1 after it has said why. */
	int (*run)(const struct settings *set, const char *floor, unsigned updates);
	unsigned updates; /* unless --updates says */
};

int bench_pause(const struct settings *set, const char *floor, unsigned updates);
int bench_memory(const struct settings *set, const char *floor, unsigned updates);
int bench_sizes(const struct settings *set, const char *floor, unsigned updates);
int bench_cpus(const struct settings *set, const char *floor, unsigned updates);
int bench_devices(const struct settings *set, const char *floor, unsigned updates);
int bench_virtio(const struct settings *set, const char *floor, unsigned updates);
int bench_io(const struct settings *set, const char *floor, unsigned updates);
/* No samples: lines "stall", name of a failing update, longest gap in ns, lives (1 or 0), process id kept (1 or 0). */
int bench_stall(const struct settings *set, const char *floor, unsigned updates);

/* Runs one of them by its name. Returns an exit status. */
int bench_run(const struct settings *set, const char *name, const char *floor);

/* One sample; @x: a number, or bench_sample_at's text. */
void bench_sample(const char *series, uint64_t x, uint64_t value);
void bench_sample_at(const char *series, const char *x, uint64_t value);

/* The floor program with that many MiB of guest memory: a sample at @x for each of its pauses, in ns. Returns
 * 0, or -1 after it has said so. */
int bench_floor(const char *floor, unsigned updates, unsigned mib, const char *series,
		const char *x);

/* Starts @test's guest and runs its drive; says what failed, ends it, and returns 0 or -1. */
int bench_guest(const struct settings *set, const struct test_case *test, unsigned updates);

#endif
