/* SPDX-License-Identifier: MIT */
/*
 * An update, on the leader of the worker that has the guest. It is a state machine: each call does one step and
 * returns, and the guest and its clients are served meanwhile. Only the pause itself is one long call.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct error;
struct machine;
struct program;
struct reasons;
struct wire_message;

struct incumbent_request {
	const char *path; /* program file to run, NULL: the one of struct program */
	bool check;	  /* goes as far as READY, and sends the successor away */
	/* Somebody who is no child of our parent takes the guest (--take): socket to it, this side's from now on,
	 * and its process id. 0: there is no such. */
	int taker, taker_pid;
};

/* Begins an update. -EBUSY: one is under way. Any other failure was reported. */
int incumbent_begin(struct machine *m, struct program *p, const struct incumbent_request *req,
		    struct error *err);

bool incumbent_busy(void);

/* "since 3 s ago, waiting for ..." of the update under way. */
const char *incumbent_text(char *buf, unsigned size);

/* What the leader waits for: the successor's socket, -1: none; and until when (CLOCK_MONOTONIC ns, 0: no limit). */
int incumbent_socket(void);
uint64_t incumbent_deadline(void);

/* The parent's next answer is to the request of that number. */
void incumbent_answers(int64_t request);
/* The parent has answered LINK_START. */
void incumbent_started(const struct wire_message *msg);

/* The socket is readable, or the deadline is over. Does not return where the guest has got a new owner. */
void incumbent_step(void);

/* Calls off the update, if there is one: the guest was asked to end (cancel), or has ended (ended). */
void incumbent_cancel(const char *why);
void incumbent_ended(void);
