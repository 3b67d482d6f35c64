/* SPDX-License-Identifier: MIT */
/* The gate in which vCPU threads park, and through which they go together. */
#include "vmm/gate.h"

#include <sched.h>

#define LOOK_NS 300000

static uint32_t word_get(const uint32_t *word)
{
	return __atomic_load_n(word, __ATOMIC_ACQUIRE);
}

static void word_set(uint32_t *word, uint32_t value)
{
	__atomic_store_n(word, value, __ATOMIC_RELEASE);
}

void gate_init(struct gate *gate, uint32_t cpus)
{
	memset(gate, 0, sizeof(*gate));
	pthread_mutex_init(&gate->lock, NULL);
	pthread_cond_init(&gate->to_vcpus, NULL);
	pthread_cond_init(&gate->to_leader, NULL);
	gate->cpus = cpus;
	long processors = sysconf(_SC_NPROCESSORS_ONLN);
	gate->roomy = processors >= (long)cpus;
}

void gate_begin(struct gate *gate, enum gate_want want)
{
	word_set(&gate->parked, 0);
	word_set(&gate->done, 0);
	gate->rc = 0;
	gate_set(gate, want);
}

void gate_set(struct gate *gate, enum gate_want want)
{
	word_set(&gate->want, want);
}

void gate_fail(struct gate *gate, int rc, const struct error *err)
{
	if (!rc || gate->rc)
		return;
	gate->rc = rc;
	gate->err = *err;
}

void gate_arrive(struct gate *gate, int rc, const struct error *err)
{
	pthread_mutex_lock(&gate->lock);
	gate_fail(gate, rc, err);
	bool last = gate->done + 1 == gate->cpus;
	word_set(&gate->done, gate->done + 1);
	pthread_mutex_unlock(&gate->lock);
	if (last)
		pthread_cond_signal(&gate->to_leader);
}

void gate_look(const struct gate *gate, const uint32_t *word, uint32_t from, uint32_t to)
{
	uint64_t until = gate->roomy && __atomic_load_n(&gate->hurry, __ATOMIC_RELAXED)
				 ? now_ns() + LOOK_NS
				 : 0;
	for (uint32_t value; now_ns() < until;) {
		value = word_get(word);
		if (value < from || value > to)
			return;
		sched_yield();
	}
}

int gate_wait_all(struct gate *gate, struct error *err)
{
	gate_look(gate, &gate->done, 0, gate->cpus - 1);
	pthread_mutex_lock(&gate->lock);
	while (gate->done < gate->cpus)
		pthread_cond_wait(&gate->to_leader, &gate->lock);
	int rc = gate->rc;
	if (rc && err)
		*err = gate->err;
	pthread_mutex_unlock(&gate->lock);
	return rc;
}
