/* SPDX-License-Identifier: MIT */
/*
 * Updates between this molt and others whose state differs in one way each ($MOLT_SKEW, a path to which the name is
 * appended: tests/skew). In both directions, each in a guest of its own: taken, or refused with the name of what does
 * not fit; and `molt state diff` must have said so before. And between molts that speak other versions of the
 * hand-over's protocol, also where the parent is of one version and its worker of the other.
 */
#include "tests/guest/cases/drives.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/guest/runner/session.h"

#define BOOT_MS	  20000
#define REFUSED	  70 /* exit status of state diff */
#define OTHER_LEN 256
#define STAYS	  "stays the old program until the next update"
#define LATE_MS	  3000
#define TRIES	  5

static const struct {
	const char *name;
	const char *there, *back; /* NULL: accepted. Else part of the reason */
	bool protocol;		  /* not by state, so that state diff knows nothing of it */
} rows[] = {
	/* A field more, with a default; the other way it is dropped. */
	{"newer", NULL, NULL},
	/* A field more that a guest cannot do without from then on. */
	{"needed", NULL, "cmos@70: needs version 2 of class cmos, this program has 1"},
	/* A field more that has no default. */
	{"required", "cmos.later: the field is missing", NULL},
	{"removed", NULL, "cmos.index: the field is missing"},
	{"resized", "cmos.nvram: a length of 128 bytes", "cmos.nvram: a length of 64 bytes"},
	{"renamed", "rtc@70: the node is missing", "cmos@70: the node is missing"},
	/* A device more. */
	{"optional", NULL, NULL},
	{"extra", NULL, "extra@0: this program does not know it"},
	/* The same state, and the hand-over's protocol 1 and 2; only 2. */
	{"protocol-newer", NULL, NULL, .protocol = true},
	{"protocol-other", "speaks the hand-over protocol 2 to 2, this molt 1 to 1",
	 "speaks the hand-over protocol 1 to 1, this molt 2 to 2", .protocol = true},
};
#define ROWS (sizeof(rows) / sizeof(rows[0]))

