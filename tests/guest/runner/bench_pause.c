/* SPDX-License-Identifier: MIT */
/* The pause beside that of the floor program (tests/bench/floor), in turns: machines are noisy. */
#include <stdio.h>
#include <string.h>

#include "tests/guest/runner/bench.h"
#include "tests/guest/cases/drives.h"
#include "tests/guest/runner/session.h"

#define BOOT_MS 30000
#define ROUNDS	5

/* Every "name":number inside "phases":{...} of a record. */
static void phases_sample(const char *record)
{
	const char *p = strstr(record, "\"phases\"");
	int used;
	char name[48];
	unsigned long long ns;

	p = p ? strchr(p, '{') : NULL;
	while (p && sscanf(p, "%*[{, ]\"%47[^\"]\" : %llu%n", name, &ns, &used) == 2) {
		bench_sample_at("phases", name, ns);
		p += used;
	}
}

static int drive(struct session *s, unsigned updates)
{
	if (session_expect(s, "READY", BOOT_MS))
		return -1;
	for (unsigned i = 0; i < updates; i++) {
		uint64_t gap;
		if (gap_update(s, &gap))
			return -1;
		bench_sample_at("pause_ns", "", gap);
		bench_sample_at("pause_reported_ns", "", s->pauses_ns[i]);
		phases_sample(s->record);
	}
	return session_send(s, "q", 1) || session_finish(s) ? -1 : 0;
}

int bench_pause(const struct settings *set, const char *floor, unsigned updates)
{
	/* At CPL3 nearly all the time, as the floor's guest: looking at the console is slow where KVM is. */
	static const struct test_case test = {
		"bench", "gap", drive, 1, 0, 20000, 30000, {"--mem", "256M"}, .cmdline = "look=20"};

	for (unsigned r = 0; r < ROUNDS; r++) {
		unsigned n = updates / ROUNDS + (r < updates % ROUNDS);
		if (n && (bench_guest(set, &test, n) ||
			  (floor && bench_floor(floor, n, 256, "floor_ns", ""))))
			return -1;
	}
	return 0;
}
