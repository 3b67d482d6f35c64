/* SPDX-License-Identifier: MIT */
/*
 * One row of the fault matrix: an update to which something is done, and what must be true afterwards,
 * whatever it was: the guest goes on, molt has said why the update was not done, nothing is left over,
 * and a good update works.
 */
#ifndef RUNNER_MATRIX_H
#define RUNNER_MATRIX_H

#include <stdbool.h>
#include <sys/types.h>

#include "tests/guest/runner/aftermath.h"
#include "tests/guest/inject/inject.h"

struct session;

/* BACK: refused while the guest stood still, and resumed in place. ALONE: it runs on in its worker, but the process
 * that the user knew has ended. */
enum outcome { DONE, REFUSED, BACK, ALONE, LOST, NOT_MET, OUTCOMES };

/* What is done with the guest. */
struct matrix_guest {
	int (*ready)(struct session *s); /* before a row's update; NULL: nothing */
	int (*check)(struct session *s); /* after every update: it lives and is right */
};

struct matrix {
	struct session *s;
	struct matrix_guest guest;
	struct aftermath before;
	struct inject in; /* of the row under way */
	off_t log_at;	  /* where the row's messages begin */
	char log[65536];  /* they */
	unsigned records; /* of this row so far */
	pid_t worker;	  /* that had the guest when the row began */
	uint64_t gap_ns;  /* largest that the guest has seen in any row */
	char gap_row[200];
	bool stood_still; /* longer than it may, in the row under way */
	const char *name; /* of the row under way, for messages; may be NULL */
	unsigned rows, survived, excepted;
	unsigned seen[OUTCOMES],
		stood[OUTCOMES]; /* rows by their end; in how many it stood still */
};

/* Waits for the guest, and makes one update, after which everything is as after every other. @guest NULL:
 * it is `gap`, whose clocks are looked at. */
int matrix_begin(struct matrix *x, struct session *s, const struct matrix_guest *guest);

/* One update as x->in says, followed by its tracer, and all checks. LOST: session.error says why. */
enum outcome matrix_row(struct matrix *x);

/* The same in parts: after matrix_row_begin and what is done to molt, one traced update. Not judged yet. */
enum outcome matrix_follow(struct matrix *x);

/* Runs a row, and again where the guest has seen too large a gap: LOST if it has each time. */
enum outcome matrix_run(struct matrix *x, enum outcome (*row)(struct matrix *x, void *opaque),
			void *opaque);

/* The parts of it, for updates that are not traced. _owner waits for the record, and sees that the process that the
 * user knows is still that. */
void matrix_row_begin(struct matrix *x);
int matrix_owner(struct matrix *x);
/* Of an update that matrix_owner has seen the record of. */
enum outcome matrix_outcome(struct matrix *x);
enum outcome matrix_judge(struct matrix *x, enum outcome o);

/* Counts and prints it. A guest that was lost is replaced by a new one, a few times; else -1. */
int matrix_count(struct matrix *x, enum outcome o, const char *name);
/* A new guest instead of this one. */
int matrix_again(struct matrix *x);
void matrix_except(struct matrix *x, const char *name, const char *reason);

/* The sum, and the guest's end. */
int matrix_end(struct matrix *x);

extern const char *const outcome_names[OUTCOMES];

#endif
