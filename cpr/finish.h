/* SPDX-License-Identifier: MIT */
/* The end of an update, in the image that has the guest: everything that could wait until it runs. */
#ifndef MOLT_FINISH_H
#define MOLT_FINISH_H

#include "cpr/program.h"

struct blob;
struct handover;
struct machine;
struct state_blob;

/* Lets the keeper go, and with it the old VM and address space; opens the control socket, reports, and
 * answers whoever asked. Closes @times and @blob. Nothing that fails here is a reason to lose the guest. */
void finish(struct machine *m, struct program *p, enum program_mode mode, struct blob *blob,
	    const struct state_blob *state, struct handover *times);

#endif
