/* SPDX-License-Identifier: MIT */
/* What is counted over a guest's life, in all the programs that it has had (molt metrics): state. */
#pragma once

#include "cpr/state/fields.h"

struct machine;

/* Why an update failed. Names: counters_failures. */
enum counters_failure {
	FAILURE_CHECK,	 /* refused before anything was started: the file, a device */
	FAILURE_TIMEOUT, /* the new program did not answer in time */
	FAILURE_REFUSED, /* it has said no */
	FAILURE_ENDED,	 /* it ended, or said what makes no sense */
	FAILURE_CANCELLED,
	FAILURE_OTHER,
	FAILURES
};
extern const char *const counters_failures[FAILURES];

/* Pauses of up to so many ns, each counted once; the last bucket has the rest. */
#define COUNTERS_BOUNDS 12
extern const uint64_t counters_bounds_ns[COUNTERS_BOUNDS];

struct counters_state {
	uint64_t failures[8]; /* by enum counters_failure; room for more */
	uint64_t pauses[COUNTERS_BOUNDS + 1];
	uint64_t pauses_ns;	  /* all of them together */
	uint64_t exits;		  /* of all vCPUs, as KVM counts them */
	uint64_t interrupts;	  /* that KVM has injected: the same */
	uint64_t console_dropped; /* bytes of output; device lock */
	uint64_t reported; /* bytes of free memory that the host has taken back; device lock */
};

struct counters {
	struct counters_state state;
	/* What the VMs before this one have counted: KVM counts from 0 in each. */
	uint64_t exits_before, interrupts_before;
};

extern const struct state_class counters_state_class;

int counters_register(struct machine *m, struct error *err);

/* The leader: exits and interrupts up to now, where this kernel tells (Linux 5.14). Makes system calls: not in the
 * pause. False: it does not tell. */
bool counters_read(struct machine *m);

/* An update has failed, or the guest stood still for one. */
void counters_failed(struct machine *m, enum counters_failure why);
void counters_paused(struct machine *m, uint64_t ns);
