/* SPDX-License-Identifier: MIT */
/*
 * `molt run --take`: another molt, which is no child of the guest's, takes it. It does, from other namespaces too, and
 * back; or it fails, is killed or stopped at any stage, speaks another protocol, or is not asked in: then the guest
 * goes on where it was.
 */
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/guest/cases/drives.h"
#include "tests/guest/runner/failing.h"
#include "tests/guest/runner/session.h"
#include "tests/guest/runner/session_user.h"
#include "tests/guest/runner/supervisor.h"
#include "tests/guest/runner/verb.h"

#define BOOT_MS	  30000
#define END_MS	  30000
#define GAP_NS	  250000000ull /* 200 ms are the deadline in the pause */
#define TRIES	  3	       /* a host that does other things gives a longer gap now and then */
#define POINT_US  300000       /* to come to its fault point */
#define REFUSED	  70
#define NOBODY	  65534
#define ARGS(...) ((const char *const[]){__VA_ARGS__, NULL})

#define ELSEWHERE                                                                                  \
	(CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWNET | CLONE_NEWCGROUP)

static struct tsc_bounds tsc[2];
static bool away; /* the guest is in the other namespaces, where its parent is process 1 */

/* ---- one taker ---- */

static void become(struct session *s, const char *program, int namespaces, bool stranger)
{
	char path[160], fault[160];

	snprintf(path, sizeof(path), "%s/log", s->dir);
	int log = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
	dup2(null, 0);
	dup2(log, 1);
	dup2(log, 2);
	if (namespaces && !session_user_mounts(true))
		_exit(126);
	snprintf(fault, sizeof(fault), "@%s/fault", s->dir);
	setenv("MOLT_FAULT", fault, 1);
	snprintf(fault, sizeof(fault), "%s/notify", s->dir);
	setenv("NOTIFY_SOCKET", fault, 1);
	snprintf(path, sizeof(path), "%s/ctl", s->dir);
	if (stranger && (setgid(NOBODY) || setuid(NOBODY)))
		_exit(126);
	execl(program, program, "run", "--take", path, NULL);
	_exit(126);
}

/* What the supervisor was told; a full socket is told nothing more. */
static void drain(struct session *s)
{
	char text[512];
	while (recv(s->notify, text, sizeof(text), MSG_DONTWAIT) > 0)
		;
}

static pid_t taker_start(struct session *s, const char *program, int namespaces, bool stranger)
{
	drain(s);
	pid_t pid = (pid_t)syscall(SYS_clone, namespaces | SIGCHLD, NULL, NULL, NULL, NULL);
	if (!pid)
		become(s, program, namespaces, stranger);
	if (pid < 0)
		session_fail(s, "no process for the taker");
	return pid;
}

/* Its exit status as a shell has it, or -1. */
static int taker_end(struct session *s, pid_t taker)
{
	int status;
	for (uint64_t until = clock_ns() + END_MS * 1000000ull * s->set->slow;;) {
		if (waitpid(taker, &status, WNOHANG) == taker)
			return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
		if (session_idle(s))
			break;
		if (clock_ns() > until) {
			session_fail(s, "the taker does not end");
			break;
		}
		usleep(1000);
	}
	kill(taker, SIGKILL);
	waitpid(taker, &status, 0);
	return -1;
}

/* ---- what must be true afterwards ---- */

/* The largest since the last time it was asked. */
static int gap_ask(struct session *s, uint64_t *ns)
{
	*ns = 0;
	drain(s);
	if (session_ask(s, 'r', "GAP "))
		return -1;
	for (char *p = s->line + strlen("GAP "); *p; p += *p == ',') {
		uint64_t gap = strtoull(p, &p, 10);
		*ns = gap > *ns ? gap : *ns;
	}
	return 0;
}

static int old_ended(struct session *s)
{
	for (uint64_t until = clock_ns() + END_MS * 1000000ull * s->set->slow; session_alive(s);) {
		if (clock_ns() > until)
			return session_fail(s, "the process that had the guest does not end");
		usleep(1000);
	}
	return WIFEXITED(s->status) && !WEXITSTATUS(s->status)
		       ? 0
		       : session_fail(s, "who gave the guest away ended with status 0x%x",
				      (unsigned)s->status);
}

