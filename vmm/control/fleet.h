/* SPDX-License-Identifier: MIT */
/* What is asked of all guests of this user, those with a socket in the run directory. */
#pragma once

#include "vmm/base/base.h"

struct fleet_update {
	const char *request; /* line that is sent to each */
	unsigned parallel;   /* guests at a time */
	unsigned timeout_s;  /* of each wait for an answer; 0: as long as it takes */
	bool go_on;	     /* after a guest has refused */
	bool check;	     /* @request only asks whether it could be done */
	bool json;
};

/* A table, or a line of JSON. Guests that have ended are left out, and what they left behind is removed. Returns the
 * exit status. */
int fleet_list(bool json, unsigned timeout_s);

/* Asks guest after guest, and tells each outcome when it is known. 0: all were, or could be, updated; EXIT_REFUSED: not
 * all. */
int fleet_update(const struct fleet_update *u);
