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

#include "aftermath.h"
#include "inject.h"

struct session;

enum outcome { DONE, REFUSED, BACK, LOST, NOT_MET, OUTCOMES };

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
	unsigned rows, survived, excepted;
};

/* Waits for the guest, and makes one update, after which everything is as after every other. @guest NULL:
 * it is `gap`, whose clocks are looked at. */
int matrix_begin(struct matrix *x, struct session *s, const struct matrix_guest *guest);

/* One update as x->in says, followed by its tracer, and all checks. LOST: session.error says why. */
enum outcome matrix_row(struct matrix *x);

/* The parts of it, for updates that are not traced. _judge is given who has the guest (0: the record
 * tells) and how it ended. */
void matrix_row_begin(struct matrix *x);
int matrix_owner(struct matrix *x, pid_t pid);
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
