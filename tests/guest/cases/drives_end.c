/* SPDX-License-Identifier: MIT */
/* How a guest may end other than by powering off. */
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "tests/guest/cases/cases.h"
#include "tests/guest/cases/drives.h"
#include "tests/guest/runner/failing.h"
#include "tests/guest/runner/session.h"
#include "tests/guest/runner/verb.h"

#define BOOT_MS	  30000
#define RESET	  32 /* molt(1), EXIT STATUS */
#define CRASHED	  33
#define PANICKED  34
#define ARGS(...) ((const char *const[]){__VA_ARGS__, NULL})

/* The next event @event with @result; those of updates are left out. */
static int await_event(struct session *s, struct verb *events, const char *event,
		       const char *result)
{
	const char *line;
	do
		line = verb_line(events);
	while (line && record_is(line, "event", "update"));
	if (line && record_is(line, "event", event) && record_is(line, "result", result))
		return 0;
	return session_fail(s, "expected event %s %s, got '%.300s'", event, result,
			    line ?: "the end");
}

/* Told by a guest that goes on, and after an update by one that does not. */
int drive_panic(struct session *s, unsigned updates)
{
	if (session_expect(s, "READY", BOOT_MS) || drive_updates(s, updates / 2) ||
	    session_ask(s, 'c', "GOES ON") ||
	    session_await_written(s, "log", "its crash kernel goes on", 1) ||
	    drive_updates(s, updates - updates / 2) || session_send(s, "p", 1) ||
	    session_exits(s, PANICKED))
		return -1;
	if (!session_logged(s, "the guest's kernel has panicked (exit 34)"))
		return session_fail(s, "molt does not say that the guest has panicked");
	snprintf(s->line, sizeof(s->line), "ended with %d", PANICKED);
	return 0;
}

/* With --log-level warning: what went wrong is told, what went well is not. */
int drive_crash(struct session *s, unsigned updates)
{
	static const char *const told[] = {
		"molt: warning: update refused, the guest runs on: ",
		"molt: warning: vCPU 0: triple fault; rip ",
		"molt: warning: vCPU 0: triple fault (exit 33)",
	};
	const struct failing f = {.kind = FAILING_ABSENT};

	if (session_expect(s, "READY", BOOT_MS) || drive_updates(s, updates) ||
	    failing_install(s, &f) || kill(s->pid, SIGUSR1) || session_record(s) ||
	    session_send(s, "t", 1) || session_exits(s, CRASHED))
		return -1;
	for (unsigned i = 0; i < sizeof(told) / sizeof(told[0]); i++)
		if (session_logged(s, told[i]) != 1)
			return session_fail(s, "molt does not say once '%s'", told[i]);
	if (session_logged(s, "guest paused"))
		return session_fail(s, "molt says what is no warning");
	snprintf(s->line, sizeof(s->line), "ended with %d", CRASHED);
	return 0;
}

/* While a new program hangs, which waits for what the guest never sees. */
static int crash_in_update(struct session *s, char how)
{
	static struct verb update;
	const char *faulty;

	if (failing_fault(s, "build:hang", &faulty) ||
	    verb_start(s, &update, "update", NULL, ARGS("--exe", faulty)))
		return -1;
	while (!session_children(s, "molt-successor", NULL))
		if (session_wait_us(s, 1000))
			return -1;
	if (session_send(s, &how, 1) || session_record(s) || verb_end(&update) != 70)
		return -1;
	return record_is(s->record, "reason", "the guest has crashed and stays as it is")
		       ? 0
		       : session_fail(s, "unexpected record: %.300s", s->record);
}

/* --on-crash pause: it never runs again, whatever is asked, over updates too, and ends as it would have then. */
int drive_crash_kept(struct session *s, unsigned updates)
{
	static struct verb events, v;
	bool panics = !strcmp(s->test->guest, "panic");
	int code = panics ? PANICKED : CRASHED;
	char end[32];

	if (session_expect(s, "READY", BOOT_MS) || verb_start(s, &events, "events", NULL, NULL) ||
	    !verb_line(&events) || session_update(s) || crash_in_update(s, panics ? 'p' : 't') ||
	    await_event(s, &events, "guest", "crashed"))
		return -1;
	for (unsigned i = 0; i < updates; i++)
		if (verb_run(s, &v, 0, "\"state\":\"crashed\"", "status", ARGS("--json")) ||
		    verb_run(s, &v, 0, "molt_crashed 1\n", "metrics", NULL) ||
		    verb_run(s, &v, 70, "the guest has crashed (", "pause", NULL) ||
		    verb_run(s, &v, 70, "the guest has crashed (", "resume", NULL) ||
		    session_update(s))
			return -1;
	if (verb_run(s, &v, 0, "ended; it had crashed: ", "stop", NULL) ||
	    await_event(s, &events, "end", "ok") || session_exits(s, code))
		return -1;
	snprintf(end, sizeof(end), "exit %d)", code);
	if (session_logged(s, end) != 1 || session_logged(s, "molt:   vCPU 0: rip ") != 1)
		return session_fail(s, "molt does not say how the guest ended");
	verb_end(&events);
	snprintf(s->line, sizeof(s->line), "ended with %d", code);
	return 0;
}

/* With --on-reset exit and --on-crash exit, the defaults: after an update. */
int drive_reset(struct session *s, unsigned updates)
{
	if (session_expect(s, "READY", BOOT_MS) || drive_updates(s, updates) ||
	    session_send(s, "r", 1) || session_exits(s, RESET))
		return -1;
	snprintf(s->line, sizeof(s->line), "ended with %d", RESET);
	return 0;
}

/* The guest does @how, and boots again to find what the first boot has found. */
static int boot_again(struct session *s, struct verb *events, char how, const char *first)
{
	if (session_send(s, &how, 1) || session_expect(s, "READY", BOOT_MS))
		return -1;
	if (strcmp(s->line, first))
		return session_fail(s, "'%c': the guest finds '%s', and not '%s'", how, s->line,
				    first);
	return await_event(s, events, "reboot", "ok");
}

int drive_reboot(struct session *s, unsigned updates)
{
	static const char ways[] = "rktp";
	static struct verb events, v;
	char first[SESSION_LINE], count[32];
	unsigned n = 0;

	if (session_expect(s, "READY", BOOT_MS))
		return -1;
	memcpy(first, s->line, sizeof(first));
	if (verb_start(s, &events, "events", NULL, NULL) || !verb_line(&events))
		return -1;
	for (unsigned i = 0; i < updates; i++) {
		if (boot_again(s, &events, ways[i % 4], first) || session_update(s) ||
		    session_ask(s, 's', "STAYS") || boot_again(s, &events, ways[i / 4 % 4], first))
			return -1;
		n += 2;
	}
	snprintf(count, sizeof(count), "\"reboots\":%u,", n);
	if (verb_run(s, &v, 0, count, "status", ARGS("--json")) || session_settle(s))
		return -1;
	/* Who is asked to end does not begin anew. */
	if (kill(s->pid, SIGTERM) || session_await_written(s, "log", "power button", 1) ||
	    session_send(s, "r", 1) || session_exits(s, RESET))
		return -1;
	verb_end(&events);
	snprintf(s->line, sizeof(s->line), "%u boots", n + 1);
	return 0;
}
