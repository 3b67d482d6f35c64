/* SPDX-License-Identifier: MIT */
/*
 * molt as process 1 of a pid namespace, as in a container: it is updated, reaps what is not its own, hears signals from
 * inside and outside, and ends with the guest's status, and everything with it.
 */
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/guest/cases/cases.h"
#include "tests/guest/cases/drives.h"
#include "tests/guest/runner/failing.h"
#include "tests/guest/runner/session.h"
#include "tests/guest/runner/verb.h"

#define BOOT_MS	  30000
#define REAP_MS	  5000
#define KILLED	  (128 + SIGKILL)
#define TERMED	  (128 + SIGTERM)
#define ORPHAN_S  20
#define ARGS(...) ((const char *const[]){__VA_ARGS__, NULL})

/* A process of the container, which runs fn(arg) and ends with what it returns. */
static int inside(struct session *s, int (*fn)(int arg), int arg)
{
	char path[64];
	int status = -1;

	snprintf(path, sizeof(path), "/proc/%d/ns/pid", (int)s->pid);
	int ns = open(path, O_RDONLY | O_CLOEXEC);
	pid_t helper = fork();
	if (!helper) {
		if (setns(ns, CLONE_NEWPID))
			_exit(126);
		pid_t pid = fork();
		if (!pid)
			_exit(fn(arg));
		if (waitpid(pid, &status, 0) != pid)
			_exit(126);
		/* What has ended the container may be ended with it before it returns. */
		_exit(WIFEXITED(status) ? WEXITSTATUS(status) : 0);
	}
	close(ns);
	return waitpid(helper, &status, 0) == helper && WIFEXITED(status) && !WEXITSTATUS(status)
		       ? 0
		       : session_fail(s, "no process in the container (0x%x)", (unsigned)status);
}

/* Leaves a child behind, which ends after @us, or with the container. */
static int leave_orphan(int us)
{
	if (fork())
		return 0;
	usleep((useconds_t)us);
	_exit(3);
}

static int send_signal(int sig)
{
	return kill(1, sig) ? 1 : 0;
}

/* Zombies are children too. */
static int children_are(struct session *s, unsigned n, const char *when)
{
	unsigned now = 0;
	for (unsigned ms = 0; ms < REAP_MS * s->set->slow; ms++) {
		now = process_children(s->pid, NULL, 0);
		if (now == n)
			return 0;
		if (session_wait_us(s, 1000))
			return -1;
	}
	return session_fail(s, "%u children %s, not %u", now, when, n);
}

static struct tsc_bounds tsc[2];

static int start(struct session *s)
{
	const struct settings *set = s->set;
	const struct test_case *test = s->test;
	unsigned updates = s->max_updates;

	session_end(s);
	tsc[0] = tsc[1] = (struct tsc_bounds){INT64_MIN, INT64_MAX};
	return session_start(s, set, test, updates) || session_expect(s, "READY", BOOT_MS) ||
			       tsc_sample(s, tsc)
		       ? -1
		       : 0;
}

/* *worker: before anything is done to it. */
static int at_rest(struct session *s, pid_t *worker)
{
	if (session_settle(s))
		return -1;
	*worker = session_worker(s);
	return *worker ? 0 : session_fail(s, "there is no worker");
}

/* Ends with that status, and nothing of the container is left. */
static int ends(struct session *s, pid_t worker, int status, const char *how)
{
	if (session_exits(s, status))
		return session_fail(s, "%s", how);
	if (!kill(worker, 0))
		return session_fail(s, "%s: the worker is left over", how);
	printf("  %-28s status %d, all gone\n", how, status);
	return 0;
}

/* Its end comes while the process is what it was, while an update is under way, and when it has become another
 * program. */
static int orphan_rows(struct session *s)
{
	if (inside(s, leave_orphan, 1000) || children_are(s, 1, "after an orphan's end") ||
	    inside(s, leave_orphan, 300000) || children_are(s, 2, "with an orphan") ||
	    session_update(s) ||
	    children_are(s, 1, "after the end of an orphan that has seen an update"))
		return -1;
	for (unsigned i = 0; i < 8; i++) /* some of them end in the midst of it */
		if (inside(s, leave_orphan, (int)session_random(s, 30000)))
			return -1;
	if (drive_updates(s, 3) || children_are(s, 1, "after eight orphans and three updates"))
		return -1;
	printf("  orphans                      reaped\n");
	return session_settle(s) || tsc_sample(s, tsc) ? -1 : 0;
}

/* The parent's next image would fail: it stays, and is asked again. */
static int rehearsal_row(struct session *s)
{
	static const struct failing f = {"", FAILING_FAULT, "rehearsal:segv", NULL};
	if (failing_install(s, &f) || kill(s->pid, SIGUSR1) || session_record(s) ||
	    session_same_pid(s))
		return -1;
	if (!record_is(s->record, "result", "ok"))
		return session_fail(s, "unexpected record %.300s", s->record);
	for (unsigned ms = 0; !session_logged(s, "stays the old program"); ms++)
		if (ms == REAP_MS || session_wait_us(s, 1000))
			return session_fail(s, "the parent does not say that it stays");
	return children_are(s, 1, "after a rehearsal that failed") || drive_updates(s, 2) ||
			       session_settle(s) || tsc_sample(s, tsc)
		       ? -1
		       : 0;
}

int drive_container(struct session *s, unsigned updates)
{
	static struct verb v;
	pid_t worker = 0;

	alarm(0); /* each session has deadlines of its own */
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	if (start(s) || drive_updates(s, updates) || session_settle(s) || tsc_sample(s, tsc) ||
	    verb_run(s, &v, 0, "\"pid\":1,", "status", ARGS("--json")) || orphan_rows(s) ||
	    rehearsal_row(s) || session_send(s, "q", 1) || session_finish(s))
		return -1;
	char pass[sizeof(s->line)];
	memcpy(pass, s->line, sizeof(pass));
	if (start(s) || drive_updates(s, 1) || at_rest(s, &worker) || kill(s->pid, SIGTERM) ||
	    ends(s, worker, TERMED, "SIGTERM from outside"))
		return -1;
	if (start(s) || drive_updates(s, 1) || at_rest(s, &worker) ||
	    inside(s, leave_orphan, ORPHAN_S * 1000000) || inside(s, send_signal, SIGTERM) ||
	    ends(s, worker, TERMED, "SIGTERM from inside"))
		return -1;
	if (start(s) || drive_updates(s, 1) || at_rest(s, &worker) || kill(worker, SIGKILL) ||
	    ends(s, worker, KILLED, "the worker is killed"))
		return -1;
	memcpy(s->line, pass, sizeof(pass));
	return 0;
}
