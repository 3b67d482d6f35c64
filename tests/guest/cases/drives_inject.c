/* SPDX-License-Identifier: MIT */
/*
 * Every system call of an update fails once, with each error it can fail with, in each process that takes part: the
 * worker that has the guest, its successor, the parent and what it starts and becomes. Which calls there are is
 * seen in an update that goes well (or back), not listed here. With a second vCPU and a level interrupt,
 * and with a disk that has requests in flight, only the calls are failed that these add.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "tests/guest/cases/cases.h"
#include "tests/guest/cases/drives.h"
#include "tests/guest/runner/line.h"
#include "tests/guest/cases/matrix.h"
#include "tests/guest/runner/session.h"

/* How an update meets the level interrupt of inject-2: pending behind the IOAPIC's mask, or in its
 * handler. */
static bool line_masked;

#define RUN_HITS 3
#define TRIES	 8 /* to meet a call that threads make only when they meet so */
#define NOT_MADE "made in none of 8 more updates: how many there are is chance"

/* What an update is made to do, and the images whose calls are failed in it. */
struct scenario {
	const char *name;
	bool back;	 /* the successor refuses the state: the guest resumes in place */
	unsigned images; /* bits */
};

#define WORKERS (1 << IMAGE_OLD | 1 << IMAGE_NEW)
#define PARENTS (1 << IMAGE_PARENT | 1 << IMAGE_CHILD | 1 << IMAGE_TRIAL | 1 << IMAGE_NEXT)

static const struct scenario updates_well = {.name = "update", .images = WORKERS};
static const struct scenario parents_of_it = {.name = "parent of an update", .images = PARENTS};
/* Only what comes after the refusal. */
static const struct scenario goes_back = {
	.name = "way back", .back = true, .images = 1 << IMAGE_OLD};

/* The error's own name is in the message as a rule; what is said instead is shown, to be judged. */
static void show_other_words(const struct matrix *x, enum outcome o, const struct inject_call *call,
			     int error)
{
	static const struct inject_call *last;
	if ((o != REFUSED && o != BACK) || call == last || inject_error_in(error, x->log))
		return;
	last = call;
	printf("  says %s %s: %.*s\n", inject_call_name(call), inject_error_name(error),
	       (int)strcspn(x->log, "\n"), x->log);
}

/* The successor's last look at the state's seals is within the pause. Failed, it says no. */
static struct inject_shot refusal = {
	.at = {.image = IMAGE_NEW, .nr = SYS_fcntl, .request = F_GET_SEALS}, .error = EINVAL};

static void begin_shots(struct inject *in, const struct scenario *sc)
{
	in->nshots = 0;
	if (sc->back)
		in->shots[in->nshots++] = refusal;
}

static enum outcome run_row(struct matrix *x, const struct scenario *sc,
			    const struct inject_call *call, int error)
{
	struct inject *in = &x->in;
	struct inject_shot shot = {*call, error, inject_kind_of(call)->does_it, false};

	begin_shots(in, sc);
	in->recording = false;
	in->shots[in->nshots++] = shot;
	enum outcome o = matrix_row(x);
	if (o != LOST && !in->shots[in->nshots - 1].hit)
		return NOT_MET;
	if (!sc->back)
		show_other_words(x, o, call, error);
	return o;
}

/* Where each call is failed in one way only: not by EINTR, after which most are simply made again. */
static const int *first_error(const int *errors)
{
	return errors[0] == EINTR && errors[1] ? errors + 1 : errors;
}

