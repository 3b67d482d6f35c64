/* SPDX-License-Identifier: MIT */
/*
 * Updates that fail, each row of failing.c. After each the guest must go on where it was, under the same process id,
 * not have stood still for longer than molt's own deadline in the pause, its clock whole and nothing left over; and a
 * good update must work.
 */
#include "tests/guest/cases/drives.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/guest/cases/cases.h"
#include "tests/guest/runner/failing.h"
#include "tests/guest/runner/session.h"

#define BOOT_MS	 20000
#define REST_MS	 5000
#define GAP_NS	 250000000ull /* 200 ms are the deadline */
#define TRIES	 3	      /* a host that does other things gives a longer gap now and then */
#define IDLE_US	 2500000
#define LATE_MAX 3 /* good updates that such a host makes too slow, of all */

fault_seen fault_on_row;

/* What is as it was before the first row. */
struct rest {
	unsigned worker_fds, parent_fds; /* 0: not known yet */
	struct tsc_bounds tsc[2];
};

static struct run {
	struct rest rest;
	unsigned rows, survived, late;
} run;

static unsigned count_fds(pid_t pid)
{
	char path[64];
	unsigned n = 0;
	for (int fd = 0; fd < 256; fd++) {
		snprintf(path, sizeof(path), "/proc/%d/fd/%d", (int)pid, fd);
		struct stat st;
		n += !lstat(path, &st);
	}
	return n;
}

/* Orphans come to us. This one was made by a program that is not molt's to answer for: it goes by our hand. */
static int end_orphan(struct session *s)
{
	pid_t pids[2];
	for (unsigned ms = 0; process_children(getpid(), pids, 2) != 2; ms++) {
		if (ms > REST_MS)
			return session_fail(s, "no orphan is there");
		usleep(1000);
	}
	pid_t orphan = pids[0] == s->pid ? pids[1] : pids[0];
	kill(orphan, SIGKILL);
	waitpid(orphan, NULL, 0);
	return 0;
}

/* The parent has its worker, that none, and we have the parent. */
static bool left_over(const struct session *s)
{
	pid_t worker = session_worker(s);
	return !worker || process_children(s->pid, NULL, 0) != 1 ||
	       process_children(worker, NULL, 0) || process_children(getpid(), NULL, 0) > 1;
}

static bool fds_differ(const unsigned now[2])
{
	const struct rest *r = &run.rest;
	return r->worker_fds && (now[0] != r->worker_fds || now[1] != r->parent_fds);
}

/* Once the other worker has gone. */
static int check_rest(struct session *s)
{
	struct rest *r = &run.rest;
	unsigned now[2];
	bool child;
	for (unsigned ms = 0;; ms++) {
		child = left_over(s);
		now[0] = count_fds(session_worker(s));
		now[1] = count_fds(s->pid);
		if (ms == REST_MS * s->set->slow || (!child && !fds_differ(now)))
			break;
		if (session_wait_us(s, 1000))
			return -1;
	}
	if (child)
		return session_fail(s, "a process is left over");
	if (fds_differ(now))
		return session_fail(s, "%u and %u descriptors, %u and %u before", now[0], now[1],
				    r->worker_fds, r->parent_fds);
	r->worker_fds = now[0];
	r->parent_fds = now[1];
	return session_settle(s) || tsc_sample(s, r->tsc) ? -1 : 0;
}

static uint64_t largest_gap(const char *line)
{
	uint64_t ns = 0;
	for (char *p = (char *)line + strlen("GAP "); *p; p += *p == ',') {
		uint64_t gap = strtoull(p, &p, 10);
		ns = gap > ns ? gap : ns;
	}
	return ns;
}

/* *late: what was to end at once had not done so by the deadline in the pause. That is all right, but not the row. */
static int check_record(struct session *s, const struct failing *f, bool *late)
{
	char reason[600];

	record_text(s->record, "reason", reason, sizeof(reason));
	*late = f->paused && f->reason && !strstr(reason, f->reason) && strstr(reason, "in time");
	if (*late)
		return session_same_pid(s);
	if (!record_is(s->record, "result", f->reason ? "refused" : "ok"))
		return session_fail(s, "unexpected record %s", s->record);
	if (f->reason && !strstr(reason, f->reason))
		return session_fail(s, "the reason is '%s', expected '%s'", reason, f->reason);
	if (f->reason && (record_number(s->record, "pause_ns") > 0) != f->paused)
		return session_fail(s, "the guest was %spaused: %s", f->paused ? "not " : "",
				    s->record);
	return session_same_pid(s);
}

/* The update that fails. *gap_ns: what the guest saw, 0: it does not answer. */
static int fail_once(struct session *s, const struct failing *f, uint64_t *gap_ns, bool *late)
{
	*gap_ns = 0;
	if (session_ask(s, 'r', "GAP ") || failing_install(s, f))
		return -1;
	session_program_of(s->program, &s->asked);
	if (kill(s->pid, SIGUSR1) || session_record(s) || session_ask(s, 'r', "GAP "))
		return -1;
	*gap_ns = largest_gap(s->line);
	if (!f->reason)
		s->running = s->asked;
	if (check_record(s, f, late) || (f->orphan && end_orphan(s)) || check_rest(s))
		return -1;
	rmdir(s->program);
	return 0;
}

