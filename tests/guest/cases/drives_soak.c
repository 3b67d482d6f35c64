/* SPDX-License-Identifier: MIT */
/*
 * Many updates under the stress guest: what the process holds, at rest after each of them. Nothing may
 * grow: descriptors, threads and children not by one; memory and pause not from the first hundred
 * updates to the last hundred, but for the noise of a machine that does other things as well.
 */
#include "tests/guest/cases/drives.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "tests/guest/runner/session.h"

#define BOOT_MS	     30000
#define REST_MS	     10000
#define WINDOW	     100
#define ROOM_KIB     256 /* over the whole run: 26 bytes an update when there are 10,000 */
#define PAUSE_FACTOR 3

enum rule {
	EXACT,	/* as it was before the first update, after each one */
	NUMBER, /* last hundred not over the first hundred */
	MEMORY, /* the same, but for ROOM_KIB */
	TIME, /* the same of the quickest tenth, which a busy machine slows least, but for PAUSE_FACTOR */
	TOLD, /* not judged */
};

enum file {
	COUNTED,
	STATUS,
	SMAPS,
	PARENT
}; /* of the worker, but for the last: the parent's status */

static const struct {
	const char *name;
	enum rule rule;
	enum file file;
	const char *key; /* line of that file in /proc/PID */
} figures[] = {
	{"fds", EXACT, COUNTED, NULL},		 /* 0 */
	{"threads", EXACT, COUNTED, NULL},	 /* 1 */
	{"children", EXACT, COUNTED, NULL},	 /* 2: zombies too, until they are reaped */
	{"last_fd", NUMBER, COUNTED, NULL},	 /* 3: the kernel's table is as long as that */
	{"pause_us", TOLD, COUNTED, NULL},	 /* 4 */
	{"quick_us", TIME, COUNTED, NULL},	 /* 5 */
	{"rss_kib", MEMORY, STATUS, "VmRSS"},	 /* guest memory too, what of it was touched */
	{"anon_kib", MEMORY, STATUS, "RssAnon"}, /* molt's own */
	{"data_kib", MEMORY, STATUS, "VmData"},	 /* the same, touched or not */
	{"tables_kib", MEMORY, STATUS, "VmPTE"}, /* the kernel's, for this process */
	{"private_kib", MEMORY, SMAPS, "Private_Dirty"}, /* nobody else's */
	{"fd_table", NUMBER, STATUS, "FDSize"},		 /* its room */
	{"parent_fds", EXACT, COUNTED, NULL},		 /* 12 */
	{"parent_kib", MEMORY, PARENT, "RssAnon"},
	{"parent_table", NUMBER, PARENT, "FDSize"},
};
#define FIGURES (sizeof(figures) / sizeof(figures[0]))

/* Places in that table. */
enum { FDS, THREADS, CHILDREN, LAST_FD, PAUSE, QUICK, PARENT_FDS = 12 };

struct sample {
	uint64_t value[FIGURES];
};

static struct {
	struct sample fresh, *samples;
	unsigned n;
} soak;

/* Entries of a folder of /proc/PID; @last: the largest number among them. */
static int folder_count(struct session *s, pid_t pid, const char *name, uint64_t *n, uint64_t *last)
{
	char path[64];
	snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, name);
	DIR *dir = opendir(path);
	if (!dir)
		return session_fail(s, "%s: %s", path, strerror(errno));
	*n = *last = 0;
	for (struct dirent *e; (e = readdir(dir));) {
		if (e->d_name[0] == '.')
			continue;
		uint64_t number = strtoull(e->d_name, NULL, 10);
		*last = number > *last ? number : *last;
		++*n;
	}
	closedir(dir);
	return 0;
}

static int file_read(struct session *s, pid_t pid, const char *name, char *text, size_t size)
{
	char path[64];
	snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, name);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, text, size - 1);
	if (fd >= 0)
		close(fd);
	if (n < 0)
		return session_fail(s, "%s: %s", path, strerror(errno));
	text[n] = 0;
	return 0;
}

static int count(struct session *s, struct sample *to)
{
	pid_t worker = session_worker(s);
	uint64_t unused;

	if (!worker)
		return session_fail(s, "there is no worker");
	to->value[CHILDREN] = session_children(s, NULL, NULL);
	return folder_count(s, worker, "fd", &to->value[FDS], &to->value[LAST_FD]) ||
			       folder_count(s, worker, "task", &to->value[THREADS], &unused) ||
			       folder_count(s, s->pid, "fd", &to->value[PARENT_FDS], &unused)
		       ? -1
		       : 0;
}