/* Its own name is gone for a moment where it executes itself, since its guest reboots. */
static pid_t worker_named(struct session *s)
{
	pid_t worker;
	for (uint64_t until = clock_ns() + END_MS * 1000000ull; !(worker = session_worker(s));) {
		if (clock_ns() > until)
			break;
		usleep(1000);
	}
	return worker;
}

/* The record says that it is done: who gave the guest has ended well and said who has it, and @taker is as any other
 * parent. */
static int moved(struct session *s, pid_t taker, const char *program, bool elsewhere)
{
	char text[96];

	if (!record_is(s->record, "result", "ok"))
		return session_fail(s, "unexpected record %.300s", s->record);
	if (old_ended(s))
		return -1;
	s->pid = taker;
	s->exited = false;
	if (session_program_of(program, &s->running) || session_settle(s))
		return session_fail(s, "the taker is not there");
	/* A process id of a namespace that the guest came from has no number in it. */
	snprintf(text, sizeof(text), "process %d (--take) has the guest",
		 away ? 0 : (int)worker_named(s));
	if (!session_logged(s, text))
		return session_fail(s, "nobody said '%s'", text);
	pid_t known = elsewhere ? 1 : taker;
	if (record_number(s->record, "pid") != known)
		return session_fail(s, "not process %d: %.300s", (int)known, s->record);
	away = elsewhere;
	if (s->updates < s->max_updates)
		s->pauses_ns[s->updates++] = (uint64_t)record_number(s->record, "pause_ns");
	return 0;
}

static int take(struct session *s, const char *program, bool elsewhere)
{
	pid_t taker = taker_start(s, program, elsewhere ? ELSEWHERE : 0, false);
	if (taker < 0 || session_record(s))
		return -1;
	if (moved(s, taker, program, elsewhere)) {
		if (s->pid != taker)
			kill(taker, SIGKILL);
		return -1;
	}
	return 0;
}

static int take_seen(struct session *s, const char *program, bool elsewhere)
{
	uint64_t ns = 0;
	for (unsigned tries = 0; tries < TRIES; tries++) {
		if (gap_ask(s, &ns) || take(s, program, elsewhere) || gap_ask(s, &ns) ||
		    tsc_sample(s, tsc))
			return -1;
		if (ns < GAP_NS * s->set->slow)
			return 0;
	}
	return session_fail(s, "the guest stood still for %.1f ms", (double)ns / 1e6);
}

/* By signal, of the program that has taken it, in the same process. */
static int update_here(struct session *s)
{
	session_program_of(s->program, &s->asked);
	if (kill(s->pid, SIGUSR1) || session_record(s))
		return -1;
	if (!record_is(s->record, "result", "ok"))
		return session_fail(s, "unexpected record %.300s", s->record);
	s->running = s->asked;
	return session_settle(s) || tsc_sample(s, tsc) ? -1 : 0;
}

/* ---- takers that fail ---- */

struct here {
	pid_t worker;
	uint64_t gap_ns;
};

static int begin(struct session *s, struct here *h)
{
	h->worker = session_worker(s);
	return gap_ask(s, &h->gap_ns);
}

/* The guest is where it was, and the taker is gone. @exits: with 0, since it was made to. */
static int stayed_exits(struct session *s, struct here *h, pid_t taker, bool exits)
{
	int status = taker_end(s, taker);
	if (status < 0)
		return -1;
	if (!status && !exits)
		return session_fail(s, "the taker ends with 0");
	if (session_worker(s) != h->worker || session_settle(s))
		return session_fail(s, "the guest has another worker");
	return tsc_sample(s, tsc);
}

static int stayed(struct session *s, struct here *h, pid_t taker)
{
	return stayed_exits(s, h, taker, false);
}

/* Who is told when an update begins. */
static int watch(struct session *s, struct verb *events)
{
	return verb_start(s, events, "events", NULL, NULL) || !verb_line(events)
		       ? session_fail(s, "no events")
		       : 0;
}

