/* SPDX-License-Identifier: MIT */
/*
 * The update, for main. The orchestration half of cpr/ (update, prepare, blob, keeper, handover,
 * report, program) may include everything but main.
 */
#ifndef MOLT_UPDATE_H
#define MOLT_UPDATE_H

#include <stdbool.h>

struct error;
struct machine;
struct program;
struct program_incoming;
struct reasons;

/* What was asked for; all zero is SIGUSR1. */
struct update_request {
	const char *path; /* program file to run, NULL: the one this program was started from */
	bool check;	  /* only say whether it could be done */
	/* Empty, or NULL. Filled with everything that speaks against the update, where it is refused before
	 * the pause. */
	struct reasons *reasons;
};

/* Old program, on the leader: replaces this program. Returns only if that was not to be done (check:
 * 0 if it could be) or could not be: -errno, the guest runs on, the reason was reported. */
int update_run(struct machine *m, struct program *p, const struct update_request *req,
	       struct error *err);

/* New program, or the old one brought back: takes the guest over as @in says and lets it run. m->opt is
 * filled from the blob. A failure before commit (*committed false) first tries the way back and
 * returns only where there is none from here: then this image must end, which tells the keeper. */
int update_resume(struct machine *m, struct program *p, const struct program_incoming *in,
		  bool *committed, struct error *err);

#endif
