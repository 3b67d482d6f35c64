/* SPDX-License-Identifier: MIT */
/* What incumbent.c and pause.c share: an update under way, in the worker that has the guest. */
#pragma once

#include "cpr/handover/blob.h"
#include "cpr/handover/page.h"
#include "cpr/program.h"
#include "vmm/machine.h"

enum stage { STAGE_NONE, STAGE_START, STAGE_HELLO, STAGE_FDS, STAGE_BUILD, STAGE_QUIESCE };

struct update {
	struct machine *m;
	struct program *p;
	enum stage stage;
	bool check;
	bool taken; /* by somebody who is no child of our parent */
	char path[PROGRAM_PATH_LEN];
	int exe; /* the new program: what was checked is what runs */
	int peer;
	int pidfd;
	pid_t pid;
	struct blob offer, state;
	int page_fd;
	struct handover *page;
	uint64_t begun_ns, deadline_ns;
	uint64_t load_ns;	  /* the rehearsal's */
	unsigned offered_changes; /* of the table of descriptors, when the state was offered */
	bool retried;
	int64_t answered; /* the number of the request that the parent answers next, 0: it does not say */
	char progress[80];
	int64_t percent;
};

/* Ends the successor, where it can be told from others. */
void update_kill(const struct update *u);

/* Reads how leader and vCPUs are scheduled. Not in the pause: it reads files. */
void update_read_sched(const struct update *u);

/* Sends the next of what the successor does not have. Device lock held. Returns how many, or -errno. */
int update_send_batch(const struct update *u, struct error *err);

/* From the kick of the vCPUs on. Does not return where the guest has another owner then: this process ends. On error
 * the guest has resumed in place. */
int pause_hand_over(struct update *u, struct error *err);

/* How long the successor may take from STATE to commit. */
uint64_t pause_commit_ns(const struct update *u);
