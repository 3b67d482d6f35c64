/* SPDX-License-Identifier: MIT */
#include "tests/guest/cases/drives.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "tests/guest/cases/cases.h"
#include "tests/guest/runner/session.h"

#define BOOT_MS	     30000
#define BOOT_MANY_MS 120000

static int wait_random(struct session *s)
{
	const struct test_case *t = s->test;

	return session_wait_us(s, t->min_us + session_random(s, t->max_us - t->min_us + 1));
}

int drive_updates(struct session *s, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		if (wait_random(s) || session_update(s))
			return -1;
	return 0;
}

/* The new program builds at a higher nice value than the guest has: none of its threads keeps that, nor does one that
 * KVM has made for it. */
static int nobody_is_nicer(struct session *s)
{
	char path[64];
	int rc = 0, due = getpriority(PRIO_PROCESS, 0);
	snprintf(path, sizeof(path), "/proc/%d/task", (int)session_worker(s));
	DIR *tasks = opendir(path);
	for (const struct dirent *e; tasks && (e = readdir(tasks));) {
		id_t tid = (id_t)strtoul(e->d_name, NULL, 10);
		int nice = tid ? getpriority(PRIO_PROCESS, tid) : due;
		if (nice != due)
			rc = session_fail(s, "thread %u of the worker has nice value %d", tid,
					  nice);
	}
	if (tasks)
		closedir(tasks);
	return rc;
}

int drive_plain(struct session *s, unsigned updates)
{
	if (session_expect(s, "READY", BOOT_MS) || drive_updates(s, updates) || nobody_is_nicer(s))
		return -1;
	return session_wait_us(s, 20000) || session_send(s, "q", 1) || session_finish(s) ? -1 : 0;
}

static int bounds_add(struct session *s, struct tsc_bounds *b, const char *how, int64_t low,
		      int64_t high)
{
	if (low > b->high || high < b->low)
		return session_fail(s, "after update %u the guest's TSC (%s) is %s by %lld ticks",
				    s->updates, how, low > b->high ? "ahead" : "behind",
				    (long long)(low > b->high ? low - b->high : b->low - high));
	if (low > b->low)
		b->low = low;
	if (high < b->high)
		b->high = high;
	return 0;
}

int tsc_sample(struct session *s, struct tsc_bounds b[2])
{
	unsigned long long tsc, msr;
	uint64_t before = host_tsc();

	if (session_ask(s, 't', "TSC "))
		return -1;
	uint64_t after = host_tsc();
	if (sscanf(s->line, "TSC %llu %llu", &tsc, &msr) != 2)
		return session_fail(s, "'%s'", s->line);
	return bounds_add(s, &b[0], "RDTSC", (int64_t)(tsc - after), (int64_t)(tsc - before)) ||
	       bounds_add(s, &b[1], "MSR", (int64_t)(msr - after), (int64_t)(msr - before));
}

