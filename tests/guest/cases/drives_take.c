/* SPDX-License-Identifier: MIT */
/*
 * `molt run --take`: another molt, which is no child of the guest's, takes it. It does, from other namespaces too, and
 * back; or it fails (takers_failing.c).
 */
#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/guest/cases/drives.h"
#include "tests/guest/cases/taker.h"
#include "tests/guest/runner/failing.h"
#include "tests/guest/runner/supervisor.h"
#include "tests/guest/runner/verb.h"

#define BOOT_MS	  30000
#define ARGS(...) ((const char *const[]){__VA_ARGS__, NULL})

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
		if (ms == TAKER_END_MS || usleep(1000))
			return session_fail(s, "the parent was not lost");
	waitpid(known, NULL, 0);
	s->pid = worker; /* ours, since we are the subreaper */
	s->exited = false;
	if (taker_sample(s) ||
	    verb_run(s, &v, TAKER_REFUSED, "no parent process", "update", NULL) ||
	    session_record(s) || taker_run(s, s->program, false))
		return -1;
	return taker_sample(s) || taker_update(s) ? -1 : 0;
}

static int rows(struct session *s, unsigned updates)
{
	if (taker_run_seen(s, s->program, false) || session_install(s, true) || taker_update(s) ||
	    takers_stranger_row(s) || taker_run_seen(s, s->program, false))
		return -1;
	printf("  from the same namespaces, updated, and taken again: done; another user: "
	       "refused\n");
	/* There, updated there, and back. */
	if (taker_run_seen(s, s->program, true) || taker_update(s) ||
	    taker_run_seen(s, s->program, true) || takers_unseen_rows(s) ||
	    taker_run_seen(s, s->program, false) || taker_update(s))
		return -1;
	printf("  to other namespaces, between them, and back: done\n");
	if (takers_protocol_rows(s))
		return -1;
	printf("  another protocol: refused; a newer one that knows this one: done\n");
	if (takers_busy_rows(s))
		return -1;
	printf("  while an update or another taker is under way: refused\n");
	if (takers_parent_row(s, "build:hang", SIGKILL, "ended, or said what is no message") ||
	    takers_parent_row(s, "ready:hang", SIGKILL, "ended, or said what is no message") ||
	    takers_parent_row(s, "build:slow", SIGSTOP, NULL))
		return -1;
	if (alone_row(s))
		return -1;
	printf("  a worker without its parent: done, and updated\n");
	return takers_faults(s, updates);
}

int drive_take(struct session *s, unsigned updates)
{
	alarm(0);	     /* every wait here has a deadline of its own */
	s->forbidden = true; /* in one of the rows */
	taker_begin();
	if (session_expect(s, "READY", BOOT_MS) || taker_sample(s))
		return -1;
	if (rows(s, updates))
		return -1;
	/* Supervisors are told by the process that each of them knows. */
	pid_t before = s->pid;
	taker_drain(s);
	if (taker_run(s, s->program, false) || supervisor_told(s, before, "RELOADING=1", "") ||
	    supervisor_told(s, s->pid, "READY=1", "STATUS=update "))
		return -1;
	return session_send(s, "q", 1) || session_finish(s) ? -1 : 0;
}

/* Other guests, which look at other things, are taken at random moments. */
int drive_take_plain(struct session *s, unsigned updates)
{
	taker_begin();
	if (session_expect(s, "READY", BOOT_MS))
		return -1;
	for (unsigned i = 0; i < updates; i++)
		if (session_wait_us(s, session_random(s, 5000)) ||
		    taker_run(s, s->program, i % 4 == 3))
			return -1;
	return session_send(s, "q", 1) || session_finish(s) ? -1 : 0;
}

/* Right after it was taken the guest resets: the former worker, no child of the taker's, still has the disk open. */
int drive_take_reboot(struct session *s, unsigned updates)
{
	taker_begin();
	if (session_expect(s, "READY", BOOT_MS))
		return -1;
	for (unsigned i = 0; i < updates; i++) {
		if (session_wait_us(s, session_random(s, 5000)))
			return -1;
		pid_t taker = taker_start(s, s->program, 0, false);
		if (taker < 0 || session_record(s) || session_send(s, "b", 1) ||
		    taker_moved(s, taker, s->program, false) || session_expect(s, "READY", BOOT_MS))
			return -1;
	}
	return session_send(s, "q", 1) || session_finish(s) ? -1 : 0;
}
