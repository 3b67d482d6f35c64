/* SPDX-License-Identifier: MIT */
/* Which process is which, and whether one has anything left to do. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "tests/guest/inject/inject.h"

#define MAX_POLL 16

static ssize_t read_file(const char *path, char *text, size_t size)
{
	size_t len = 0;
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	for (ssize_t n; fd >= 0 && (n = read(fd, text + len, size - 1 - len)) > 0;)
		len += (size_t)n;
	if (fd >= 0)
		close(fd);
	text[len] = 0;
	return (ssize_t)len;
}

pid_t inject_worker(pid_t parent)
{
	char path[64], text[128], *end;
	snprintf(path, sizeof(path), "/proc/%d/task/%d/children", (int)parent, (int)parent);
	read_file(path, text, sizeof(text));
	pid_t pid = (pid_t)strtol(text, &end, 10);
	return pid > 0 && end[strspn(end, " ")] == 0 ? pid : 0;
}

pid_t inject_tgid_of(pid_t tid)
{
	char path[64], text[512];
	int tgid = 0;
	snprintf(path, sizeof(path), "/proc/%d/status", (int)tid);
	read_file(path, text, sizeof(text));
	const char *p = strstr(text, "Tgid:");
	return p && sscanf(p + 5, "%d", &tgid) == 1 ? tgid : 0;
}

enum inject_role inject_role_of(pid_t pid, pid_t tid, unsigned *cpu)
{
	char path[64], name[32];
	snprintf(path, sizeof(path), "/proc/%d/task/%d/comm", (int)pid, (int)tid);
	read_file(path, name, sizeof(name));
	return sscanf(name, "molt-cpu%u", cpu) == 1 ? ROLE_VCPU
	       : tid == pid			    ? ROLE_LEADER
						    : ROLE_LOOP;
}

/* As whom a child of the parent was started is in its environment. */
enum inject_image inject_image_of(pid_t pid)
{
	static char text[65536];
	static const char trial[] = "MOLT_ROLE=rehearsal";
	char path[64];
	snprintf(path, sizeof(path), "/proc/%d/environ", (int)pid);
	ssize_t len = read_file(path, text, sizeof(text));
	return len > 0 && memmem(text, (size_t)len, trial, sizeof(trial) - 1) ? IMAGE_TRIAL
									      : IMAGE_NEW;
}

int inject_read(pid_t pid, uint64_t at, void *to, size_t len)
{
	struct iovec ours = {to, len}, theirs = {(void *)(uintptr_t)at, len};
	return process_vm_readv(pid, &ours, 1, &theirs, 1, 0) == (ssize_t)len ? 0 : -1;
}

int inject_write(pid_t pid, uint64_t at, const void *from, size_t len)
{
	struct iovec ours = {(void *)(uintptr_t)from, len}, theirs = {(void *)(uintptr_t)at, len};
	return process_vm_writev(pid, &ours, 1, &theirs, 1, 0) == (ssize_t)len ? 0 : -1;
}

/* A signal for the leader's signalfd. */
static bool signal_waits(pid_t pid)
{
	static const int waited[] = {SIGUSR1, SIGTERM, SIGINT, SIGHUP, SIGCHLD, SIGURG};
	static const char *const lines[] = {"SigPnd:", "ShdPnd:"};
	char path[64], text[2048];
	unsigned long long pending = 0, mask = 0, set;

	snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
	read_file(path, text, sizeof(text));
	for (unsigned i = 0; i < 2; i++) {
		const char *p = strstr(text, lines[i]);
		if (p && sscanf(p + 7, "%llx", &set) == 1)
			pending |= set;
	}
	for (unsigned i = 0; i < sizeof(waited) / sizeof(waited[0]); i++)
		mask |= 1ull << (waited[i] - 1);
	return pending & mask;
}

bool inject_quiet(const struct inject_process *p)
{
	struct pollfd list[MAX_POLL];
	bool quiet = !signal_waits(p->pid);
	if (p->npoll > MAX_POLL || inject_read(p->pid, p->poll, list, p->npoll * sizeof(*list)))
		return false;
	int pidfd = (int)syscall(SYS_pidfd_open, p->pid, 0);
	/* The first is the signalfd, which tells of the signals of whoever asks. */
	for (unsigned i = 1; quiet && i < p->npoll; i++) {
		if (list[i].fd < 0)
			continue;
		struct pollfd one = {.events = list[i].events};
		one.fd = (int)syscall(SYS_pidfd_getfd, pidfd, list[i].fd, 0);
		quiet = one.fd >= 0 && poll(&one, 1, 0) == 0;
		if (one.fd >= 0)
			close(one.fd);
	}
	close(pidfd);
	return quiet;
}