/* It has, and what is asked meanwhile is told of it. */
static int under_way(struct session *s, struct verb *events, const char *said)
{
	static struct verb v;
	const char *line = verb_line(events);

	kill(events->pid, SIGKILL);
	verb_end(events);
	if (!line || !record_is(line, "result", "started"))
		return session_fail(s, "expected the begin of an update, got '%.300s'",
				    line ?: "the end");
	return session_wait_us(s, POINT_US) || verb_run(s, &v, REFUSED, said, "update", NULL) ? -1
											      : 0;
}

static int refused(struct session *s, const char *reason, bool paused, bool *late)
{
	char got[600];

	record_text(s->record, "reason", got, sizeof(got));
	*late = paused && !strstr(got, reason) && strstr(got, "in time");
	if (!record_is(s->record, "result", "refused"))
		return session_fail(s, "unexpected record %.300s", s->record);
	if (!*late && !strstr(got, reason))
		return session_fail(s, "the reason is '%s', expected '%s'", got, reason);
	if (strstr(s->record, "(--take) --version"))
		return session_fail(s, "a remedy that cannot be run: %.400s", s->record);
	return !*late && (record_number(s->record, "pause_ns") > 0) != paused
		       ? session_fail(s, "the guest was %spaused", paused ? "not " : "")
		       : 0;
}

/* 1: once more, since a busy host made something late. */
static int fault_once(struct session *s, const struct failing *f)
{
	const char *faulty;
	struct here h;
	bool late = false;
	uint64_t ns;

	if (begin(s, &h) || failing_fault(s, f->arg, &faulty))
		return -1;
	pid_t taker = taker_start(s, faulty, 0, false);
	if (taker < 0 || session_record(s))
		return -1;
	int rc = f->reason ? refused(s, f->reason, f->paused, &late)
			   : moved(s, taker, faulty, false);
	if (!rc && f->reason)
		rc = stayed_exits(s, &h, taker,
				  strstr(f->arg, ":exit") || strstr(f->arg, ":garbage"));
	else if (rc && s->pid != taker)
		kill(taker, SIGKILL);
	if (rc || gap_ask(s, &ns))
		return -1;
	return late || ns >= GAP_NS * s->set->slow;
}

static int fault_row(struct session *s, const struct failing *f)
{
	int rc = 1;
	for (unsigned tries = 0; rc == 1 && tries < TRIES; tries++)
		rc = fault_once(s, f);
	if (rc == 1)
		session_fail(s, "the guest stood still for too long, or another reason, each time");
	if (rc || (!f->reason && take(s, s->program, false))) {
		char why[sizeof(s->error)];
		memcpy(why, s->error, sizeof(why));
		s->error[0] = 0;
		return session_fail(s, "row '%s': %.900s", f->name, why);
	}
	return 0;
}

/* The points of a taker's life are those of a successor, but for "entry"; a child of its own that outlives it is
 * guest/fault's. */
static int faults(struct session *s, unsigned limit)
{
	static struct failing rows[FAILING_MAX];
	unsigned n = failing_rows(rows), taken = 0, done = 0;

	limit = limit < n ? limit : n;
	for (unsigned i = 0; i < n; i++) {
		if (rows[i].kind != FAILING_FAULT || rows[i].orphan ||
		    !strncmp(rows[i].arg, "entry", 5) || i * limit / n == (i + 1) * limit / n)
			continue;
		if (fault_row(s, &rows[i]))
			return -1;
		*(rows[i].reason ? &done : &taken) += 1;
	}
	printf("  takers that fail: %u refused, %u done\n", done, taken);
	return 0;
}

/* What happens to the taker's own parent. */
static int parent_row(struct session *s, const char *fault, int sig, const char *reason)
{
	static struct verb events;
	const char *faulty;
	struct here h;
	bool late;

	if (begin(s, &h) || failing_fault(s, fault, &faulty) || watch(s, &events))
		return -1;
	pid_t taker = taker_start(s, faulty, 0, false);
	if (taker < 0 || under_way(s, &events, "build the machine"))
		return -1;
	kill(taker, sig);
	if (session_record(s))
		return -1;
	if (reason) {
		printf("  the taker's parent gets signal %d at %s: refused\n", sig, fault);
		return refused(s, reason, false, &late) || stayed(s, &h, taker);
	}
	kill(taker, SIGCONT);
	printf("  the taker's parent gets signal %d at %s: done\n", sig, fault);
	return moved(s, taker, faulty, false) || tsc_sample(s, tsc) || take(s, s->program, false)
		       ? -1
		       : 0;
}

