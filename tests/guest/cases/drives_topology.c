/* SPDX-License-Identifier: MIT */
/* --cpus: what the guest sees of its processors, and where they run. */
#include <dirent.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/guest/cases/cases.h"
#include "tests/guest/cases/drives.h"
#include "tests/guest/runner/session.h"

#define BOOT_MS 30000

static bool is_vcpu(const char *folder, const char *tid)
{
	char path[360], name[32] = "";

	snprintf(path, sizeof(path), "%s/%s/comm", folder, tid);
	FILE *f = fopen(path, "re");
	if (f && !fgets(name, sizeof(name), f))
		name[0] = 0;
	if (f)
		fclose(f);
	return !strncmp(name, "molt-cpu", 8);
}

/* As affinity=0 says. */
static int check_pinned(struct session *s)
{
	char folder[64];
	unsigned n = 0;

	snprintf(folder, sizeof(folder), "/proc/%d/task", (int)session_worker(s));
	DIR *dir = opendir(folder);
	for (struct dirent *e; dir && (e = readdir(dir));) {
		cpu_set_t set;
		if (!is_vcpu(folder, e->d_name))
			continue;
		n++;
		if (sched_getaffinity(atoi(e->d_name), sizeof(set), &set) || CPU_COUNT(&set) != 1 ||
		    !CPU_ISSET(0, &set))
			session_fail(s, "thread %s may run elsewhere", e->d_name);
	}
	if (dir)
		closedir(dir);
	if (n != s->test->cpus)
		session_fail(s, "%u vCPU threads", n);
	return s->error[0] ? -1 : 0;
}

int drive_topology(struct session *s, unsigned updates)
{
	bool pinned = strstr(s->test->args[1], "affinity=0");

	if (session_expect(s, "READY", BOOT_MS) || (pinned && check_pinned(s)))
		return -1;
	for (unsigned i = 0; i < updates; i++)
		if (drive_updates(s, 1) || session_ask(s, 't', "LOOKED"))
			return -1;
	if (session_settle(s) || (pinned && check_pinned(s)))
		return -1;
	return session_send(s, "q", 1) || session_finish(s) ? -1 : 0;
}
