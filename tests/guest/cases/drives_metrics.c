/* SPDX-License-Identifier: MIT */
/* What is counted of a guest is counted on by each program that gets it. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "tests/guest/cases/drives.h"
#include "tests/guest/runner/failing.h"
#include "tests/guest/runner/metrics.h"
#include "tests/guest/runner/session.h"
#include "tests/guest/runner/verb.h"

#define BOOT_MS	  30000
#define ARGS(...) ((const char *const[]){__VA_ARGS__, NULL})

static struct verb v;
static struct metrics before, now;

/* Counters only grow. */
static int scrape(struct session *s)
{
	before = now;
	if (verb_run(s, &v, 0, "molt_info{", "metrics", NULL) || metrics_read(s, v.text, &now))
		return -1;
	for (unsigned i = 0; i < before.n; i++) {
		const char *name = before.m[i].name;
		double is = metrics_get(&now, name);
		if ((strstr(name, "_total") || strstr(name, "pause_seconds")) &&
		    !(is >= before.m[i].value))
			return session_fail(s, "%s was %g and is %g", name, before.m[i].value, is);
	}
	return 0;
}

static int is(struct session *s, const char *name, double want)
{
	double got = metrics_get(&now, name);
	return fabs(got - want) <= 1e-9 ? 0
					: session_fail(s, "%s is %.9g, not %.9g", name, got, want);
}

static int refused(struct session *s, const char *exe, double *pause_s)
{
	if (verb_run(s, &v, 70, "refused", "update", ARGS("--exe", exe)) || session_record(s))
		return -1;
	*pause_s += (double)record_number(s->record, "pause_ns") / 1e9;
	return 0;
}

static int refused_by(struct session *s, const char *fault, double *pause_s)
{
	const char *faulty;
	return failing_fault(s, fault, &faulty) ? -1 : refused(s, faulty, pause_s);
}

int drive_metrics(struct session *s, unsigned updates)
{
	double pause_s = 0;
	if (session_expect(s, "READY", BOOT_MS) || scrape(s) || is(s, "molt_updates_total", 0) ||
	    is(s, "molt_reboots_total", 0) || is(s, "molt_vcpus", 2) || is(s, "molt_paused", 0) ||
	    is(s, "molt_update_pause_seconds_count", 0))
		return -1;
	for (unsigned i = 0; i < updates; i++) {
		if (session_update(s) || refused(s, "/nowhere", &pause_s) ||
		    refused_by(s, "build:segv", &pause_s) || refused_by(s, "state:no", &pause_s) ||
		    session_ask(s, 'r', "GAP ") || scrape(s))
			return -1;
		pause_s += (double)s->pauses_ns[i] / 1e9;
		double n = i + 1;
		if (is(s, "molt_updates_total", n) ||
		    is(s, "molt_update_failures_total{reason=\"check\"}", n) ||
		    is(s, "molt_update_failures_total{reason=\"ended\"}", n) ||
		    is(s, "molt_update_failures_total{reason=\"refused\"}", n) ||
		    is(s, "molt_update_pause_seconds_count", 2 * n) ||
		    fabs(metrics_get(&now, "molt_update_pause_seconds_sum") - pause_s) > 1e-4 * n)
			return session_fail(s, "after %g updates, paused for %g s: %.600s", n,
					    pause_s, s->error[0] ? s->error : v.text);
		double exits = metrics_get(&now, "molt_vcpu_exits_total");
		if (!isnan(exits) && exits <= metrics_get(&before, "molt_vcpu_exits_total"))
			return session_fail(s, "the guest has had no exits: %g", exits);
	}
	/* A pause of the operator's is none of an update. */
	if (verb_run(s, &v, 0, "paused", "pause", NULL) || scrape(s) || is(s, "molt_paused", 1) ||
	    is(s, "molt_update_pause_seconds_count", 2 * (double)updates) ||
	    verb_run(s, &v, 0, "\"event\":\"metrics\"", "metrics", ARGS("--json")) ||
	    verb_run(s, &v, 0, "of CPU time", "status", NULL) ||
	    verb_run(s, &v, 0, "in pages of 4 KiB", "status", NULL) ||
	    verb_run(s, &v, 0, "{\"name\":\"molt-cpu1\",\"tid\":", "status", ARGS("--json")) ||
	    verb_run(s, &v, 0, "\"cpu_ns\":", "status", ARGS("--json")) ||
	    verb_run(s, &v, 0, "\"memory_pages\":[{\"page_bytes\":4096,\"bytes\":", "status",
		     ARGS("--json")) ||
	    verb_run(s, &v, 0, "the guest has no disks", "rescan", NULL) ||
	    verb_run(s, &v, 0, "runs again", "resume", NULL))
		return -1;
	return session_send(s, "q", 1) || session_finish(s) ? -1 : 0;
}
