/* SPDX-License-Identifier: MIT */
#include "tests/guest/runner/aftermath.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/guest/cases/cases.h"
#include "tests/guest/inject/inject.h"
#include "tests/guest/runner/session.h"

#define MAX_LINES 512
#define WAIT_MS	  20000 /* the parent waits for a VM's end, which takes seconds on a busy host */

static size_t read_text(const char *path, char *text, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? 0 : read(fd, text, size - 1);
	if (fd >= 0)
		close(fd);
	text[n > 0 ? n : 0] = 0;
	return strlen(text);
}

static int compare(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

struct lines {
	pid_t pid; /* whose */
	char *line[MAX_LINES];
	unsigned n;
};

static void add(struct lines *l, const char *text)
{
	if (l->n < MAX_LINES && (l->line[l->n] = strdup(text)))
		l->n++;
}

/* With which a worker warms where KVM_PRE_FAULT_MEMORY is refused; KVM keeps a vCPU as long as its VM. */
static bool is_readers_vcpu(const struct session *s, const char *link)
{
	unsigned index;
	return sscanf(link, "anon_inode:kvm-vcpu:%u", &index) == 1 && index >= s->test->cpus;
}

/* A disk whose ring is refused has threads until the next update; one that has it, threads of the kernel at times. */
static bool may_lack_its_ring(const struct session *s)
{
	for (unsigned i = 0; i < TEST_ARGS && s->test->args[i]; i++)
		if (strstr(s->test->args[i], "aio=io_uring"))
			return true;
	return false;
}

static bool is_engines(const struct session *s, const char *what)
{
	static const char *const engines[] = {"anon_inode:[io_uring]", "anon_inode:[eventpoll]",
					      "molt-disk", "iou-"};
	bool is = false;
	for (unsigned i = 0; i < sizeof(engines) / sizeof(engines[0]); i++)
		is |= !strncmp(what, engines[i], strlen(engines[i]));
	return is && may_lack_its_ring(s);
}

/* The program's file is another one after each update, and the old one's name has gone: one name. */
static void describe_fd(struct session *s, const char *number, struct lines *l)
{
	char path[64], link[256], info[512], text[400];
	unsigned flags = 0;

	snprintf(path, sizeof(path), "/proc/%d/fd/%.8s", (int)l->pid, number);
	ssize_t n = readlink(path, link, sizeof(link) - 1);
	if (n <= 0)
		return;
	link[n] = 0;
	if (is_readers_vcpu(s, link) || is_engines(s, link))
		return;
	snprintf(path, sizeof(path), "/proc/%d/fdinfo/%.8s", (int)l->pid, number);
	read_text(path, info, sizeof(info));
	char *p = strstr(info, "flags:");
	if (p)
		sscanf(p + 6, "%o", &flags);
	bool program = !strncmp(link, s->dir, strlen(s->dir)) && strstr(link, "/molt");
	if (!strncmp(link, "socket:", 7)) /* another pair after each update */
		link[7] = 0;
	snprintf(text, sizeof(text), "%s%s", program ? "the program" : link,
		 flags & O_CLOEXEC ? "" : " (stays over exec)");
	add(l, text);
}

static void describe_thread(struct session *s, const char *tid, struct lines *l)
{
	char path[64], name[32], text[64];
	snprintf(path, sizeof(path), "/proc/%d/task/%.8s/comm", (int)l->pid, tid);
	if (!read_text(path, name, sizeof(name)))
		return;
	name[strcspn(name, "\n")] = 0;
	if (is_engines(s, name))
		return;
	snprintf(text, sizeof(text), "thread %s", name);
	add(l, text);
}

static void each(struct session *s, const char *folder, struct lines *l,
		 void (*describe)(struct session *, const char *, struct lines *))
{
	char path[64];
	snprintf(path, sizeof(path), "/proc/%d/%s", (int)l->pid, folder);
	DIR *dir = opendir(path);
	for (struct dirent *e; dir && (e = readdir(dir));)
		if (e->d_name[0] != '.')
			describe(s, e->d_name, l);
	if (dir)
		closedir(dir);
}

static int describe(struct session *s, pid_t pid, const char *who, char *text, size_t size)
{
	static struct lines l;
	size_t len = 0;

	l.pid = pid;
	l.n = 0;
	each(s, "fd", &l, describe_fd);
	each(s, "task", &l, describe_thread);
	qsort(l.line, l.n, sizeof(l.line[0]), compare);
	text[0] = 0;
	for (unsigned i = 0; i < l.n; i++) {
		len += (size_t)snprintf(text + len, size - len, "%s: %s\n", who, l.line[i]);
		free(l.line[i]);
		if (len >= size)
			return session_fail(s, "too many descriptors");
	}
	return 0;
}

int aftermath_take(struct session *s, struct aftermath *a)
{
	const size_t half = sizeof(a->text) / 2;
	char worker[sizeof(a->text) / 2];
	if (describe(s, s->pid, "parent", a->text, half) ||
	    describe(s, inject_worker(s->pid), "worker", worker, half))
		return -1;
	strcat(a->text, worker);
	return 0;
}

/* The first line that only one of them has. */
static void difference(const char *a, const char *b, char *out, size_t size)
{
	while (*a && *b) {
		size_t na = strcspn(a, "\n"), nb = strcspn(b, "\n");
		int order = strncmp(a, b, na > nb ? na : nb);
		if (order) {
			snprintf(out, size, "%s: %.*s", order < 0 ? "gone" : "left over",
				 (int)(order < 0 ? na : nb), order < 0 ? a : b);
			return;
		}
		a += na + 1;
		b += nb + 1;
	}
	const char *rest = *a ? a : b;
	snprintf(out, size, "%s: %.*s", *a ? "gone" : "left over", (int)strcspn(rest, "\n"), rest);
}

/* Children of any of its threads, in @text. */
static size_t children(pid_t pid, char *text, size_t size)
{
	char path[64];
	size_t len = 0;

	snprintf(path, sizeof(path), "/proc/%d/task", (int)pid);
	DIR *dir = opendir(path);
	text[0] = 0;
	for (struct dirent *e; dir && (e = readdir(dir));) {
		if (e->d_name[0] == '.')
			continue;
		snprintf(path, sizeof(path), "/proc/%d/task/%.8s/children", (int)pid, e->d_name);
		len += read_text(path, text + len, size - len);
	}
	if (dir)
		closedir(dir);
	return len;
}

/* A process that nobody has any more is ours. */
static bool is_only_child(struct session *s, char *ours, size_t size)
{
	char only[32];
	snprintf(only, sizeof(only), "%d ", (int)s->pid);
	children(getpid(), ours, size);
	return !strcmp(ours, only);
}

int aftermath_check(struct session *s, const struct aftermath *before)
{
	static struct aftermath now;
	char parents[256] = "", workers[256] = "", ours[256] = "", what[300];
	pid_t worker = 0;

	for (int ms = 0; ms < WAIT_MS * (int)s->set->slow; ms++) {
		worker = inject_worker(s->pid);
		if (aftermath_take(s, &now))
			return -1;
		children(s->pid, parents, sizeof(parents));
		children(worker, workers, sizeof(workers));
		if (worker && !workers[0] && !strcmp(before->text, now.text) &&
		    is_only_child(s, ours, sizeof(ours)))
			return 0;
		usleep(1000);
	}
	if (!worker)
		return session_fail(s, "molt has not one child, but: %s", parents);
	if (workers[0])
		return session_fail(s, "the worker has a child left over: %s", workers);
	if (!is_only_child(s, ours, sizeof(ours)))
		return session_fail(s, "a process is left over: %s(molt is %d)", ours, (int)s->pid);
	difference(before->text, now.text, what, sizeof(what));
	return session_fail(s, "%s", what);
}
