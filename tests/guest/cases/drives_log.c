/* SPDX-License-Identifier: MIT */
/* --log: messages of parent and workers are all in the file, over updates and when it was rotated. */
#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>

#include "tests/guest/cases/drives.h"
#include "tests/guest/runner/failing.h"
#include "tests/guest/runner/session.h"

#define BOOT_MS 30000
#define LOG_MS	30000
#define ROUNDS	8
#define STEP_US 4000
#define FILE_	"own.log"
#define ROTATED "own.log.1"

/* As logrotate(8) does. */
static int rotate(struct session *s)
{
	char from[160], to[160];
	struct stat st;
	snprintf(from, sizeof(from), "%s/" FILE_, s->dir);
	snprintf(to, sizeof(to), "%s/" ROTATED, s->dir);
	if (rename(from, to) || kill(s->pid, SIGHUP))
		return session_fail(s, "rotating " FILE_);
	for (unsigned ms = 0; stat(from, &st); ms += 10)
		if (ms > LOG_MS * s->set->slow || session_wait_us(s, 10000))
			return session_fail(s, FILE_ " was not opened anew");
	return 0;
}

/* The parent has something to say when the new program is no good as one. */
static int parent_says(struct session *s, unsigned n)
{
	const struct failing f = {.kind = FAILING_FAULT, .arg = "rehearsal:exit"};
	if (failing_install(s, &f) || kill(s->pid, SIGUSR1) || session_record(s))
		return -1;
	return session_await_written(s, FILE_, "Z warning molt[logged]: this process (pid ", n);
}

/* At whatever stage of an update: each is some milliseconds later. What is said afterwards is in the new file. */
static int rotate_meanwhile(struct session *s)
{
	const struct failing f = {.kind = FAILING_ABSENT};
	for (unsigned i = 0; i < ROUNDS; i++)
		if (session_install(s, false) || kill(s->pid, SIGUSR1) ||
		    session_wait_us(s, i * STEP_US * s->set->slow) || rotate(s) ||
		    session_record(s) || session_settle(s) || failing_install(s, &f) ||
		    kill(s->pid, SIGUSR1) || session_record(s) ||
		    session_await_written(s, FILE_, "update refused, the guest runs on: ", 1))
			return -1;
	return parent_says(s, 1);
}

int drive_log(struct session *s, unsigned updates)
{
	unsigned half = updates / 2;
	if (session_expect(s, "READY", BOOT_MS) || drive_updates(s, half) || parent_says(s, 1) ||
	    rotate(s) || parent_says(s, 1) || drive_updates(s, half) || session_settle(s) ||
	    parent_says(s, 2) ||
	    session_await_written(s, ROTATED, "Z info molt[logged]: update ", half + 1) ||
	    session_await_written(s, FILE_, "Z info molt[logged]: update ", half + 2) ||
	    rotate_meanwhile(s) || session_send(s, "q", 1) || session_finish(s))
		return -1;
	if (session_logged(s, "update "))
		return session_fail(s, "standard error got more than errors");
	return session_await_written(s, FILE_, "(exit 0)\n", 1);
}