static int measure(struct session *s, struct sample *to)
{
	char text[4][4096] = {"", "\n", "\n", "\n"};
	pid_t worker = session_worker(s);
	if (file_read(s, worker, "status", text[STATUS] + 1, sizeof(text[0]) - 1) ||
	    file_read(s, worker, "smaps_rollup", text[SMAPS] + 1, sizeof(text[0]) - 1) ||
	    file_read(s, s->pid, "status", text[PARENT] + 1, sizeof(text[0]) - 1))
		return -1;
	for (unsigned i = 0; i < FIGURES; i++) {
		char line[32];
		if (figures[i].file == COUNTED)
			continue;
		snprintf(line, sizeof(line), "\n%s:", figures[i].key);
		const char *p = strstr(text[figures[i].file], line);
		if (!p)
			return session_fail(s, "no %s of process %d", figures[i].key, (int)worker);
		to->value[i] = strtoull(p + strlen(line), NULL, 10);
	}
	return 0;
}

/* Whether the parent waits in its loop: before and after its exec, never during it, when most of its memory is not
 * there yet. */
static bool parent_waits(struct session *s)
{
	char text[256], number[16];
	snprintf(number, sizeof(number), "%d ", SYS_poll);
	return !file_read(s, s->pid, "syscall", text, sizeof(text)) &&
	       !strncmp(text, number, strlen(number));
}

/* After the record molt still closes what it need not hold, the worker before ends in its own time, and then the parent
 * becomes the new program. */
static int come_to_rest(struct session *s, struct sample *now)
{
	for (unsigned ms = 0;; ms++) {
		bool same = true;
		if (count(s, now))
			return -1;
		for (unsigned i = 0; i < FIGURES; i++)
			same = same &&
			       (figures[i].rule != EXACT || now->value[i] == soak.fresh.value[i]);
		if (same && parent_waits(s))
			return 0;
		if (ms >= REST_MS * s->set->slow && same)
			return session_fail(
				s, "after update %u: the parent does not come to wait in poll()",
				s->updates);
		for (unsigned i = 0; ms >= REST_MS * s->set->slow && i < FIGURES; i++)
			if (figures[i].rule == EXACT && now->value[i] != soak.fresh.value[i])
				return session_fail(
					s, "after update %u: %s: %llu, %llu before the first",
					s->updates, figures[i].name,
					(unsigned long long)now->value[i],
					(unsigned long long)soak.fresh.value[i]);
		if (session_wait_us(s, 1000))
			return -1;
	}
}

static int on_update(struct session *s)
{
	struct sample *now = &soak.samples[soak.n];
	if (soak.n == s->max_updates || come_to_rest(s, now) || measure(s, now))
		return -1;
	now->value[PAUSE] = now->value[QUICK] = s->pauses_ns[s->updates - 1] / 1000;
	soak.n++;
	return 0;
}

static int compare(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
	return x < y ? -1 : x > y;
}

/* Of @n samples from @from on: the largest of numbers, the lowest tenth of times and sizes, the median of others. */
static uint64_t window(unsigned figure, unsigned from, unsigned n)
{
	uint64_t values[WINDOW];
	for (unsigned i = 0; i < n; i++)
		values[i] = soak.samples[from + i].value[figure];
	qsort(values, n, sizeof(values[0]), compare);
	switch (figures[figure].rule) {
	case NUMBER:
		return values[n - 1];
	case TOLD:
		return values[n / 2];
	default: /* what grows does so in the lowest as well, what only passes does not */
		return values[n / 10];
	}
}

/* @n: how many samples each stands for. */
static bool grown(enum rule rule, unsigned n, uint64_t first, uint64_t last)
{
	switch (rule) {
	case MEMORY:
		return last > first + ROOM_KIB;
	case TIME:
		return n == WINDOW && last > first * PAUSE_FACTOR;
	case TOLD:
		return false;
	default:
		return last > first;
	}
}

/* One line for machines: each figure of the first and of the last hundred. */
static int judge(struct session *s)
{
	unsigned n = soak.n / 3 < WINDOW ? soak.n / 3 : WINDOW;
	int rc = 0;

	printf("SOAK updates=%u window=%u", soak.n, n);
	for (unsigned i = 0; n && i < FIGURES; i++) {
		uint64_t first = window(i, 0, n), last = window(i, soak.n - n, n);
		printf(" %s=%llu,%llu", figures[i].name, (unsigned long long)first,
		       (unsigned long long)last);
		if (grown(figures[i].rule, n, first, last))
			rc = session_fail(
				s, "%s grows: %llu over the first %u updates, %llu over the last",
				figures[i].name, (unsigned long long)first, n,
				(unsigned long long)last);
	}
	printf("\n");
	return rc;
}

int drive_soak(struct session *s, unsigned updates)
{
	soak.n = 0;
	soak.samples = calloc(updates + 1, sizeof(*soak.samples));
	if (!soak.samples)
		return session_fail(s, "%u samples: no memory", updates);
	s->on_update = on_update;
	int rc = session_expect(s, "READY", BOOT_MS) || count(s, &soak.fresh);
	if (!rc)
		rc = stress_run(s, updates);
	if (!rc)
		rc = judge(s);
	free(soak.samples);
	return rc;
}
