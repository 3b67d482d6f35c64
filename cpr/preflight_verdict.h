/* SPDX-License-Identifier: MIT */
/*
 * What the child of a preflight says, and what that and its end amount to.
 *
 *   molt-preflight 1
 *   reason state serial@3f8: needs version 2 of class serial, this program has 1
 *   no
 *
 * or "yes" without a reason. Lines of printable ASCII; those that begin with another word are
 * for later versions, and passed over; "yes" or "no" is the last. The reader believes nothing.
 */
#ifndef MOLT_PREFLIGHT_VERDICT_H
#define MOLT_PREFLIGHT_VERDICT_H

#include <stdbool.h>
#include <stddef.h>

#define PREFLIGHT_TEXT_MAX 16384

struct error;
struct reasons;

struct preflight_end {
	const char *step; /* that failed before the program ran, NULL: it ran */
	int step_error;	  /* its errno value */
	bool timed_out;
	unsigned timeout_ms;
	int status; /* as waitpid gives it */
	size_t len; /* of the answer; PREFLIGHT_TEXT_MAX: too long */
	char text[PREFLIGHT_TEXT_MAX];
};

/* The answer that stands for @reasons; returns its length. @size: at least PREFLIGHT_TEXT_MAX. */
size_t preflight_write(char *buf, size_t size, const struct reasons *reasons);

/* 0: the program in @path says yes. Otherwise -errno and why; what it says itself goes to @reasons. */
int preflight_judge(const struct preflight_end *end, const char *path, struct reasons *reasons,
		    struct error *err);

#endif