/* ---- other rows ---- */

static int protocol_rows(struct session *s)
{
	const char *prefix = getenv("MOLT_SKEW");
	char other[256];
	struct here h;
	bool late;

	if (!prefix)
		return session_fail(s, "MOLT_SKEW names no programs");
	snprintf(other, sizeof(other), "%sprotocol-other", prefix);
	if (begin(s, &h))
		return -1;
	pid_t taker = taker_start(s, other, 0, false);
	if (taker < 0 || session_record(s) ||
	    refused(s, "speaks the hand-over protocol 2 to 2, this molt 1 to 1", false, &late) ||
	    stayed(s, &h, taker))
		return -1;
	snprintf(other, sizeof(other), "%sprotocol-newer", prefix);
	return take_seen(s, other, false) || take_seen(s, s->program, false) ? -1 : 0;
}

/* Who comes second is told so; who was first is not disturbed. */
static int busy_rows(struct session *s)
{
	static struct verb v, events;
	const char *faulty;
	pid_t first, second;

	/* An update, */
	if (failing_fault(s, "build:slow", &faulty) || watch(s, &events) ||
	    verb_start(s, &v, "update", NULL, ARGS("--exe", faulty)) ||
	    under_way(s, &events, "build the machine"))
		return -1;
	second = taker_start(s, s->program, 0, false);
	if (taker_end(s, second) != REFUSED || verb_end(&v) || session_record(s))
		return session_fail(s, "taken while it was updated, or the update was lost: %.300s",
				    v.text);
	if (!session_logged(s, "an update is under way"))
		return session_fail(s, "the second is not told why");
	session_program_of(faulty, &s->running);
	if (session_settle(s) || tsc_sample(s, tsc))
		return -1;
	/* and another taker. */
	if (watch(s, &events))
		return -1;
	first = taker_start(s, faulty, 0, false);
	if (first < 0 || under_way(s, &events, "(--take) since"))
		return -1;
	second = taker_start(s, s->program, 0, false);
	if (taker_end(s, second) != REFUSED)
		return session_fail(s, "two have taken it");
	return session_record(s) || moved(s, first, faulty, false) || tsc_sample(s, tsc) ||
			       take(s, s->program, false)
		       ? -1
		       : 0;
}

/* The socket's mode may let somebody in who is not to be. */
static int stranger_row(struct session *s)
{
	unsigned before = session_logged(s, "may not control this guest");
	char ctl[96];
	struct here h;

	snprintf(ctl, sizeof(ctl), "%s/ctl", s->dir);
	if (begin(s, &h) || chmod(s->dir, 0755) || chmod(ctl, 0666))
		return session_fail(s, "chmod %s", ctl);
	pid_t taker = taker_start(s, s->program, 0, true);
	int rc = taker < 0 ? -1 : stayed(s, &h, taker);
	chmod(s->dir, 0700);
	if (!rc && session_logged(s, "may not control this guest") == before)
		rc = session_fail(s, "another user is not told why");
	return rc;
}

/* A taker whose process id has no number where the guest is cannot be ended from there. It gets nothing all the
 * same. */
static int unseen_rows(struct session *s)
{
	static const struct {
		const char *fault, *reason;
		bool paused, ends;
	} rows[] = {{"build:hang", "in time", false, false},
		    {"load:hang", "in time", true, false},
		    {"load:slow", "in time", true, true}};

	for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		const char *faulty;
		struct here h;
		bool late;
		if (begin(s, &h) || failing_fault(s, rows[i].fault, &faulty))
			return -1;
		pid_t taker = taker_start(s, faulty, 0, false);
		if (taker < 0 || session_record(s) ||
		    refused(s, rows[i].reason, rows[i].paused, &late))
			return -1;
		if (!rows[i].ends)
			kill(taker, SIGKILL);
		if (stayed(s, &h, taker))
			return -1;
	}
	return 0;
}

