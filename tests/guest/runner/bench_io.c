/* SPDX-License-Identifier: MIT */
/* What exits and interrupts cost, as the guest exits.c measures it. */
#include <inttypes.h>
#include <stdio.h>

#include "tests/guest/runner/bench.h"
#include "tests/guest/runner/session.h"

#define BOOT_MS 30000

static int drive(struct session *s, unsigned rounds)
{
	uint64_t port, mmio, irq;

	if (session_expect(s, "READY", BOOT_MS))
		return -1;
	for (unsigned i = 0; i < rounds; i++) {
		if (session_ask(s, 'g', "EXITS "))
			return -1;
		if (sscanf(s->line, "EXITS %" SCNu64 " %" SCNu64 " %" SCNu64, &port, &mmio, &irq) !=
			    3 ||
		    !port || !mmio || !irq)
			return session_fail(s, "'%s'", s->line);
		bench_sample_at("exits_per_s", "port", 1000000000 / port);
		bench_sample_at("exits_per_s", "mmio", 1000000000 / mmio);
		bench_sample_at("latency_ns", "write", mmio);
		bench_sample_at("latency_ns", "irq", irq);
	}
	return session_send(s, "q", 1) || session_finish(s) ? -1 : 0;
}

int bench_io(const struct settings *set, const char *floor, unsigned updates)
{
	static const struct test_case test = {
		"bench", "exits", drive, 1, 0, 0, 0, {"--mem", "32M", "--testdev", "trigger=%T"}};

	(void)floor;
	return bench_guest(set, &test, updates);
}
