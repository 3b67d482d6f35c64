/* SPDX-License-Identifier: MIT */
#include "tests/guest/runner/bench.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "tests/guest/runner/session.h"

static const struct bench benches[] = {
	{"pause", bench_pause, 100}, {"memory", bench_memory, 10},  {"cpus", bench_cpus, 30},
	{"sizes", bench_sizes, 10},  {"devices", bench_devices, 4}, {"io", bench_io, 20},
	{"stall", bench_stall, 1},   {"virtio", bench_virtio, 40},
};

void bench_sample_at(const char *series, const char *x, uint64_t value)
{
	printf("%s\t%s\t%" PRIu64 "\n", series, x, value);
}

void bench_sample(const char *series, uint64_t x, uint64_t value)
{
	char text[24];

	snprintf(text, sizeof(text), "%" PRIu64, x);
	bench_sample_at(series, text, value);
}

int bench_guest(const struct settings *set, const struct test_case *test, unsigned updates)
{
	struct session s;
	int rc = session_start(&s, set, test, updates);

	s.hasty = true;
	if (!rc)
		rc = test->drive(&s, updates);
	if (rc) {
		printf("bench: %s, %u CPUs: %s\n", test->guest, test->cpus, s.error);
		session_show(&s);
	}
	session_end(&s);
	return rc;
}

int bench_floor(const char *floor, unsigned updates, unsigned mib, const char *series,
		const char *x)
{
	char command[512];
	unsigned long long ns;
	unsigned n = 0;

	snprintf(command, sizeof(command), "'%s' %u %u", floor, updates, mib);
	FILE *in = popen(command, "r");
	if (in && fscanf(in, "gap_ns") == 0)
		for (; fscanf(in, "%llu", &ns) == 1; n++)
			bench_sample_at(series, x, ns);
	if (in && pclose(in) == 0 && n == updates)
		return 0;
	printf("bench: the floor program %s failed\n", floor);
	return -1;
}

int bench_run(const struct settings *set, const char *name, const char *floor)
{
	for (unsigned i = 0; i < sizeof(benches) / sizeof(benches[0]); i++) {
		const struct bench *b = &benches[i];
		if (!strcmp(b->name, name))
			return b->run(set, floor, set->updates ? set->updates : b->updates) ? 1 : 0;
	}
	fprintf(stderr, "guest-runner: no benchmark '%s'\n", name);
	return 2;
}
