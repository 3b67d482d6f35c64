/* SPDX-License-Identifier: MIT */
/*
 * Memory is short: molt is in a memory cgroup that lets it have so much more and no byte beyond. The
 * kernel then ends a process of the group, and that must never be the one that has the guest.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "tests/guest/runner/cgroup.h"
#include "tests/guest/cases/drives.h"
#include "tests/guest/cases/matrix.h"
#include "tests/guest/runner/session.h"

#define KIB 1024ll
#define MIB (1024 * KIB)

/* From far too little to plenty. */
static const struct {
	int64_t from, to, step;
} rooms[] = {
	{64 * KIB, 3 * MIB, 64 * KIB},
	{3 * MIB, 6 * MIB, 512 * KIB},
	{6 * MIB, 26 * MIB, 5 * MIB},
};

static enum outcome run_row(struct matrix *x, int64_t room, int64_t *peak)
{
	struct session *s = x->s;

	matrix_row_begin(x);
	if (session_install(s, false) || cgroup_limit(s, room))
		return LOST;
	x->in.nshots = 0;
	enum outcome o = matrix_follow(x);
	*peak = cgroup_peak();
	if (o == LOST || cgroup_limit(s, -1))
		return LOST;
	return matrix_judge(x, o);
}

static int run_rows(struct matrix *x)
{
	const int64_t factor = getenv("MOLT_FAULT_SHORT") ? 4 : 1;
	char name[64];
	for (unsigned i = 0; i < sizeof(rooms) / sizeof(rooms[0]); i++) {
		for (int64_t room = rooms[i].from; room < rooms[i].to;
		     room += factor * rooms[i].step) {
			int64_t peak = -1;
			snprintf(name, sizeof(name), "memory cgroup with %lld KiB left",
				 (long long)(room / KIB));
			x->name = name;
			enum outcome o = run_row(x, room, &peak);
			if (o != LOST)
				printf("  row %s: %s, %lld KiB used\n", name, outcome_names[o],
				       (long long)(peak / KIB));
			if (o == LOST && cgroup_limit(x->s, -1))
				return -1;
			if (matrix_count(x, o, name))
				return -1;
		}
	}
	return 0;
}

int drive_memory(struct session *s, unsigned updates)
{
	static struct matrix x;
	(void)updates;
	if (matrix_begin(&x, s, NULL) || run_rows(&x))
		return -1;
	matrix_except(&x, "memory cgroup with nothing left",
		      "the next page that anybody of the group touches ends molt, update or not");
	return matrix_end(&x);
}
