/* SPDX-License-Identifier: MIT */
/*
 * Updates between this molt and others whose state differs in one way each ($MOLT_SKEW, a path to
 * which the name is appended: tests/skew). In both directions, each in a guest of its own: taken, or
 * refused with the name of what does not fit; and `molt state diff` must have said so before.
 */
#include "tests/guest/cases/drives.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/guest/runner/session.h"

#define BOOT_MS	  20000
#define REFUSED	  70 /* exit status of state diff */
#define OTHER_LEN 256

static const struct {
	const char *name;
	const char *there, *back; /* NULL: accepted. Else part of the reason */
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

/* One update of a new guest from program @set->molt to @set->molt_b. @reason: why not, or NULL. */
static int drive_pair(struct session *s, const struct settings *set, const char *reason)
{
	const struct test_case *test = s->test;
	session_end(s);
	if (session_start(s, set, test, 1) || session_expect(s, "READY", BOOT_MS) ||
	    check_diff(s, reason) || session_update_begin(s))
		return -1;
	if (reason ? check_refusal(s, reason) : session_update_end(s))
		return -1;
	if (session_ask(s, 'r', "GAP ") || session_ask(s, 't', "TSC "))
		return -1;
	return session_send(s, "q", 1) || session_finish(s) ? -1 : 0;
}

int drive_skew(struct session *s, unsigned updates)
{
	static struct settings there, back;
	static char other[OTHER_LEN];
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
		int rc = drive_pair(s, &there, rows[row].there);
		if (!rc) {
			way = "back";
			rc = drive_pair(s, &back, rows[row].back);
		}
		if (rc) {
			char why[sizeof(s->error)];
			memcpy(why, s->error, sizeof(why));
			s->error[0] = 0;
			return session_fail(s, "%s, %s: %.900s", rows[row].name, way, why);
		}
		printf("  %-10s there: %s, back: %s\n", rows[row].name,
		       rows[row].there ? "refused" : "taken", rows[row].back ? "refused" : "taken");
	}
	return 0;
}
