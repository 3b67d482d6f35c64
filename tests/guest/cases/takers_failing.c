/* SPDX-License-Identifier: MIT */
/*
 * Takers that do not get the guest: they fail, are killed or stopped at any stage, speak another protocol, come second,
 * or may not ask. The guest goes on where it was.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/guest/cases/taker.h"
#include "tests/guest/runner/failing.h"
#include "tests/guest/runner/verb.h"

#define TRIES	  3	 /* a busy host makes something late now and then */
#define POINT_US  300000 /* to come to its fault point */
#define ARGS(...) ((const char *const[]){__VA_ARGS__, NULL})

struct here {
	pid_t worker;
	uint64_t gap_ns;
};

static int begin(struct session *s, struct here *h)
{
	h->worker = session_worker(s);
	return taker_gap(s, &h->gap_ns);
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
	return taker_sample(s);
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
	return session_wait_us(s, POINT_US) || verb_run(s, &v, TAKER_REFUSED, said, "update", NULL)
		       ? -1
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
			   : taker_moved(s, taker, faulty, false);
	if (!rc && f->reason)
		rc = stayed_exits(s, &h, taker,
				  strstr(f->arg, ":exit") || strstr(f->arg, ":garbage"));
	else if (rc && s->pid != taker)
		kill(taker, SIGKILL);
	if (rc || taker_gap(s, &ns))
		return -1;
	return late || ns >= TAKER_GAP_NS * s->set->slow;
}

static int fault_row(struct session *s, const struct failing *f)
{
	int rc = 1;
	for (unsigned tries = 0; rc == 1 && tries < TRIES; tries++)
		rc = fault_once(s, f);
	if (rc == 1)
		session_fail(s, "the guest stood still for too long, or another reason, each time");
	if (rc || (!f->reason && taker_run(s, s->program, false))) {
		char why[sizeof(s->error)];
		memcpy(why, s->error, sizeof(why));
		s->error[0] = 0;
		return session_fail(s, "row '%s': %.900s", f->name, why);
	}
	return 0;
}

/* The points of a taker's life are those of a successor, but for "entry"; a child of its own that outlives it is
 * guest/fault's. */
int takers_faults(struct session *s, unsigned limit)
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
int takers_parent_row(struct session *s, const char *fault, int sig, const char *reason)
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
	return taker_moved(s, taker, faulty, false) || taker_sample(s) ||
			       taker_run(s, s->program, false)
		       ? -1
		       : 0;
}

/* ---- other rows ---- */

int takers_protocol_rows(struct session *s)
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
	return taker_run_seen(s, other, false) || taker_run_seen(s, s->program, false) ? -1 : 0;
}

/* Who comes second is told so; who was first is not disturbed. */
int takers_busy_rows(struct session *s)
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
	if (taker_end(s, second) != TAKER_REFUSED || verb_end(&v) || session_record(s))
		return session_fail(s, "taken while it was updated, or the update was lost: %.300s",
				    v.text);
	if (!session_logged(s, "an update is under way"))
		return session_fail(s, "the second is not told why");
	session_program_of(faulty, &s->running);
	if (session_settle(s) || taker_sample(s))
		return -1;
	/* and another taker. */
	if (watch(s, &events))
		return -1;
	first = taker_start(s, faulty, 0, false);
	if (first < 0 || under_way(s, &events, "(--take) since"))
		return -1;
	second = taker_start(s, s->program, 0, false);
	if (taker_end(s, second) != TAKER_REFUSED)
		return session_fail(s, "two have taken it");
	return session_record(s) || taker_moved(s, first, faulty, false) || taker_sample(s) ||
			       taker_run(s, s->program, false)
		       ? -1
		       : 0;
}

/* The socket's mode may let somebody in who is not to be. */
int takers_stranger_row(struct session *s)
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
int takers_unseen_rows(struct session *s)
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
