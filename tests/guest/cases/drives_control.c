/* SPDX-License-Identifier: MIT */
/*
 * The guest is asked, updated and stopped with molt's own verbs. The runner is also its supervisor:
 * what is sent to $NOTIFY_SOCKET must say when it is ready, reloading, and which process it is.
 */
#include "tests/guest/cases/drives.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/guest/runner/failing.h"
#include "tests/guest/runner/session.h"
#include "tests/guest/runner/supervisor.h"
#include "tests/guest/runner/verb.h"

#define BOOT_MS	  30000
#define CROWD	  40 /* clients at once: more than a guest has room for */
#define ARGS(...) ((const char *const[]){__VA_ARGS__, NULL})

/* By the process that the world knows: a supervisor listens to no other. */
static int notified(struct session *s, const char *a, const char *b)
{
	return supervisor_told(s, s->pid, a, b);
}

static int event(struct session *s, struct verb *events, const char *name, const char *result)
{
	const char *line;
	do /* warming that takes its time is told of */
		line = verb_line(events);
	while (line && record_is(line, "result", "progress"));
	if (!line || !record_is(line, "event", name) || !record_is(line, "result", result))
		return session_fail(s, "expected event %s %s, got '%.300s'", name, result,
				    line ?: "the end");
	return 0;
}

/* What an update that ended well or ill is to tell everybody; the guest answers after it. */
static int told(struct session *s, struct verb *events, const char *result, const char *ready)
{
	if (event(s, events, "update", "started") || event(s, events, "update", result) ||
	    notified(s, "RELOADING=1", "\nMONOTONIC_USEC=") || notified(s, "READY=1", ready) ||
	    session_record(s))
		return -1;
	if (!record_is(s->record, "result", result))
		return session_fail(s, "the report says %.300s", s->record);
	return session_ask(s, 'r', "GAP ") ? -1 : 0;
}

static int update_done(struct session *s, struct verb *events, struct verb *v, const char *exe)
{
	const char *const *more = exe ? ARGS("--json", "--exe", exe) : ARGS("--json");
	if (verb_run(s, v, 0, "\"result\":\"ok\"", "update", more) ||
	    told(s, events, "ok", "STATUS=update"))
		return -1;
	if (session_program_of(exe ?: s->program, &s->running))
		return session_fail(s, "%s: %s", exe ?: s->program, strerror(errno));
	v->text[strcspn(v->text, "\n")] = 0;
	if (strcmp(v->text, s->record))
		return session_fail(s, "the answer is no copy of the record: %.300s", v->text);
	s->pauses_ns[s->updates++] = (uint64_t)record_number(s->record, "pause_ns");
	return 0;
}

/* The program of --exe is the next update's as well, whatever is where molt was started from. */
static int stays(struct session *s, struct verb *events, struct verb *v, const char *exe)
{
	char path[160];
	snprintf(path, sizeof(path), "\"exe\":\"%s\"", exe);
	if (verb_run(s, v, 0, path, "status", ARGS("--json")) || session_install(s, false) ||
	    kill(s->pid, SIGUSR1) || told(s, events, "ok", "STATUS=update") || session_settle(s))
		return -1;
	s->pauses_ns[s->updates++] = (uint64_t)record_number(s->record, "pause_ns");
	return 0;
}

/* The faulty molt is named with --exe; the guest runs on under the same process id. */
static int update_undone(struct session *s, struct verb *events, struct verb *v, const char *fault,
			 const char *reason)
{
	const char *faulty;
	if (failing_fault(s, fault, &faulty) ||
	    verb_run(s, v, 70, reason, "update", ARGS("--exe", faulty)) ||
	    told(s, events, "refused", "STATUS=update refused"))
		return -1;
	return record_number(s->record, "pid") == s->pid
		       ? 0
		       : session_fail(s, "fault %s: %.300s", fault, s->record);
}

