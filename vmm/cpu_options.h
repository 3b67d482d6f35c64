/* SPDX-License-Identifier: MIT */
/* What --cpus says beside the number: how the guest's processors are arranged, where they run on the host, and
 * what it gets only on request. */
#pragma once

#include "vmm/sched.h"

struct cpu_options {
	/* Their product is the number of vCPUs. The bits of a vCPU's index say where it is, so that what others
	 * follow is a power of two. */
	uint32_t sockets;
	uint32_t cores;	      /* of a socket */
	uint32_t threads;     /* of a core */
	const char *affinity; /* SET[:SET]..., checked; NULL: none */
	bool nested;	      /* it may run guests of its own */
	bool pmu;	      /* it may count performance events */
};

/* Reads the words behind the number of --cpus, @text, which stays the caller's and must live on; NULL: there are none.
 * Returns NULL, or what was expected. */
const char *cpu_options_parse(struct cpu_options *opt, uint32_t cpus, const char *text);

/* Where vCPU @index may run: the set of its place, or the last one. */
void cpu_options_affinity(const struct cpu_options *opt, uint32_t index,
			  uint64_t mask[SCHED_AFFINITY_WORDS]);