static int compare(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

/* Sorts. */
static uint64_t median(uint64_t *ns, unsigned n)
{
	qsort(ns, n, sizeof(*ns), compare);
	return n ? ns[n / 2] : 0;
}

int gap_update(struct session *s, uint64_t *ns)
{
	/* Little time beside the update: what else the host does with our CPU counts too. */
	if (wait_random(s) || session_ask(s, 'r', "GAP ") || session_wait_us(s, 1000) ||
	    session_update(s) || session_wait_us(s, 2000) || session_ask(s, 'r', "GAP "))
		return -1;
	*ns = 0;
	for (char *p = s->line + 4; *p; p += *p == ',') {
		uint64_t gap = strtoull(p, &p, 10);
		if (gap > *ns)
			*ns = gap;
	}
	return 0;
}

int drive_gap(struct session *s, unsigned updates)
{
	struct tsc_bounds bounds[2] = TSC_BOUNDS_NONE;

	if (session_expect(s, "READY", BOOT_MS) || tsc_sample(s, bounds))
		return -1;
	for (unsigned i = 0; i < updates; i++) {
		if (gap_update(s, &s->gaps_ns[i]) || tsc_sample(s, bounds))
			return -1;
	}
	/* Of one update the two may differ: the host decides when each thread runs. */
	uint64_t seen = median(s->gaps_ns, s->updates), said = median(s->pauses_ns, s->updates);
	if (seen < said / 2)
		return session_fail(s, "molt reports %llu ns of pause, the guest saw %llu",
				    (unsigned long long)said, (unsigned long long)seen);
	return session_send(s, "q", 1) || session_finish(s) ? -1 : 0;
}

/* The guest's clock against ours, like the TSC; but clocks are steered, so the constant may move. */
#define CLOCK_SLACK_NS 2000000

int drive_clock(struct session *s, unsigned updates)
{
	int64_t low = 0, high = 0;

	if (session_expect(s, "READY", BOOT_MS))
		return -1;
	for (unsigned i = 0; i <= updates; i++) {
		uint64_t before = clock_ns();
		if (session_ask(s, 'c', "CLOCK "))
			return -1;
		uint64_t after = clock_ns(), guest = strtoull(s->line + 6, NULL, 10);
		int64_t now_low = (int64_t)(guest - after), now_high = (int64_t)(guest - before);
		if (i == 0) {
			low = now_low;
			high = now_high;
		} else if (now_low > high + CLOCK_SLACK_NS || now_high < low - CLOCK_SLACK_NS) {
			return session_fail(
				s, "after update %u kvmclock is off by %lld ns", i,
				(long long)(now_low > high ? now_low - high : now_high - low));
		}
		if (i < updates && (wait_random(s) || session_update(s)))
			return -1;
	}
	return session_send(s, "q", 1) || session_finish(s) ? -1 : 0;
}

struct stress {
	uint32_t lines; /* received, in order */
};

/* "L 00000042 9e3779b1": number and check value (guest/bare/stress.c). */
static bool stress_line(struct session *s, const char *line)
{
	struct stress *st = s->opaque;
	unsigned n, check;
	char again[32];

	if (line[0] != 'L')
		return false;
	if (sscanf(line, "L %8u %8x", &n, &check) == 2)
		snprintf(again, sizeof(again), "L %08u %08x", n, n * 2654435761u);
	else
		again[0] = 0;
	if (strcmp(again, line))
		session_fail(s, "damaged line '%s'", line);
	else if (n != st->lines)
		session_fail(s, "line %u where %u was due", n, st->lines);
	st->lines++;
	return true;
}

/* @sent: counts the bytes given to the guest; NULL: none are. */
static int run_lines(struct session *s, unsigned updates, unsigned *sent)
{
	struct stress st = {0};
	unsigned lines;

	s->on_line = stress_line;
	s->opaque = &st;
	for (unsigned i = 0; i < updates; i++) {
		char bytes[24];
		unsigned n = sent ? (unsigned)session_random(s, sizeof(bytes)) : 0;
		for (unsigned k = 0; k < n; k++)
			bytes[k] = (char)('A' + (*sent)++ % 26);
		if (wait_random(s) || (n && session_send(s, bytes, n)) || session_update(s))
			return -1;
	}
	if (session_wait_us(s, 50000) || session_send(s, "q", 1) || session_finish(s))
		return -1;
	if (sscanf(s->line, "PASS %*s lines=%u", &lines) != 1 || lines != st.lines)
		return session_fail(s, "got %u lines, but '%s'", st.lines, s->line);
	return 0;
}

int drive_lines(struct session *s, unsigned updates)
{
	return session_expect(s, "READY", BOOT_MS) ? -1 : run_lines(s, updates, NULL);
}

int stress_run(struct session *s, unsigned updates)
{
	unsigned sent = 0, received;

	if (run_lines(s, updates, &sent))
		return -1;
	if (sscanf(s->line, "PASS stress lines=%*u received=%u", &received) != 1 ||
	    received != sent)
		return session_fail(s, "sent %u bytes, but '%s'", sent, s->line);
	return 0;
}

int drive_stress(struct session *s, unsigned updates)
{
	return session_expect(s, "READY", BOOT_MS) ? -1 : stress_run(s, updates);
}

int drive_armed(struct session *s, unsigned updates)
{
	if (session_expect(s, "READY", BOOT_MS))
		return -1;
	for (unsigned i = 0; i < updates; i++)
		if (session_ask(s, 'g', "ARMED") || wait_random(s) || session_update(s) ||
		    session_expect(s, "DONE", 20000))
			return -1;
	return session_send(s, "q", 1) || session_finish(s) ? -1 : 0;
}

int drive_halt(struct session *s, unsigned updates)
{
	if (session_expect(s, "READY", BOOT_MS))
		return -1;
	for (unsigned i = 0; i < updates; i++)
		if (wait_random(s) || session_update(s) || wait_random(s) ||
		    session_ask(s, 'k', "WOKEN"))
			return -1;
	return session_send(s, "q", 1) || session_finish(s) ? -1 : 0;
}

int drive_many(struct session *s, unsigned updates)
{
	if (session_expect(s, "READY", BOOT_MANY_MS) || session_ask(s, 'k', "ALL"))
		return -1;
	for (unsigned i = 0; i < updates; i++)
		if (session_wait_us(s, session_random(s, s->test->max_us)) || session_update(s) ||
		    session_ask(s, 'k', "ALL"))
			return -1;
	return session_send(s, "q", 1) || session_finish(s) ? -1 : 0;
}
