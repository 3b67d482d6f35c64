/* SPDX-License-Identifier: MIT */
/*
 * memlock run BYTES COMMAND...: runs a command that may lock so much memory and has no CAP_IPC_LOCK
 * to lock more. memlock set PID BYTES: changes the limit of a process that runs.
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

static int limit(pid_t pid, const char *bytes)
{
	rlim_t n = strtoull(bytes, NULL, 10);
	/* Only the soft limit: raising it again needs nothing. */
	struct rlimit old, new;

	if (prlimit(pid, RLIMIT_MEMLOCK, NULL, &old))
		return fail("prlimit");
	new = (struct rlimit){.rlim_cur = n, .rlim_max = n > old.rlim_max ? n : old.rlim_max};
	return prlimit(pid, RLIMIT_MEMLOCK, &new, NULL) ? fail("prlimit") : 0;
}

int main(int argc, char **argv)
{
	if (argc == 4 && !strcmp(argv[1], "set"))
		return limit((pid_t)atoi(argv[2]), argv[3]);
	if (argc < 4 || strcmp(argv[1], "run")) {
		fprintf(stderr, "usage: memlock run BYTES COMMAND... | memlock set PID BYTES\n");
		return 2;
	}
	if (limit(0, argv[2]))
		return 1;
	/* exec gives root whatever the bounding set leaves. */
	if (prctl(PR_CAPBSET_DROP, CAP_IPC_LOCK, 0, 0, 0))
		return fail("PR_CAPBSET_DROP");
	execv(argv[3], argv + 3);
	return fail(argv[3]);
}
