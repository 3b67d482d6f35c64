/* SPDX-License-Identifier: MIT */
/* How long a guest stands still for updates that fail: each row of drives_fault.c, with molt's defaults. */
#include <inttypes.h>
#include <stdio.h>

#include "tests/guest/runner/bench.h"
#include "tests/guest/cases/drives.h"
#include "tests/guest/runner/session.h"

static void on_row(const char *name, uint64_t gap_ns, bool alive, bool pid_kept)
{
	printf("stall\t%s\t%" PRIu64 "\t%d\t%d\n", name, gap_ns, alive, pid_kept);
}

int bench_stall(const struct settings *set, const char *floor, unsigned updates)
{
	static const struct test_case test = {"bench", "gap", drive_fault, 1, 1000};
	(void)floor;
	(void)updates;
	fault_on_row = on_row;
	int rc = bench_guest(set, &test, test.updates);
	fault_on_row = NULL;
	return rc;
}
