/* SPDX-License-Identifier: MIT */
/* The gate: where the vCPU threads and the leader meet. The leader says what it wants; the threads
 * arrive. */
#pragma once

#include <pthread.h>

#include "vmm/base/base.h"

struct machine;

/* SOON: a load comes next. */
enum gate_want { GATE_BUILD, GATE_HOLD, GATE_SOON, GATE_LOAD, GATE_RUN, GATE_PAUSE, GATE_STOP };

/* Changed with the lock held; gate_look() reads without it. Threads are woken after the lock was released: else they
 * would sleep again at once, waiting for it. */
struct gate {
	pthread_mutex_t lock;
	pthread_cond_t to_vcpus, to_leader;
	uint32_t cpus;
	bool roomy;	 /* there is a processor for each vCPU */
	bool hurry;	 /* the guest stands still */
	uint32_t want;	 /* enum gate_want */
	uint32_t parked; /* out of the guest, all exits finished */
	uint32_t done;	 /* saved or loaded */
	unsigned round;	 /* counts the pauses and loads */
	int rc;		 /* first failure of save or load */
	struct error err;
};

void gate_init(struct gate *gate, uint32_t cpus);

/* The leader: @want is wanted from now on, and nobody has arrived for it yet. Lock held, or no threads yet. */
void gate_begin(struct gate *gate, enum gate_want want);
void gate_fail(struct gate *gate, int rc, const struct error *err);
void gate_set(struct gate *gate, enum gate_want want);
void gate_arrive(struct gate *gate, int rc, const struct error *err);

/* Polls *@word for some 0.3 ms before a wait, until it leaves [from, to]: to be woken takes a tenth of the pause.
 * Only where there is a processor for each vCPU and the guest stands still. */
void gate_look(const struct gate *gate, const uint32_t *word, uint32_t from, uint32_t to);

/* The leader: waits until all are done. Returns the first failure; @err may be NULL. */
int gate_wait_all(struct gate *gate, struct error *err);
