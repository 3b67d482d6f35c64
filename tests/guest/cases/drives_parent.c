/* SPDX-License-Identifier: MIT */
/*
 * The new program of an update does well as a worker and fails as a parent. Where its rehearsal shows that, the process
 * that the world knows stays what it was. Where it does not, that process is lost, and nothing else: the guest runs on
 * in its worker, which tells the supervisor.
 */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/guest/cases/drives.h"
#include "tests/guest/runner/failing.h"
#include "tests/guest/runner/session.h"
#include "tests/guest/runner/supervisor.h"
#include "tests/guest/runner/verb.h"

#define BOOT_MS	  30000
#define ARGS(...) ((const char *const[]){__VA_ARGS__, NULL})

static const struct {
	const char *fault;
	const char *says; /* why the parent is lost; NULL: it stays */
	bool lives;	  /* and is good for nothing */
} rows[] = {
	{"rehearsal:segv", NULL},
	{"rehearsal:kill", NULL},
	{"rehearsal:exit", NULL}, /* with 0, but without a word */
	{"rehearsal:close", NULL},
	{"rehearsal:garbage", NULL},
	{"rehearsal:hang", NULL},
	{"rehearsal:stop", NULL},
	{"parent:segv", "closed the connection"},
	{"parent:kill", "closed the connection"},
	{"parent:exit", "closed the connection"},
	{"parent:hang", "does not speak", true},
};
#define ROWS (sizeof(rows) / sizeof(rows[0]))

static struct tsc_bounds tsc[2];

static int start(struct session *s)
{
	tsc[0] = tsc[1] = (struct tsc_bounds){INT64_MIN, INT64_MAX};
	return session_expect(s, "READY", BOOT_MS) || tsc_sample(s, tsc) ||
			       supervisor_told(s, s->pid, "READY=1", "STATUS=")
		       ? -1
		       : 0;
}

static int told_of_update(struct session *s)
{
	return supervisor_told(s, s->pid, "RELOADING=1", "") ||
			       supervisor_told(s, s->pid, "READY=1", "STATUS=update ")
		       ? -1
		       : 0;
}

/* The update with that program. */
static int update(struct session *s, const char *fault)
{
	struct failing f = {.kind = FAILING_FAULT};
	snprintf(f.arg, sizeof(f.arg), "%s", fault);
	if (failing_install(s, &f) || kill(s->pid, SIGUSR1) || session_record(s))
		return -1;
	if (!record_is(s->record, "result", "ok"))
		return session_fail(s, "unexpected record %.300s", s->record);
	return told_of_update(s);
}

static int row_stays(struct session *s, const char *fault)
{
	static const char stays[] = "stays the old program until the next update";
	unsigned before = session_logged(s, stays);
	/* Its program is that of the last good one, and then of the next. */
	return update(s, fault) || session_await_written(s, "log", stays, before + 1) ||
			       session_same_pid(s) || session_settle(s) || tsc_sample(s, tsc) ||
			       session_update(s) || told_of_update(s) || session_settle(s) ||
			       tsc_sample(s, tsc)
		       ? -1
		       : 0;
}

static int row_lost(struct session *s, unsigned row)
{
	static struct verb v;
	pid_t known = s->pid, worker;
	char text[64];

	if (update(s, rows[row].fault))
		return -1;
	worker = (pid_t)session_worker(s);
	snprintf(text, sizeof(text), "MAINPID=%d\n", (int)worker);
	if (supervisor_told(s, worker, text, "runs on without its parent") ||
	    session_await_written(s, "log", rows[row].says, 1))
		return -1;
	if (!rows[row].lives)
		waitpid(known, NULL, 0);
	s->pid = worker; /* ours, since we are the subreaper */
	snprintf(text, sizeof(text), "\"pid\":%d,\"worker\":%d,", (int)worker, (int)worker);
	if (tsc_sample(s, tsc) || verb_run(s, &v, 0, text, "status", ARGS("--json")) ||
	    verb_run(s, &v, 70, "there is no parent process any more", "update", NULL) ||
	    session_record(s) || session_same_pid(s))
		return -1;
	if (rows[row].lives) { /* its end is nobody's any more */
		kill(known, SIGKILL);
		waitpid(known, NULL, 0);
		if (session_wait_us(s, 200000) || tsc_sample(s, tsc))
			return -1;
	}
	return session_send(s, "q", 1) || session_finish(s) ? -1 : 0;
}

int drive_parent(struct session *s, unsigned updates)
{
	const struct settings *set = s->set;
	const struct test_case *test = s->test;
	bool fresh = true;

	alarm(0); /* each session has deadlines of its own */
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	for (unsigned row = 0; row < ROWS && row < updates; row++) {
		if (!fresh) {
			session_end(s);
			if (session_start(s, set, test, updates))
				return -1;
		}
		if ((!row || !fresh) && start(s))
			return -1;
		fresh = !rows[row].says;
		if (rows[row].says ? row_lost(s, row) : row_stays(s, rows[row].fault)) {
			char why[sizeof(s->error)];
			memcpy(why, s->error, sizeof(why));
			s->error[0] = 0;
			return session_fail(s, "row '%s': %.900s", rows[row].fault, why);
		}
		printf("  row %-18s %s\n", rows[row].fault,
		       rows[row].says ? "runs on in the worker" : "the parent stays what it was");
	}
	return fresh && (session_send(s, "q", 1) || session_finish(s)) ? -1 : 0;
}