static int refusals(struct session *s, struct verb *events, struct verb *v)
{
	char report[96];
	snprintf(report, sizeof(report), "%s/report", s->dir);
	if (verb_run(s, v, 70, "not executable", "update", ARGS("--check", "--exe", report)) ||
	    verb_run(s, v, 70, "\"event\":\"check\",\"result\":\"refused\"", "update",
		     ARGS("--check", "--json", "--exe", report)) ||
	    verb_run(s, v, 70, "remedy: chmod", "update", ARGS("--exe", report)) ||
	    told(s, events, "refused", "STATUS=update refused"))
		return -1;
	if (verb_start(s, v, "status", "/nowhere/sock", NULL) || verb_end(v) != 4 ||
	    !strstr(v->text, "remedy:"))
		return session_fail(s, "no guest: %.300s", v->text);
	return 0;
}

/* As /proc has them, once there is no other worker. */
static int name_processes(struct session *s, char *text, size_t size)
{
	if (session_settle(s))
		return -1;
	snprintf(text, size, "\"pid\":%d,\"worker\":%d,", (int)s->pid, (int)session_worker(s));
	return 0;
}

/* A check has a successor build all, which is sent away before the guest would be paused. */
static int checks(struct session *s, struct verb *v)
{
	const char *faulty;
	char now[64];

	if (name_processes(s, now, sizeof(now)) || failing_fault(s, "ready:no", &faulty) ||
	    verb_run(s, v, 70, "I would rather not", "update", ARGS("--check", "--exe", faulty)) ||
	    failing_fault(s, "state:segv", &faulty) ||
	    verb_run(s, v, 0, "yes", "update", ARGS("--check", "--exe", faulty)) ||
	    verb_run(s, v, 0, now, "status", ARGS("--json")) || session_settle(s))
		return -1;
	return verb_run(s, v, 0, "\"updates\":0,", "status", ARGS("--json"));
}

static int crowd(struct session *s)
{
	static struct verb v[CROWD];
	for (unsigned i = 0; i < CROWD; i++)
		if (verb_start(s, &v[i], "status", NULL, ARGS("--timeout", "60")))
			return -1;
	for (unsigned i = 0; i < CROWD; i++)
		if (verb_end(&v[i]))
			return session_fail(s, "client %u of %u at once: %.200s", i, CROWD,
					    v[i].text);
	return 0;
}

int drive_control(struct session *s, unsigned updates)
{
	static struct verb events, v;
	char pid[64], b[96];

	(void)updates;
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	snprintf(b, sizeof(b), "%s/molt.b", s->dir);
	if (session_expect(s, "READY", BOOT_MS) || notified(s, "READY=1", "STATUS=") ||
	    verb_start(s, &events, "events", NULL, NULL) || event(s, &events, "events", "ok"))
		return -1;
	if (name_processes(s, pid, sizeof(pid)) ||
	    verb_run(s, &v, 0, pid, "status", ARGS("--json")) ||
	    verb_run(s, &v, 0, "can be kept", "status", NULL) || crowd(s) ||
	    session_install(s, true) || verb_run(s, &v, 0, "yes", "update", ARGS("--check")) ||
	    checks(s, &v) || update_done(s, &events, &v, NULL))
		return -1;
	if (name_processes(s, pid, sizeof(pid)) ||
	    verb_run(s, &v, 0, pid, "status", ARGS("--json")) || refusals(s, &events, &v) ||
	    update_undone(s, &events, &v, "build:segv", "ended, or said") ||
	    update_undone(s, &events, &v, "load:kill", "ended before") ||
	    update_done(s, &events, &v, b) || stays(s, &events, &v, b))
		return -1;
	if (name_processes(s, pid, sizeof(pid)) ||
	    verb_run(s, &v, 0, pid, "status", ARGS("--json")) ||
	    verb_run(s, &v, 0, "\"updates\":3,", "status", ARGS("--json")) ||
	    verb_run(s, &v, 0, "\"last_update\":{\"event\":\"update\",\"result\":\"ok\"", "status",
		     ARGS("--json")))
		return -1;
	/* A guest that does not listen to its power button: it may be pressed often. */
	if (verb_run(s, &v, 0, "power button", "stop", NULL) ||
	    verb_run(s, &v, 0, "\"timeout_s\":30", "stop", ARGS("--json")) ||
	    verb_run(s, &v, 0, "powering off", "status", NULL) ||
	    verb_run(s, &v, 70, "asked to power off", "update", NULL) ||
	    told(s, &events, "refused", "power off"))
		return -1;
	if (session_send(s, "q", 1) || session_finish(s) || event(s, &events, "end", "ok") ||
	    notified(s, "STOPPING=1", "powered off"))
		return -1;
	int status = verb_end(&events);
	return status ? session_fail(s, "molt events: exit status %d", status) : 0;
}