/* Runs `molt state diff` and returns its exit status, or -1. */
static int diff_status(const struct settings *set, char *text, size_t size)
{
	int ends[2], status;
	size_t len = 0;
	ssize_t n;

	if (pipe(ends))
		return -1;
	pid_t pid = fork();
	if (!pid) {
		dup2(ends[1], STDOUT_FILENO);
		close(ends[0]);
		execl(set->molt, set->molt, "state", "diff", set->molt, set->molt_b, NULL);
		_exit(126);
	}
	close(ends[1]);
	while (len + 1 < size && (n = read(ends[0], text + len, size - 1 - len)) > 0)
		len += (size_t)n;
	text[len] = 0;
	close(ends[0]);
	return waitpid(pid, &status, 0) == pid && WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static int check_diff(struct session *s, const char *reason)
{
	static char text[65536];
	int want = reason ? REFUSED : 0, got = diff_status(s->set, text, sizeof(text));
	if (got != want)
		return session_fail(s, "state diff ends with %d, expected %d: %.400s", got, want,
				    strstr(text, "REFUSED") ?: text);
	return 0;
}

/* By the rehearsal: the guest was not paused. */
static int check_refusal(struct session *s, const char *reason)
{
	if (!session_update_end(s))
		return session_fail(s, "accepted, expected '%s'", reason);
	if (!record_is(s->record, "result", "refused"))
		return session_fail(s, "unexpected record %s", s->record);
	if (record_number(s->record, "pid") != s->pid)
		return session_fail(s, "another process id in %s", s->record);
	if (record_number(s->record, "pause_ns"))
		return session_fail(s, "the guest was paused: %s", s->record);
	char got[512];
	record_text(s->record, "reason", got, sizeof(got));
	s->error[0] = 0; /* what session_update_end made of it */
	return strstr(got, reason)
		       ? 0
		       : session_fail(s, "the reason is '%s', expected '%s'", got, reason);
}

/* One update of a new guest from program @set->molt to @set->molt_b. @reason: why not, or NULL; @diff: why state diff
 * says that it would not. */
static int drive_pair(struct session *s, const struct settings *set, const char *reason,
		      const char *diff)
{
	const struct test_case *test = s->test;
	session_end(s);
	if (session_start(s, set, test, 1) || session_expect(s, "READY", BOOT_MS) ||
	    check_diff(s, diff) || session_update_begin(s))
		return -1;
	if (reason ? check_refusal(s, reason) : session_update_end(s))
		return -1;
	if (session_ask(s, 'r', "GAP ") || session_ask(s, 't', "TSC "))
		return -1;
	return session_send(s, "q", 1) || session_finish(s) ? -1 : 0;
}

/* One update whose program can be executed no more once the successor runs: so its rehearsal as a parent fails. Returns
 * 1 where that came too late. */
static int update_alone(struct session *s)
{
	unsigned before = session_logged(s, STAYS);
	if (session_update_begin(s))
		return -1;
	for (uint64_t until = clock_ns() + BOOT_MS * 1000000ull;
	     !session_children(s, "molt-succ", NULL) && clock_ns() < until;)
		;
	chmod(s->program, 0644);
	if (session_update_end(s))
		return -1;
	for (unsigned ms = 0; ms < LATE_MS && session_logged(s, STAYS) == before; ms += 10)
		if (session_wait_us(s, 10000))
			return -1;
	chmod(s->program, 0755);
	return session_logged(s, STAYS) == before;
}

/* Parent of @set->molt, worker of @set->molt_b; from there updates of both. */
static int drive_mixed(struct session *s, const struct settings *set)
{
	const struct test_case *test = s->test;
	int rc = 1;
	for (unsigned tries = 0; rc == 1 && tries < TRIES; tries++) {
		session_end(s);
		if (session_start(s, set, test, 4) || session_expect(s, "READY", BOOT_MS))
			return -1;
		rc = update_alone(s);
	}
	if (rc)
		return session_fail(s, "the parent became the new program each time");
	for (unsigned i = 0; i < 2; i++)
		if (session_ask(s, 't', "TSC ") || session_update(s) || session_settle(s))
			return -1;
	return session_ask(s, 't', "TSC ") || session_send(s, "q", 1) || session_finish(s) ? -1 : 0;
}

/* Which parent can have which worker: those whose workers can follow one another. */
static const struct {
	const char *a, *b; /* "": this program */
	unsigned protocol; /* the one that both speak */
} mixed[] = {
	{"", "protocol-newer", 1},
	{"protocol-newer", "", 1},
	{"protocol-newer", "protocol-other", 2},
	{"protocol-other", "protocol-newer", 2},
	{"newer", "", 1},
	{"", "newer", 1},
};

static int drive_parents(struct session *s, const struct settings *set, const char *prefix)
{
	static struct settings pair;
	static char a[OTHER_LEN], b[OTHER_LEN];

	pair = *set;
	pair.molt = a;
	pair.molt_b = b;
	for (unsigned i = 0; i < sizeof(mixed) / sizeof(mixed[0]); i++) {
		snprintf(a, sizeof(a), "%s%s", mixed[i].a[0] ? prefix : set->molt, mixed[i].a);
		snprintf(b, sizeof(b), "%s%s", mixed[i].b[0] ? prefix : set->molt, mixed[i].b);
		if (drive_mixed(s, &pair)) {
			char why[sizeof(s->error)];
			memcpy(why, s->error, sizeof(why));
			s->error[0] = 0;
			return session_fail(s, "parent '%s', worker '%s': %.900s", mixed[i].a,
					    mixed[i].b, why);
		}
		printf("  parent %s, worker %s: protocol %u, updated to both\n",
		       mixed[i].a[0] ? mixed[i].a : "this", mixed[i].b[0] ? mixed[i].b : "this",
		       mixed[i].protocol);
	}
	return 0;
}

int drive_skew(struct session *s, unsigned updates)
{
	static struct settings there, back;
	static char other[OTHER_LEN];
	const struct settings *set = s->set;
	const char *prefix = getenv("MOLT_SKEW");

	if (!prefix)
		return session_fail(s, "MOLT_SKEW names no programs");
	alarm(0); /* each session has deadlines of its own */
	there = back = *s->set;
	there.molt_b = back.molt = other;
	back.molt_b = s->set->molt;
	for (unsigned row = 0; row < ROWS && row < updates; row++) {
		snprintf(other, sizeof(other), "%s%s", prefix, rows[row].name);
		const char *way = "there";
		bool alike = rows[row].protocol;
		int rc = drive_pair(s, &there, rows[row].there, alike ? NULL : rows[row].there);
		if (!rc) {
			way = "back";
			rc = drive_pair(s, &back, rows[row].back, alike ? NULL : rows[row].back);
		}
		if (rc) {
			char why[sizeof(s->error)];
			memcpy(why, s->error, sizeof(why));
			s->error[0] = 0;
			return session_fail(s, "%s, %s: %.900s", rows[row].name, way, why);
		}
		printf("  %-14s there: %s, back: %s\n", rows[row].name,
		       rows[row].there ? "refused" : "taken", rows[row].back ? "refused" : "taken");
	}
	return updates < ROWS ? 0 : drive_parents(s, set, prefix);
}