static int run_call(struct matrix *x, const struct scenario *sc, const struct inject_call *call,
		    bool one_error)
{
	const struct inject_kind *kind = inject_kind_of(call);
	const char *only = getenv("MOLT_INJECT"); /* part of a call's name: to look at one */
	unsigned count[OUTCOMES] = {0};
	char name[200];

	if (only && !strstr(inject_call_name(call), only))
		return 0;
	/* What is done to the line itself is failed while it is pending, which takes longer. */
	line_masked = call->request == KVM_IRQFD || strstr(call->file, "[eventfd]");
	if (!kind->errors || (kind->images && !(kind->images & 1u << call->image))) {
		matrix_except(x, inject_call_name(call), kind->excepted);
		return 0;
	}
	const int *first = one_error ? first_error(kind->errors) : kind->errors;
	for (const int *error = first; *error && !(one_error && error > first); error++) {
		enum outcome o = NOT_MET;
		snprintf(name, sizeof(name), "%s %s", inject_call_name(call),
			 inject_error_name(*error));
		x->name = name;
		for (unsigned tries = 0; o == NOT_MET && tries < TRIES; tries++)
			o = run_row(x, sc, call, *error);
		count[o]++;
		if (o != NOT_MET) {
			if (matrix_count(x, o, name))
				return -1;
			continue;
		}
		matrix_except(x, name, NOT_MADE);
		if (error == first) /* nor for the others: each try would take an update */
			break;
	}
	printf("  row %s:", inject_call_name(call));
	for (unsigned i = 0; i < OUTCOMES; i++)
		if (count[i])
			printf(" %s=%u", outcome_names[i], count[i]);
	printf("\n");
	return 0;
}

/* The calls of the scenario as it goes without a fault of ours. */
struct calls {
	struct inject_call call[INJECT_MAX_CALLS];
	unsigned n;
};

/* Finds which of its kind the refusal is, in an update that goes well. */
static int find_refusal(struct matrix *x)
{
	struct inject *in = &x->in;
	in->nshots = 0;
	if (matrix_row(x) == LOST)
		return -1;
	refusal.at.n = 0;
	for (unsigned i = 0; i < in->ncalls; i++) {
		const struct inject_call *c = &in->calls[i];
		if (c->image == IMAGE_NEW && c->role == ROLE_LEADER && c->nr == refusal.at.nr &&
		    c->request == refusal.at.request)
			refusal.at.n = c->n;
	}
	return refusal.at.n ? 0 : session_fail(x->s, "the successor does not look at seals");
}

static bool is_refusal(const struct inject_call *c)
{
	return c->image == refusal.at.image && c->role == refusal.at.role &&
	       c->nr == refusal.at.nr && c->request == refusal.at.request && c->n == refusal.at.n;
}

static int record(struct matrix *x, const struct scenario *sc, struct calls *out)
{
	struct inject *in = &x->in;

	if (sc->back && find_refusal(x))
		return -1;
	begin_shots(in, sc);
	in->recording = true;
	enum outcome o = matrix_row(x);
	if (o == LOST)
		return -1;
	if (o != (sc->back ? BACK : DONE))
		return session_fail(x->s, "scenario '%s': the update is %s", sc->name,
				    outcome_names[o]);
	out->n = in->ncalls;
	memcpy(out->call, in->calls, out->n * sizeof(out->call[0]));
	return 0;
}

/* @base: only calls that it does not have are failed; NULL: all. */
static int run_scenario(struct matrix *x, const struct scenario *sc, const struct calls *base)
{
	static struct calls all;
	static bool fresh[INJECT_MAX_CALLS];
	const struct inject_call *calls = all.call;
	const bool one_error = getenv("MOLT_FAULT_SHORT");
	unsigned first = 0;

	if (record(x, sc, &all))
		return -1;
	if (base && inject_fresh(base->call, base->n, calls, all.n, fresh))
		return session_fail(x->s, "no memory");
	printf("  scenario '%s'\n", sc->name);
	while (sc->back && first < all.n && !is_refusal(&calls[first]))
		first++;
	for (unsigned i = first; i < all.n; i++)
		if ((!base || fresh[i]) && sc->images & 1u << calls[i].image &&
		    run_call(x, sc, &calls[i], one_error))
			return -1;
	return 0;
}

static struct matrix matrix;

static int run_alone(struct session *s, const struct scenario *sc)
{
	return matrix_begin(&matrix, s, NULL) || run_scenario(&matrix, sc, NULL)
		       ? -1
		       : matrix_end(&matrix);
}

int drive_inject(struct session *s, unsigned updates)
{
	(void)updates;
	return run_alone(s, &updates_well);
}

int drive_inject_parent(struct session *s, unsigned updates)
{
	(void)updates;
	return run_alone(s, &parents_of_it);
}

