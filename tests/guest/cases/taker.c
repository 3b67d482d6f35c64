/* SPDX-License-Identifier: MIT */
/* One taker: it takes the guest, and what must be true then. */
#include "tests/guest/cases/taker.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/guest/cases/drives.h"
#include "tests/guest/runner/session_user.h"

#define TRIES  3 /* a host that does other things gives a longer gap now and then */
#define NOBODY 65534

#define ELSEWHERE                                                                                  \
	(CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWNET | CLONE_NEWCGROUP)

static struct tsc_bounds tsc[2];
static bool away; /* the guest is in the other namespaces, where its parent is process 1 */

void taker_begin(void)
{
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	tsc[0] = tsc[1] = (struct tsc_bounds){INT64_MIN, INT64_MAX};
	away = false;
}

int taker_sample(struct session *s)
{
	return tsc_sample(s, tsc);
}

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

/* A full socket is told nothing more. */
void taker_drain(struct session *s)
{
	char text[512];
	while (recv(s->notify, text, sizeof(text), MSG_DONTWAIT) > 0)
		;
}

pid_t taker_start(struct session *s, const char *program, int namespaces, bool stranger)
{
	taker_drain(s);
	pid_t pid = (pid_t)syscall(SYS_clone, namespaces | SIGCHLD, NULL, NULL, NULL, NULL);
	if (!pid)
		become(s, program, namespaces, stranger);
	if (pid < 0)
		session_fail(s, "no process for the taker");
	return pid;
}

int taker_end(struct session *s, pid_t taker)
{
	int status;
	for (uint64_t until = clock_ns() + TAKER_END_MS * 1000000ull * s->set->slow;;) {
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

int taker_gap(struct session *s, uint64_t *ns)
{
	*ns = 0;
	taker_drain(s);
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
	for (uint64_t until = clock_ns() + TAKER_END_MS * 1000000ull * s->set->slow;
	     session_alive(s);) {
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
	for (uint64_t until = clock_ns() + TAKER_END_MS * 1000000ull;
	     !(worker = session_worker(s));) {
		if (clock_ns() > until)
			break;
		usleep(1000);
	}
	return worker;
}

int taker_moved(struct session *s, pid_t taker, const char *program, bool elsewhere)
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

int taker_run(struct session *s, const char *program, bool elsewhere)
{
	pid_t taker = taker_start(s, program, elsewhere ? ELSEWHERE : 0, false);
	if (taker < 0 || session_record(s))
		return -1;
	if (taker_moved(s, taker, program, elsewhere)) {
		if (s->pid != taker)
			kill(taker, SIGKILL);
		return -1;
	}
	return 0;
}

int taker_run_seen(struct session *s, const char *program, bool elsewhere)
{
	uint64_t ns = 0;
	for (unsigned tries = 0; tries < TRIES; tries++) {
		if (taker_gap(s, &ns) || taker_run(s, program, elsewhere) || taker_gap(s, &ns) ||
		    taker_sample(s))
			return -1;
		if (ns < TAKER_GAP_NS * s->set->slow)
			return 0;
	}
	return session_fail(s, "the guest stood still for %.1f ms", (double)ns / 1e6);
}

int taker_update(struct session *s)
{
	session_program_of(s->program, &s->asked);
	if (kill(s->pid, SIGUSR1) || session_record(s))
		return -1;
	if (!record_is(s->record, "result", "ok"))
		return session_fail(s, "unexpected record %.300s", s->record);
	s->running = s->asked;
	return session_settle(s) || taker_sample(s) ? -1 : 0;
}
