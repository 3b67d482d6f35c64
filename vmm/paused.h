/* SPDX-License-Identifier: MIT */
/* A guest that stands still because its operator wants it to (molt pause), or because it has crashed (--on-crash
 * pause); over updates as well. By the leader. */
#pragma once

#include "cpr/state/fields.h"

struct machine;

struct paused_state {
	uint64_t since_s; /* CLOCK_BOOTTIME, 0: it runs */
	uint32_t uid;	  /* of whom asked for it */
	uint32_t pid;	  /* the same, 0: a process that this one cannot see */
	/* Of a guest that has crashed: it never runs again, and this is how its run ends. 0: it has not. */
	uint8_t code; /* exit status */
	char reason[127];
};

/* An older program would let the guest run: it refuses a state with a class that it does not know. */
extern const struct state_class paused_state_class;

int paused_register(struct machine *m, struct error *err);

/* How long the guest has been paused. */
uint64_t paused_s(const struct machine *m);

/* Stops all vCPUs. Interrupts, DMA of devices and the guest's clocks go on. False: it was paused already. */
bool paused_begin(struct machine *m, uint32_t uid, uint32_t pid);
/* And lets them run. False: it was not paused, or has crashed. */
bool paused_end(struct machine *m);

/* The guest has crashed (m->stop_code): it stays as it is, and its run goes on, until it is ended from outside.
 * False: it was ended meanwhile. */
bool paused_keep(struct machine *m);
