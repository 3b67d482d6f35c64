/* SPDX-License-Identifier: MIT */
/*
 * Every system call of an update fails once, with each error it can fail with: in the old image, in the
 * new one, in the keeper, and in the image on the way back. Which calls there are is seen in an update
 * that goes well (or back), not listed here.
 */
#include <errno.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>

#include "drives.h"
#include "matrix.h"
#include "session.h"

#define TRIES 8 /* to meet a call that threads make only when they meet so */

/* What an update is made to do, so that the images to be tried come about. */
struct scenario {
	const char *name;
	struct inject_shot first; /* at.nr 0: none */
	bool keeper;		  /* traced */
	unsigned images;	  /* bits of those whose calls are failed */
};

static const struct scenario updates_well = {.name = "update",
					     .images = 1 << IMAGE_OLD | 1 << IMAGE_NEW};
static const struct scenario keeper_idles = {
	.name = "keeper of an update", .keeper = true, .images = 1 << IMAGE_KEEPER};
static const struct scenario goes_back = {
	.name = "way back, same process",
	.first = {{IMAGE_NEW, ROLE_LEADER, 0, SYS_ioctl, KVM_SET_CLOCK}, ENOMEM},
	.images = 1 << IMAGE_BACK};
static const struct scenario is_rescued = {
	.name = "way back, by the keeper",
	.first = {{IMAGE_NEW, ROLE_LEADER, 0, SYS_ioctl, KVM_SET_CLOCK}, 0},
	.keeper = true,
	.images = 1 << IMAGE_KEEPER | 1 << IMAGE_RESCUE};

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

static enum outcome run_row(struct matrix *x, const struct scenario *sc,
			    const struct inject_call *call, int error)
{
	struct inject *in = &x->in;
	struct inject_shot shot = {*call, error, inject_kind_of(call)->does_it, false};

	in->nshots = 0;
	in->recording = false;
	in->keeper = sc->keeper;
	if (sc->first.at.nr)
		in->shots[in->nshots++] = sc->first;
	in->shots[in->nshots++] = shot;
	enum outcome o = matrix_row(x);
	if (o != LOST && !in->shots[in->nshots - 1].hit)
		return NOT_MET;
	if (!sc->first.at.nr)
		show_other_words(x, o, call, error);
	return o;
}

static int run_call(struct matrix *x, const struct scenario *sc, const struct inject_call *call)
{
	const struct inject_kind *kind = inject_kind_of(call);
	const char *only = getenv("MOLT_INJECT"); /* part of a call's name: to look at one */
	const bool one_error = getenv("MOLT_FAULT_SHORT"); /* each call fails, but in one way */
	unsigned count[OUTCOMES] = {0};
	char name[200];

	if (only && !strstr(inject_call_name(call), only))
		return 0;
	if (!kind->errors || (kind->images && !(kind->images & 1u << call->image))) {
		matrix_except(x, inject_call_name(call), kind->excepted);
		return 0;
	}
	for (const int *error = kind->errors; *error && !(one_error && error > kind->errors);
	     error++) {
		enum outcome o = NOT_MET;
		snprintf(name, sizeof(name), "%s %s", inject_call_name(call),
			 inject_error_name(*error));
		for (unsigned tries = 0; o == NOT_MET && tries < TRIES; tries++)
			o = run_row(x, sc, call, *error);
		count[o]++;
		if (o == NOT_MET)
			matrix_except(x, name, "a matter of how threads meet, which they did not");
		else if (matrix_count(x, o, name))
			return -1;
	}
	printf("  row %s:", inject_call_name(call));
	for (unsigned i = 0; i < OUTCOMES; i++)
		if (count[i])
			printf(" %s=%u", outcome_names[i], count[i]);
	printf("\n");
	return 0;
}

static int run_scenario(struct matrix *x, const struct scenario *sc)
{
	static struct inject_call calls[INJECT_MAX_CALLS];
	struct inject *in = &x->in;

	in->nshots = 0;
	in->keeper = sc->keeper;
	in->recording = true;
	if (sc->first.at.nr)
		in->shots[in->nshots++] = sc->first;
	if (matrix_row(x) == LOST)
		return -1;
	unsigned n = in->ncalls;
	memcpy(calls, in->calls, n * sizeof(calls[0]));
	printf("  scenario '%s'\n", sc->name);
	bool in_main = false;
	for (unsigned i = 0; i < n; i++) {
		/* The C library's start in the keeper's image: what fails there ends it, and that one
		 * is the last that could try. main's first call blocks signals. */
		if (calls[i].image == IMAGE_RESCUE && calls[i].nr == SYS_rt_sigprocmask)
			in_main = true;
		if (calls[i].image == IMAGE_RESCUE && !in_main)
			matrix_except(
				x, inject_call_name(&calls[i]),
				"a second fault, before main of the last image that could try");
		else if (sc->images & 1u << calls[i].image && run_call(x, sc, &calls[i]))
			return -1;
	}
	return 0;
}

static struct matrix matrix;

int drive_inject(struct session *s, unsigned updates)
{
	(void)updates;
	return matrix_begin(&matrix, s) || run_scenario(&matrix, &updates_well) ||
			       run_scenario(&matrix, &keeper_idles)
		       ? -1
		       : matrix_end(&matrix);
}

int drive_inject_back(struct session *s, unsigned updates)
{
	(void)updates;
	return matrix_begin(&matrix, s) || run_scenario(&matrix, &goes_back) ? -1
									     : matrix_end(&matrix);
}

int drive_inject_rescue(struct session *s, unsigned updates)
{
	(void)updates;
	return matrix_begin(&matrix, s) || run_scenario(&matrix, &is_rescued) ? -1
									      : matrix_end(&matrix);
}
