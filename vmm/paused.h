/* SPDX-License-Identifier: MIT */
/* A guest that stands still because its operator wants it to (molt pause), over updates as well. By the leader. */
#pragma once

#include "cpr/state/fields.h"

struct machine;

struct paused_state {
	uint64_t since_s; /* CLOCK_BOOTTIME, 0: it runs */
	uint32_t uid;	  /* of whom asked for it */
	uint32_t pid;	  /* the same, 0: a process that this one cannot see */
};

/* An older program would let the guest run: it refuses a state with a class that it does not know. */
extern const struct state_class paused_state_class;

int paused_register(struct machine *m, struct error *err);

/* How long the guest has been paused. */
uint64_t paused_s(const struct machine *m);

/* Stops all vCPUs. Interrupts, DMA of devices and the guest's clocks go on. False: it was paused already. */
bool paused_begin(struct machine *m, uint32_t uid, uint32_t pid);
/* And lets them run. False: it was not paused. */
bool paused_end(struct machine *m);