/* An update whose program takes a second to build. */
static int update_begun(struct session *s, struct verb *events, struct verb *v)
{
	const char *faulty;
	return failing_fault(s, "build:slow", &faulty) ||
			       verb_start(s, v, "update", NULL, ARGS("--json", "--exe", faulty)) ||
			       event(s, events, "update", "started")
		       ? -1
		       : 0;
}

static int record_ok(struct session *s)
{
	if (session_record(s))
		return -1;
	if (!record_is(s->record, "result", "ok"))
		return session_fail(s, "unexpected record %.300s", s->record);
	s->pauses_ns[s->updates++] = (uint64_t)record_number(s->record, "pause_ns");
	return 0;
}

int drive_busy(struct session *s, unsigned updates)
{
	static struct verb events, first, v;
	char busy[320];

	(void)updates;
	snprintf(busy, sizeof(busy), "an update is under way: %s since ",
		 getenv("MOLT_FAULTY") ?: "?");
	if (session_expect(s, "READY", BOOT_MS) || verb_start(s, &events, "events", NULL, NULL) ||
	    event(s, &events, "events", "ok") || update_begun(s, &events, &first))
		return -1;
	/* Requests are answered meanwhile, but for another update. Two signals are one, once this one is through. */
	if (verb_run(s, &v, 0, "\"updates\":0,", "status", ARGS("--json")) ||
	    verb_run(s, &v, 70, busy, "update", NULL) ||
	    verb_run(s, &v, 70, "\"result\":\"error\"", "update", ARGS("--json")) ||
	    verb_run(s, &v, 70, busy, "update", ARGS("--check")) || session_wait_us(s, 200000) ||
	    verb_run(s, &v, 70, "waiting for it to build the machine", "update", NULL))
		return -1;
	kill(s->pid, SIGUSR1);
	kill(s->pid, SIGUSR1);
	if (record_ok(s) || record_ok(s))
		return -1;
	if (verb_end(&first) || !strstr(first.text, "\"update\":1,"))
		return session_fail(s, "%.300s", first.text);
	if (verb_run(s, &v, 0, "\"updates\":2,", "status", ARGS("--json")) ||
	    session_ask(s, 'r', "GAP "))
		return -1;
	for (unsigned i = 0; i < 3; i++)
		if (event(s, &events, "update", i % 2 ? "started" : "ok"))
			return -1;

	/* Asked to end, the guest is not updated any more. */
	if (update_begun(s, &events, &first) || kill(s->pid, SIGTERM) || session_record(s) ||
	    event(s, &events, "update", "refused") || event(s, &events, "end", "ok"))
		return -1;
	if (!record_is(s->record, "result", "refused"))
		return session_fail(s, "unexpected record %.300s", s->record);
	waitpid(s->pid, &s->status, 0);
	s->exited = true;
	if (verb_end(&first) != 70 || verb_end(&events) || !WIFEXITED(s->status) ||
	    WEXITSTATUS(s->status) != 128 + SIGTERM)
		return session_fail(s, "after SIGTERM: status %x, update %.300s", s->status,
				    first.text);
	snprintf(s->line, sizeof(s->line), "PASS busy");
	return 0;
}
