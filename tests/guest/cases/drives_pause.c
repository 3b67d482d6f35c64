/* SPDX-License-Identifier: MIT */
/* A guest that its operator has paused does not run, whatever is done to its molt, until it is resumed. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/guest/cases/drives.h"
#include "tests/guest/runner/failing.h"
#include "tests/guest/runner/session.h"
#include "tests/guest/runner/verb.h"

#define BOOT_MS	  30000
#define STILL_MS  300
#define TRIES	  10
#define ARGS(...) ((const char *const[]){__VA_ARGS__, NULL})

static struct verb events, v;

/* The next event that is not one of an update. */
static int guest_event(struct session *s, const char *result)
{
	const char *line;
	do
		line = verb_line(&events);
	while (line && record_is(line, "event", "update"));
	if (!line || !record_is(line, "event", "guest") || !record_is(line, "result", result))
		return session_fail(s, "expected event guest %s, got '%.300s'", result,
				    line ?: "the end");
	return 0;
}

static int pause_guest(struct session *s)
{
	char by[80];
	if (verb_run(s, &v, 0, "paused\n", "pause", NULL) || guest_event(s, "paused"))
		return -1;
	snprintf(by, sizeof(by), "\"uid\":%u,\"pid\":%d}", (unsigned)geteuid(), (int)v.pid);
	return verb_run(s, &v, 0, by, "status", ARGS("--json"));
}

/* What the vCPUs' threads have used of the host's processors, by the last answer to status. */
static int cpu_time(struct session *s, uint64_t *ns)
{
	unsigned long long used;
	char path[64];
	*ns = 0;
	const char *p = strstr(v.text, "\"vcpu_threads\":[");
	for (p = p ? strchr(p, '[') : "]"; *p != ']'; p += strcspn(p, ",]")) {
		snprintf(path, sizeof(path), "/proc/%lu/schedstat", strtoul(++p, NULL, 10));
		FILE *f = fopen(path, "re");
		int n = f ? fscanf(f, "%llu", &used) : 0;
		if (f)
			fclose(f);
		if (n != 1)
			return session_fail(s, "%s: cannot be read", path);
		*ns += used;
	}
	return 0;
}

/* Its vCPUs' threads sleep. They may first have to finish what an update has left to them. */
static int asleep(struct session *s)
{
	uint64_t before, after;
	for (unsigned i = 0; i < TRIES; i++) {
		if (cpu_time(s, &before) || session_wait_us(s, STILL_MS * 1000) ||
		    cpu_time(s, &after))
			return -1;
		if (before == after)
			return 0;
	}
	return session_fail(s, "a vCPU runs while the guest is paused");
}

/* It has been asked something, and says nothing; and everybody is told that it is paused. */
static int still(struct session *s)
{
	return verb_run(s, &v, 0, "by user ", "status", NULL) ||
			       verb_run(s, &v, 0, "\"state\":\"paused\"", "status",
					ARGS("--json")) ||
			       asleep(s)
		       ? -1
		       : 0;
}

/* What it was asked while it was paused is answered now. */
static int resume_guest(struct session *s)
{
	if (verb_run(s, &v, 0, "runs again, after ", "resume", NULL) || guest_event(s, "resumed") ||
	    session_expect(s, "GAP ", 20000))
		return -1;
	return session_ask(s, 'r', "GAP ") ||
			       verb_run(s, &v, 0, "\"state\":\"running\"", "status", ARGS("--json"))
		       ? -1
		       : 0;
}

/* An update that fails before, or in, what is a pause for others. */
static int refused(struct session *s, const char *fault)
{
	const char *faulty;
	return failing_fault(s, fault, &faulty) ||
			       verb_run(s, &v, 70, "refused", "update", ARGS("--exe", faulty)) ||
			       session_record(s)
		       ? -1
		       : 0;
}

static int ask(struct session *s)
{
	return session_send(s, "r", 1);
}

static int round_of(struct session *s, unsigned updates)
{
	if (session_ask(s, 'r', "GAP ") || pause_guest(s) || ask(s) || still(s) ||
	    refused(s, "build:segv") || still(s) || refused(s, "state:no") || still(s))
		return -1;
	for (unsigned i = 0; i < updates; i++)
		if (session_update(s) || still(s))
			return -1;
	return resume_guest(s);
}

int drive_pause(struct session *s, unsigned updates)
{
	if (session_expect(s, "READY", BOOT_MS) || verb_start(s, &events, "events", NULL, NULL) ||
	    !verb_line(&events))
		return -1;
	/* Twice is no error. */
	if (verb_run(s, &v, 0, "was not paused", "resume", NULL) || pause_guest(s) ||
	    verb_run(s, &v, 0, "was paused already, for ", "pause", NULL) || ask(s) || still(s) ||
	    resume_guest(s) || verb_run(s, &v, 0, "\"changed\":false", "resume", ARGS("--json")))
		return -1;
	for (unsigned i = 0; s->updates + i < updates; i++)
		if (round_of(s, i) || session_update(s))
			return -1;
	/* Who is to power off must run, and is not paused any more. */
	if (pause_guest(s) || verb_run(s, &v, 0, "power button", "stop", NULL) ||
	    guest_event(s, "resumed") || session_ask(s, 'r', "GAP ") ||
	    verb_run(s, &v, 70, "asked to power off", "pause", NULL))
		return -1;
	return session_send(s, "q", 1) || session_finish(s) || verb_end(&events) ? -1 : 0;
}
