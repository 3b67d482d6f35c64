/* SPDX-License-Identifier: MIT */
/* Limits of molt's process, lowered beneath it (prlimit) before an update and put back after it. */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "drives.h"
#include "matrix.h"
#include "session.h"

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

/* From @base + @from to @base + @to. */
static const struct {
	const char *name;
	int resource;
	unsigned long long (*base)(pid_t pid);
	long long from, to, step;
} rows[] = {
	{"RLIMIT_NOFILE", RLIMIT_NOFILE, count_fds, -2, 12, 1},
	{"RLIMIT_AS", RLIMIT_AS, address_space, -(long long)(4 * MIB), 24 * MIB, 512 * KIB},
	{"RLIMIT_FSIZE", RLIMIT_FSIZE, nothing, 64 * KIB, 256 * KIB, 16 * KIB},
	{"RLIMIT_STACK", RLIMIT_STACK, nothing, 0, 256 * KIB, 32 * KIB},
	{"RLIMIT_DATA", RLIMIT_DATA, nothing, 0, 2 * MIB, 64 * KIB},
	{"RLIMIT_MEMLOCK", RLIMIT_MEMLOCK, nothing, 0, 0, 1},
	{"RLIMIT_SIGPENDING", RLIMIT_SIGPENDING, nothing, 0, 0, 1},
	{"RLIMIT_CORE", RLIMIT_CORE, nothing, 0, 0, 1},
};

static enum outcome run_row(struct matrix *x, int resource, rlim_t limit)
{
	struct session *s = x->s;
	struct rlimit before, low;

	if (prlimit(s->pid, resource, NULL, &before))
		return LOST;
	low = (struct rlimit){limit, before.rlim_max};
	if (limit > before.rlim_max)
		low.rlim_cur = before.rlim_max;
	matrix_row_begin(x);
	if (session_install(s, false) || prlimit(s->pid, resource, &low, NULL))
		return LOST;
	x->in.nshots = 0;
	x->in.keeper = true; /* it has the limit too */
	if (inject_update(s, &x->in) || matrix_owner(x, x->in.pid))
		return LOST;
	prlimit(s->pid, resource, &before, NULL);
	return matrix_judge(x, x->in.image == IMAGE_OLD	  ? REFUSED
			       : x->in.image == IMAGE_NEW ? DONE
							  : BACK);
}

int drive_limits(struct session *s, unsigned updates)
{
	static struct matrix x;
	char name[64];
	(void)updates;

	if (matrix_begin(&x, s, NULL))
		return -1;
	for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		for (long long n = rows[i].from; n <= rows[i].to; n += rows[i].step) {
			long long limit = (long long)rows[i].base(s->pid) + n;
			snprintf(name, sizeof(name), "%s %lld", rows[i].name, limit);
			enum outcome o = run_row(&x, rows[i].resource, (rlim_t)limit);
			if (o != LOST)
				printf("  row %s: %s\n", name, outcome_names[o]);
			if (matrix_count(&x, o, name))
				return -1;
		}
	}
	return matrix_end(&x);
}