/* A host that is busy may let one of them be late; that is told, and must not become a habit. */
static int good_update(struct session *s)
{
	while (session_update(s)) {
		if (!strstr(s->error, "in time") || run.late++ == LATE_MAX)
			return -1;
		printf("  a good update was late: %s\n", s->error);
		s->error[0] = 0;
	}
	return check_rest(s);
}

static void prefix(struct session *s, const char *name)
{
	char why[sizeof(s->error)];
	memcpy(why, s->error, sizeof(why));
	s->error[0] = 0;
	session_fail(s, "row '%s': %.900s", name, why);
}

static int run_row(struct session *s, const struct failing *f)
{
	uint64_t gap_ns = 0;
	bool late = false;
	int rc = -1;

	for (unsigned tries = 1;; tries++) {
		rc = fail_once(s, f, &gap_ns, &late);
		if (rc || tries == TRIES || fault_on_row ||
		    (!late && gap_ns < GAP_NS * s->set->slow))
			break;
		printf("  row %-18s again: the guest saw a gap of %.1f ms\n", f->name,
		       (double)gap_ns / 1e6);
	}
	if (fault_on_row) {
		if (f->reason || rc)
			fault_on_row(f->name, gap_ns, gap_ns != 0, !session_same_pid(s));
		if (rc)
			prefix(s, f->name);
		return rc;
	}
	if (!rc && late)
		rc = session_fail(s, "it was never refused for '%s'", f->reason);
	if (!rc && gap_ns >= GAP_NS * s->set->slow)
		rc = session_fail(s, "the guest stood still for %.1f ms", (double)gap_ns / 1e6);
	if (rc || good_update(s)) {
		prefix(s, f->name);
		return -1;
	}
	printf("  row %-18s %s, the guest saw a gap of %.1f ms\n", f->name,
	       f->reason ? "refused" : "done", (double)gap_ns / 1e6);
	return 0;
}

/* What is to hang gets little time, in a session of its own: on a busy host good updates and all other rows may take
 * long. In the pause all have what is the default. */
enum pass { NO_HANG, HANG, PASSES };

static const char *const pass_args[PASSES][2] = {
	[NO_HANG] = {"--prepare-timeout", "20000"},
	[HANG] = {"--prepare-timeout", "2000"},
};

static int begin_pass(struct session *s, enum pass pass, unsigned updates)
{
	const struct settings *set = s->set;
	static struct test_case test;
	test = *s->test;
	memcpy(test.args, pass_args[pass], sizeof(pass_args[pass]));
	session_end(s);
	if (session_start(s, set, &test, updates))
		return -1;
	s->forbidden = true; /* in one of the rows */
	run.rest = (struct rest){.tsc = TSC_BOUNDS_NONE};
	return session_expect(s, "READY", BOOT_MS) || check_rest(s) ? -1 : 0;
}

/* Where rows are counted, the first that fails ends the test; where they are measured, all are. */
static int lost_row(struct session *s, enum pass pass, unsigned updates)
{
	if (!fault_on_row)
		return -1;
	printf("bench: %s\n", s->error);
	session_show(s);
	return begin_pass(s, pass, updates);
}

/* What a guest sees on this host when nothing is done to it, for as long as the longest rows last. */
static int measure_idle(struct session *s)
{
	if (session_ask(s, 'r', "GAP ") || session_wait_us(s, IDLE_US) ||
	    session_ask(s, 'r', "GAP "))
		return -1;
	fault_on_row(FAULT_IDLE, largest_gap(s->line), true, true);
	return 0;
}

static int run_pass(struct session *s, enum pass pass, unsigned limit)
{
	static struct failing rows[FAILING_MAX];
	unsigned n = failing_rows(rows);

	limit = limit < n ? limit : n;
	if (begin_pass(s, pass, n) || (fault_on_row && pass == HANG && measure_idle(s)))
		return -1;
	for (unsigned i = 0; i < n; i++) {
		/* Some of them only: evenly. */
		if (rows[i].hangs != (pass == HANG) || i * limit / n == (i + 1) * limit / n)
			continue;
		run.rows++;
		if (!run_row(s, &rows[i]))
			run.survived++;
		else if (lost_row(s, pass, n))
			return -1;
	}
	return 0;
}

/* A guest that ends while the new program builds is not carried over. */
static int end_in_build(struct session *s)
{
	static const struct failing slow = {"", FAILING_FAULT, "build:slow", NULL};
	return failing_install(s, &slow) || kill(s->pid, SIGUSR1) || session_wait_us(s, 100000) ||
			       session_send(s, "q", 1) || session_finish(s)
		       ? -1
		       : 0;
}

int drive_fault(struct session *s, unsigned updates)
{
	run = (struct run){0};
	alarm(0); /* it would end the first guest; every wait here has a deadline of its own */
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	if (session_expect(s, "READY", BOOT_MS)) /* it has a worker, which its end ends */
		return -1;
	for (enum pass pass = 0; pass < PASSES; pass++) {
		if (run_pass(s, pass, updates))
			return -1;
		if (pass < PASSES - 1 && (session_send(s, "q", 1) || session_finish(s)))
			return -1;
	}
	printf("FAULT rows=%u survived=%u excepted=0\n", run.rows, run.survived);
	if (run.survived != run.rows)
		return session_fail(s, "%u rows failed", run.rows - run.survived);
	return end_in_build(s);
}