int drive_inject_back(struct session *s, unsigned updates)
{
	(void)updates;
	return run_alone(s, &goes_back);
}

/* ---- a second vCPU and a level interrupt ---- */

static struct line line;

static void line_plug(struct session *s)
{
	if (s->opaque != &line) /* another guest than last time */
		line_attach(s, &line);
}

static int line_ready(struct session *s)
{
	line_plug(s);
	if (line_masked && session_ask(s, 'm', "MASKED"))
		return -1;
	return line_set(s, true) || (!line_masked && line_handled(s)) ? -1 : 0;
}

/* The interrupt that was under way comes to its end; else a new one does. */
static int line_check(struct session *s)
{
	line_plug(s);
	if (!line.asserted) {
		if (line_set(s, true) || line_handled(s))
			return -1;
	} else if (line_masked && (session_ask(s, 'u', "UNMASKED") || line_handled(s))) {
		return -1;
	}
	return line_serve(s) || line_counted(s) ? -1 : 0;
}

static const struct matrix_guest level = {.ready = line_ready, .check = line_check};

static const struct scenario *const all_scenarios[] = {&updates_well, &goes_back};
#define SCENARIOS (sizeof(all_scenarios) / sizeof(all_scenarios[0]))

/* What one vCPU and no interrupt make, which the tests above have had. */
static int record_base(struct session *s, unsigned n, struct calls *base)
{
	const struct settings *set = s->set;
	const struct test_case *test = s->test;
	const struct test_case one = {.name = test->name,
				      .guest = "gap",
				      .cpus = 1,
				      .args = {test->args[0], test->args[1], test->args[2],
					       test->args[3], test->args[4], test->args[5]}};
	unsigned updates = s->max_updates;

	alarm(0); /* it would end the first guest */
	session_end(s);
	if (session_start(s, set, &one, updates) || matrix_begin(&matrix, s, NULL))
		return -1;
	for (unsigned i = 0; i < n; i++)
		if (record(&matrix, all_scenarios[i], &base[i]))
			return -1;
	session_end(s);
	return session_start(s, set, test, updates);
}

static int run_more(struct session *s, const struct matrix_guest *guest)
{
	static struct calls base[SCENARIOS];
	const unsigned n = getenv("MOLT_FAULT_SHORT") ? 1 : SCENARIOS;

	if (record_base(s, n, base) || matrix_begin(&matrix, s, guest))
		return -1;
	for (unsigned i = 0; i < n; i++)
		if (run_scenario(&matrix, all_scenarios[i], &base[i]))
			return -1;
	return matrix_end(&matrix);
}

int drive_inject_2(struct session *s, unsigned updates)
{
	(void)updates;
	return run_more(s, &level);
}

int drive_inject_disk(struct session *s, unsigned updates)
{
	static const struct matrix_guest disk = {.check = disk_goes_on};

	(void)updates;
	return run_more(s, &disk) ? -1 : disk_image_right(s);
}

static bool any_line(struct session *s, const char *line)
{
	(void)s;
	return strncmp(line, "PASS", 4) != 0;
}

/* The KVM_RUN that finishes, within the pause, an access that the kick met, fails once. Whether there is one is
 * chance; a guest that does nothing but accesses has many. */
int drive_inject_run(struct session *s, unsigned updates)
{
	static struct inject in;
	unsigned hits = 0;

	s->on_line = any_line;
	for (unsigned i = 0; i < updates && hits < RUN_HITS; i++) {
		in = (struct inject){
			.shots = {{{IMAGE_OLD, ROLE_VCPU, 0, SYS_ioctl, KVM_RUN}, ENOMEM}},
			.nshots = 1};
		if (session_wait_us(s, 5000) || session_install(s, i & 1) ||
		    inject_update(s, &in) || session_record(s))
			return -1;
		if (!record_is(s->record, "result", "ok"))
			return session_fail(s, "no update: %s", s->record);
		hits += in.shots[0].hit;
	}
	printf("FAULT rows=%u survived=%u excepted=0\n", hits, hits);
	if (!hits)
		return session_fail(s, "no access was met in %u updates", updates);
	return session_send(s, "q", 1) || session_finish(s) ? -1 : 0;
}
