/* SPDX-License-Identifier: MIT */
/* What molt may do, and what it does when it is made to do more. */
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/guest/cases/cases.h"
#include "tests/guest/cases/drives.h"
#include "tests/guest/runner/session.h"
#include "tests/guest/runner/session_user.h"

#define BOOT_MS	    20000
#define MAPPING_MAX (1ul << 30) /* looked into */
#define VIOLATION   159		/* 128 + SIGSYS */

/* A field of /proc/PID/task/TID/status, without its first blanks. */
static bool status_is(pid_t pid, const char *tid, const char *name, const char *want)
{
	char path[320], text[4096];

	snprintf(path, sizeof(path), "/proc/%d/task/%s/status", (int)pid, tid);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? 0 : read(fd, text, sizeof(text) - 1);
	if (fd >= 0)
		close(fd);
	text[n > 0 ? n : 0] = 0;
	const char *p = strstr(text, name);
	if (!p)
		return false;
	p += strlen(name);
	p += strspn(p, ":\t ");
	return !strncmp(p, want, strlen(want));
}

/* The process that the world knows: no filter, which its children would have too, but no way to more privileges; and
 * nothing of the guest's. */
static int check_parent(struct session *s)
{
	char tid[16];

	snprintf(tid, sizeof(tid), "%d", (int)s->pid);
	if (!status_is(s->pid, tid, "NoNewPrivs:", "1") || !status_is(s->pid, tid, "Seccomp:", "0"))
		return session_fail(s, "the parent has a filter, or may gain privileges");
	return session_settle(s);
}

/* The leader has no filter, each other thread one; nobody gains privileges by exec. */
static int check_filters(struct session *s, bool on)
{
	char path[64], leader[16];
	unsigned filtered = 0;
	pid_t worker = session_worker(s);

	if (check_parent(s))
		return -1;
	snprintf(path, sizeof(path), "/proc/%d/task", (int)worker);
	snprintf(leader, sizeof(leader), "%d", (int)worker);
	DIR *dir = opendir(path);
	for (struct dirent *e; dir && (e = readdir(dir));) {
		/* KVM has threads of its own in the process, which make no system calls. */
		if (e->d_name[0] == '.' || !status_is(worker, e->d_name, "Name:", "molt"))
			continue;
		bool want = on && strcmp(e->d_name, leader);
		/* The event loop's comes last, when the guest runs already. */
		for (int i = 0;
		     i < 1000 && !status_is(worker, e->d_name, "Seccomp:", want ? "2" : "0"); i++)
			usleep(1000);
		if (!status_is(worker, e->d_name, "Seccomp:", want ? "2" : "0") ||
		    (want && !status_is(worker, e->d_name, "Seccomp_filters:", "1\n")))
			session_fail(s, "thread %s (leader %s) has not the filters it should have",
				     e->d_name, leader);
		if (!status_is(worker, e->d_name, "NoNewPrivs:", "1"))
			session_fail(s, "thread %s: no_new_privs", e->d_name);
		filtered += want;
	}
	if (dir)
		closedir(dir);
	if (on && filtered != s->test->cpus + 1)
		session_fail(s, "%u threads with a filter", filtered);
	return s->error[0] ? -1 : 0;
}

int drive_user(struct session *s, unsigned updates)
{
	char leader[16];

	if (session_expect(s, "READY", BOOT_MS) || check_filters(s, true))
		return -1;
	pid_t worker = session_worker(s);
	snprintf(leader, sizeof(leader), "%d", (int)worker);
	if (!status_is(worker, leader, "Uid:", "65534\t65534\t65534\t65534") ||
	    !status_is(worker, leader, "CapPrm:", "0000000000000000") ||
	    !status_is(worker, leader, "CapEff:", "0000000000000000"))
		return session_fail(s, "molt is no ordinary user's process");
	if (drive_updates(s, updates / 2) || session_user_close(s) ||
	    drive_updates(s, updates - updates / 2) || check_filters(s, true))
		return -1;
	return session_send(s, "q", 1) || session_finish(s) ? -1 : 0;
}

