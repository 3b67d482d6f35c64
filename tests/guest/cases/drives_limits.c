/* SPDX-License-Identifier: MIT */
/*
 * Limits of molt's processes, lowered beneath them (prlimit) before an update and put back after it: of the worker
 * that has the guest; of the parent, whose successor and next image have what it has; of both.
 */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "tests/guest/cases/drives.h"
#include "tests/guest/inject/inject.h"
#include "tests/guest/cases/matrix.h"
#include "tests/guest/runner/session.h"

#define KIB 1024ull
#define MIB (1024 * KIB)

static unsigned long long count_fds(pid_t pid)
{
	char path[64];
	unsigned long long n = 0;
	snprintf(path, sizeof(path), "/proc/%d/fd", (int)pid);
	DIR *dir = opendir(path);
	while (dir && readdir(dir))
		n++;
	if (dir)
		closedir(dir);
	return n > 2 ? n - 2 : 0;
}

static unsigned long long address_space(pid_t pid)
{
	char path[64];
	unsigned long long pages = 0;
	snprintf(path, sizeof(path), "/proc/%d/statm", (int)pid);
	FILE *f = fopen(path, "re");
	if (f && fscanf(f, "%llu", &pages) != 1)
		pages = 0;
	if (f)
		fclose(f);
	return pages * (unsigned long long)sysconf(_SC_PAGESIZE);
}

static unsigned long long nothing(pid_t pid)
{
	(void)pid;
	return 0;
}

enum { WORKER = 1, PARENT = 2, BOTH = 3 };

/* From @base + @from to @base + @to; @base of the first whose limit it is. */
static const struct {
	const char *name;
	int resource;
	unsigned whose;
	unsigned long long (*base)(pid_t pid);
	long long from, to, step;
} rows[] = {
	{"RLIMIT_NOFILE", RLIMIT_NOFILE, WORKER, count_fds, -2, 12, 1},
	{"RLIMIT_NOFILE", RLIMIT_NOFILE, PARENT, count_fds, -2, 26, 1},
	{"RLIMIT_AS", RLIMIT_AS, WORKER, address_space, -(long long)(4 * MIB), 12 * MIB, 512 * KIB},
	/* Up to what a worker needs: its guest's memory and some. */
	{"RLIMIT_AS", RLIMIT_AS, PARENT, address_space, -(long long)MIB, 2 * MIB, 128 * KIB},
	{"RLIMIT_AS", RLIMIT_AS, PARENT, address_space, 2 * MIB, 96 * MIB, 2 * MIB},
	{"RLIMIT_FSIZE", RLIMIT_FSIZE, WORKER, nothing, 64 * KIB, 256 * KIB, 16 * KIB},
	{"RLIMIT_FSIZE", RLIMIT_FSIZE, PARENT, nothing, 64 * KIB, 256 * KIB, 32 * KIB},
	{"RLIMIT_STACK", RLIMIT_STACK, BOTH, nothing, 0, 256 * KIB, 32 * KIB},
	{"RLIMIT_DATA", RLIMIT_DATA, WORKER, nothing, 0, 2 * MIB, 128 * KIB},
	{"RLIMIT_DATA", RLIMIT_DATA, PARENT, nothing, 0, 2 * MIB, 64 * KIB},
	{"RLIMIT_NPROC", RLIMIT_NPROC, BOTH, nothing, 0, 4, 1},
	{"RLIMIT_MEMLOCK", RLIMIT_MEMLOCK, BOTH, nothing, 0, 0, 1},
	{"RLIMIT_SIGPENDING", RLIMIT_SIGPENDING, BOTH, nothing, 0, 0, 1},
	{"RLIMIT_CORE", RLIMIT_CORE, BOTH, nothing, 0, 0, 1},
};

#define ROWS (sizeof(rows) / sizeof(rows[0]))
static const char *const whose_names[] = {
	[WORKER] = "the worker", [PARENT] = "the parent", [BOTH] = "both"};

static int lower(pid_t pid, int resource, rlim_t limit)
{
	struct rlimit low;
	if (prlimit(pid, resource, NULL, &low))
		return -1;
	low.rlim_cur = limit > low.rlim_max ? low.rlim_max : limit;
	return prlimit(pid, resource, &low, NULL);
}

/* The hard limits were never lowered. */
static int restore(struct session *s, int resource, const struct rlimit *before)
{
	return prlimit(s->pid, resource, before, NULL) ||
	       prlimit(inject_worker(s->pid), resource, before, NULL);
}

struct limit {
	int resource;
	unsigned whose;
	rlim_t limit;
};

static enum outcome run_row(struct matrix *x, void *opaque)
{
	const struct limit *l = opaque;
	const int resource = l->resource;
	const unsigned whose = l->whose;
	const rlim_t limit = l->limit;
	struct session *s = x->s;
	struct rlimit before;

	matrix_row_begin(x);
	if (prlimit(s->pid, resource, NULL, &before) || session_install(s, false) ||
	    (whose & WORKER && lower(x->worker, resource, limit)) ||
	    (whose & PARENT && lower(s->pid, resource, limit))) {
		session_fail(s, "prlimit: %s", strerror(errno));
		return LOST;
	}
	x->in.nshots = 0;
	enum outcome o = matrix_follow(x);
	if (o != LOST && o != ALONE && restore(s, resource, &before)) {
		session_fail(s, "prlimit: %s", strerror(errno));
		return LOST;
	}
	return o == LOST ? o : matrix_judge(x, o);
}

int drive_limits(struct session *s, unsigned updates)
{
	static struct matrix x;
	char name[96];
	(void)updates;

	if (matrix_begin(&x, s, NULL))
		return -1;
	for (unsigned i = 0; i < ROWS; i++) {
		for (long long n = rows[i].from; n <= rows[i].to; n += rows[i].step) {
			pid_t pid = rows[i].whose & WORKER ? inject_worker(s->pid) : s->pid;
			long long limit = (long long)rows[i].base(pid) + n;
			if (limit < 0)
				continue;
			snprintf(name, sizeof(name), "%s %lld of %s", rows[i].name, limit,
				 whose_names[rows[i].whose]);
			x.name = name;
			struct limit l = {rows[i].resource, rows[i].whose, (rlim_t)limit};
			enum outcome o = matrix_run(&x, run_row, &l);
			if (o != LOST)
				printf("  row %s: %s\n", name, outcome_names[o]);
			if (matrix_count(&x, o, name))
				return -1;
		}
	}
	return matrix_end(&x);
}
