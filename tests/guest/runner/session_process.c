/* SPDX-License-Identifier: MIT */
/* molt's processes, as whoever may look into /proc sees them: the one that the world knows, and its workers. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/guest/cases/cases.h"
#include "tests/guest/runner/session.h"

#define SETTLE_MS    20000
#define MAX_CHILDREN 16

/* Second and third field of /proc/PID/stat: name and state. */
static bool process_is(pid_t pid, const char *name)
{
	char path[64], text[512];

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? 0 : read(fd, text, sizeof(text) - 1);
	if (fd >= 0)
		close(fd);
	text[n > 0 ? n : 0] = 0;
	const char *comm = strchr(text, '('), *end = strrchr(text, ')');
	return comm && end && end[1] == ' ' && end[2] != 'Z' && end[2] != 'X' &&
	       (!name || !strncmp(comm + 1, name, strlen(name)));
}

unsigned process_children(pid_t pid, pid_t *pids, unsigned max)
{
	char path[64], text[512];
	unsigned n = 0;

	snprintf(path, sizeof(path), "/proc/%d/task/%d/children", (int)pid, (int)pid);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t len = fd < 0 ? 0 : read(fd, text, sizeof(text) - 1);
	if (fd >= 0)
		close(fd);
	text[len > 0 ? len : 0] = 0;
	for (char *at = text, *end; *at; at = end) {
		pid_t child = (pid_t)strtol(at, &end, 10);
		if (end == at)
			break;
		if (n < max)
			pids[n] = child;
		n++;
	}
	return n;
}

/* At most @max of them. */
static unsigned children(const struct session *s, const char *name, pid_t *pids, unsigned max)
{
	pid_t all[MAX_CHILDREN];
	unsigned found = process_children(s->pid, all, MAX_CHILDREN), n = 0;

	for (unsigned i = 0; i < found && i < MAX_CHILDREN; i++) {
		if (!process_is(all[i], name))
			continue;
		if (n < max)
			pids[n] = all[i];
		n++;
	}
	return n;
}

unsigned session_children(const struct session *s, const char *name, pid_t *pid)
{
	return children(s, name, pid, pid ? 1 : 0);
}

/* The youngest: who has given the guest away is called so until it notices. */
pid_t session_worker(const struct session *s)
{
	pid_t workers[MAX_CHILDREN];
	unsigned n = 0;

	/* The kernel's list leaves some out when a child before them ends while it is read (proc(5)). */
	for (unsigned look = 0; !n && look < 3; look++)
		n = children(s, "molt-worker", workers, MAX_CHILDREN);
	return n ? workers[n - 1] : 0;
}

void session_kill(struct session *s)
{
	pid_t workers[MAX_CHILDREN];

	if (s->pid <= 0 || s->exited)
		return;
	unsigned n = children(s, NULL, workers, MAX_CHILDREN);
	kill(s->pid, SIGKILL);
	waitpid(s->pid, NULL, 0);
	s->exited = true;
	for (unsigned i = 0; i < n && i < MAX_CHILDREN; i++) {
		if (process_is(workers[i], "molt"))
			kill(workers[i], SIGKILL);
		waitpid(workers[i], NULL, 0); /* ours where we are the subreaper */
	}
}

int session_program_of(const char *path, struct program_file *file)
{
	struct stat st;
	if (stat(path, &st))
		return -1;
	*file = (struct program_file){st.st_dev, st.st_ino};
	return 0;
}

int session_same_pid(struct session *s)
{
	pid_t pid = (pid_t)record_number(s->record, "pid"), known = s->test->container ? 1 : s->pid;
	if (pid != known)
		return session_fail(s, "after update %u the process id is %d, it was %d",
				    s->updates, (int)pid, (int)known);
	return session_alive(s) ? 0 : session_fail(s, "process %d has ended", (int)s->pid);
}

/* What the guest consists of is the worker's alone. */
static int parent_holds(struct session *s)
{
	static const char *const guests[] = {"kvm", "memfd:", "[eventfd]", "vfio", "iommu"};
	char path[64], target[96];

	for (int fd = 3; fd < 256; fd++) {
		snprintf(path, sizeof(path), "/proc/%d/fd/%d", (int)s->pid, fd);
		ssize_t n = readlink(path, target, sizeof(target) - 1);
		target[n > 0 ? n : 0] = 0;
		for (unsigned i = 0; i < sizeof(guests) / sizeof(guests[0]); i++)
			if (strstr(target, guests[i]))
				return session_fail(s, "the parent has %s", target);
	}
	return 0;
}

/* NULL: all is as it is at rest. */
static const char *unrest(const struct session *s)
{
	struct program_file exe;
	char path[64];

	if (!session_worker(s))
		return "there is no worker";
	if (session_children(s, NULL, NULL) != 1)
		return "a child beside the worker is left over";
	snprintf(path, sizeof(path), "/proc/%d/exe", (int)s->pid);
	if (session_program_of(path, &exe))
		return "its program cannot be looked at";
	if (exe.dev != s->running.dev || exe.ino != s->running.ino)
		return "the process that the world knows does not become the new program";
	return NULL;
}

int session_settle(struct session *s)
{
	uint64_t until = clock_ns() + SETTLE_MS * 1000000ull * s->set->slow;
	const char *why;

	while ((why = unrest(s))) {
		if (session_idle(s))
			return -1;
		if (clock_ns() > until)
			return session_fail(s, "after update %u: %s", s->updates, why);
		usleep(1000);
	}
	return parent_holds(s);
}