/* How often the secret guest's pattern is in the mappings of molt that are, or are not, guest memory. */
static unsigned count_pattern(struct session *s, bool guest_memory)
{
	const uint64_t p0 = 0x0123456789abcdefull * 0x9e3779b97f4a7c15ull, pattern[2] = {p0, ~p0};
	char path[64], line[512];
	static char chunk[1 << 20];
	unsigned long from, to;
	unsigned found = 0;
	pid_t worker = session_worker(s);

	snprintf(path, sizeof(path), "/proc/%d/maps", (int)worker);
	FILE *maps = fopen(path, "re");
	snprintf(path, sizeof(path), "/proc/%d/mem", (int)worker);
	int mem = open(path, O_RDONLY | O_CLOEXEC);
	while (maps && mem >= 0 && fgets(line, sizeof(line), maps)) {
		bool ram = strstr(line, "/memfd:") && strstr(line, "ram");
		/* A sanitizer's shadow is larger than all else, and empty but for it. */
		if (sscanf(line, "%lx-%lx", &from, &to) != 2 || to - from > MAPPING_MAX ||
		    !strstr(line, " r") || strstr(line, "anon_inode:") || ram != guest_memory)
			continue;
		for (; from < to; from += sizeof(chunk)) {
			size_t want = to - from < sizeof(chunk) ? to - from : sizeof(chunk);
			ssize_t n = pread(mem, chunk, want, (off_t)from);
			char *at = chunk;
			while (n > 0 && (at = memmem(at, (size_t)(chunk + n - at), pattern,
						     sizeof(pattern)))) {
				found++;
				at++;
			}
		}
	}
	if (maps)
		fclose(maps);
	if (mem >= 0)
		close(mem);
	return found;
}

int drive_secrets(struct session *s, unsigned updates)
{
	if (session_expect(s, "READY", BOOT_MS))
		return -1;
	for (unsigned i = 0; i < updates; i++) {
		if (drive_updates(s, 1))
			return -1;
		if (!count_pattern(s, true))
			return session_fail(s, "the pattern is not in the guest's memory");
		unsigned left = count_pattern(s, false);
		if (left)
			return session_fail(s, "%u copies of a register are left in molt's memory",
					    left);
	}
	return session_send(s, "q", 1) || session_finish(s) ? -1 : 0;
}

static int expect_logged(struct session *s, const char *const *texts)
{
	for (; *texts; texts++)
		if (!session_logged(s, *texts))
			return session_fail(s, "molt does not say '%s'", *texts);
	return 0;
}

int drive_forbid_kill(struct session *s, unsigned updates)
{
	static const char *const says[] = {"sandbox: thread molt-cpu", "system call getppid (110)",
					   "not allowed", NULL};

	s->forbidden = true;
	if (session_expect(s, "READY", BOOT_MS) || drive_updates(s, updates) ||
	    check_filters(s, true) || session_send(s, "f", 1) || session_exits(s, VIOLATION) ||
	    expect_logged(s, says))
		return -1;
	snprintf(s->line, sizeof(s->line), "ended with %d", VIOLATION);
	return 0;
}

int drive_forbid_log(struct session *s, unsigned updates)
{
	static const char *const says[] = {"system call getppid (110)", "system call ioctl (16)",
					   "request 0x541b", "not allowed, but made", NULL};

	s->forbidden = true;
	if (session_expect(s, "READY", BOOT_MS) || session_ask(s, 'f', "MADE 1") ||
	    drive_updates(s, updates) || session_ask(s, 'i', "MADE 2") || check_filters(s, true) ||
	    drive_updates(s, 1) || expect_logged(s, says))
		return -1;
	return session_send(s, "q", 1) || session_finish(s) ? -1 : 0;
}

int drive_forbid_off(struct session *s, unsigned updates)
{
	if (session_expect(s, "READY", BOOT_MS) || drive_updates(s, updates) ||
	    session_ask(s, 'f', "MADE 1") || session_ask(s, 'i', "MADE 2") ||
	    check_filters(s, false))
		return -1;
	return session_send(s, "q", 1) || session_finish(s) ? -1 : 0;
}