/* A worker that has lost its parent cannot be updated any more, but taken: it has one again. */
static int alone_row(struct session *s)
{
	static struct verb v;
	const char *faulty;
	pid_t known = s->pid;

	if (failing_fault(s, "parent:kill", &faulty) ||
	    verb_run(s, &v, 0, "guest paused", "update", ARGS("--exe", faulty)) ||
	    session_record(s))
		return -1;
	pid_t worker = session_worker(s);
	for (unsigned ms = 0; !session_logged(s, "is lost: "); ms++)
		if (ms == END_MS || usleep(1000))
			return session_fail(s, "the parent was not lost");
	waitpid(known, NULL, 0);
	s->pid = worker; /* ours, since we are the subreaper */
	s->exited = false;
	if (tsc_sample(s, tsc) || verb_run(s, &v, REFUSED, "no parent process", "update", NULL) ||
	    session_record(s) || take(s, s->program, false))
		return -1;
	return tsc_sample(s, tsc) || update_here(s) ? -1 : 0;
}

/* ---- the cases ---- */

static int rows(struct session *s, unsigned updates)
{
	if (take_seen(s, s->program, false) || session_install(s, true) || update_here(s) ||
	    stranger_row(s) || take_seen(s, s->program, false))
		return -1;
	printf("  from the same namespaces, updated, and taken again: done; another user: "
	       "refused\n");
	/* There, updated there, and back. */
	if (take_seen(s, s->program, true) || update_here(s) || take_seen(s, s->program, true) ||
	    unseen_rows(s) || take_seen(s, s->program, false) || update_here(s))
		return -1;
	printf("  to other namespaces, between them, and back: done\n");
	if (protocol_rows(s))
		return -1;
	printf("  another protocol: refused; a newer one that knows this one: done\n");
	if (busy_rows(s))
		return -1;
	printf("  while an update or another taker is under way: refused\n");
	if (parent_row(s, "build:hang", SIGKILL, "ended, or said what is no message") ||
	    parent_row(s, "ready:hang", SIGKILL, "ended, or said what is no message") ||
	    parent_row(s, "build:slow", SIGSTOP, NULL))
		return -1;
	if (alone_row(s))
		return -1;
	printf("  a worker without its parent: done, and updated\n");
	return faults(s, updates);
}

int drive_take(struct session *s, unsigned updates)
{
	alarm(0);	     /* every wait here has a deadline of its own */
	s->forbidden = true; /* in one of the rows */
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	tsc[0] = tsc[1] = (struct tsc_bounds){INT64_MIN, INT64_MAX};
	away = false;
	if (session_expect(s, "READY", BOOT_MS) || tsc_sample(s, tsc))
		return -1;
	if (rows(s, updates))
		return -1;
	/* Supervisors are told by the process that each of them knows. */
	pid_t before = s->pid;
	drain(s);
	if (take(s, s->program, false) || supervisor_told(s, before, "RELOADING=1", "") ||
	    supervisor_told(s, s->pid, "READY=1", "STATUS=update "))
		return -1;
	return session_send(s, "q", 1) || session_finish(s) ? -1 : 0;
}

/* Other guests, which look at other things, are taken at random moments. */
int drive_take_plain(struct session *s, unsigned updates)
{
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	away = false;
	if (session_expect(s, "READY", BOOT_MS))
		return -1;
	for (unsigned i = 0; i < updates; i++)
		if (session_wait_us(s, session_random(s, 5000)) || take(s, s->program, i % 4 == 3))
			return -1;
	return session_send(s, "q", 1) || session_finish(s) ? -1 : 0;
}

/* Right after it was taken the guest resets: the former worker, no child of the taker's, still has the disk open. */
int drive_take_reboot(struct session *s, unsigned updates)
{
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	away = false;
	if (session_expect(s, "READY", BOOT_MS))
		return -1;
	for (unsigned i = 0; i < updates; i++) {
		if (session_wait_us(s, session_random(s, 5000)))
			return -1;
		pid_t taker = taker_start(s, s->program, 0, false);
		if (taker < 0 || session_record(s) || session_send(s, "b", 1) ||
		    moved(s, taker, s->program, false) || session_expect(s, "READY", BOOT_MS))
			return -1;
	}
	return session_send(s, "q", 1) || session_finish(s) ? -1 : 0;
}
