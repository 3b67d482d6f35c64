/* SPDX-License-Identifier: MIT */
/*
 * memlock run BYTES COMMAND...: runs a command that may lock so much memory and has no CAP_IPC_LOCK
 * to lock more. memlock set PID BYTES [RESOURCE]: changes a limit of a process that runs; RESOURCE is
 * memlock or as (address space), BYTES a number or max.
 */
#include <linux/capability.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

static int fail(const char *what)
{
	perror(what);
	return 1;
}

static int limit(pid_t pid, const char *bytes, const char *resource)
{
	int which = strcmp(resource, "as") ? RLIMIT_MEMLOCK : RLIMIT_AS;
	rlim_t n = strcmp(bytes, "max") ? strtoull(bytes, NULL, 10) : RLIM_INFINITY;
	/* Only the soft limit: raising it again needs nothing. */
	struct rlimit old, new;

	if (prlimit(pid, which, NULL, &old))
		return fail("prlimit");
	new = (struct rlimit){.rlim_cur = n, .rlim_max = n > old.rlim_max ? n : old.rlim_max};
	return prlimit(pid, which, &new, NULL) ? fail("prlimit") : 0;
}

int main(int argc, char **argv)
{
	if ((argc == 4 || argc == 5) && !strcmp(argv[1], "set"))
		return limit((pid_t)atoi(argv[2]), argv[3], argc == 5 ? argv[4] : "memlock");
	if (argc < 4 || strcmp(argv[1], "run")) {
		fprintf(stderr,
			"usage: memlock run BYTES COMMAND... | memlock set PID BYTES [RESOURCE]\n");
		return 2;
	}
	if (limit(0, argv[2], "memlock"))
		return 1;
	/* exec gives root whatever the bounding set leaves. */
	if (prctl(PR_CAPBSET_DROP, CAP_IPC_LOCK, 0, 0, 0))
		return fail("PR_CAPBSET_DROP");
	execv(argv[3], argv + 3);
	return fail(argv[3]);
}
