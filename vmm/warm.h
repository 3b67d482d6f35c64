/* SPDX-License-Identifier: MIT */
/*
 * Warming: while the guest still runs in the incumbent, the successor, which has its own VM over the same
 * memory file, fills that VM's page tables, nested and its own. Without that the guest faults in all of its
 * memory anew after the hand-over. Guest memory is only read, and no page of it is made.
 *
 * The order, for who hands over:
 *   1. slots, irqchip, vCPUs with CPUID; vCPU 0's state is in its struct (CPUID, TSC), but not in KVM yet;
 *      groups have joined the KVM-VFIO device (with an IOMMU that is not coherent that throws all away).
 *   2. warm_run, once for a VM.
 *   3. From here on no memory slot is removed: that throws all away, too.
 *   4. vCPUs are loaded, as often as is wanted: each time warm_follow, and then the vCPUs.
 */
#pragma once

#include <sys/types.h>

#include "vmm/base/base.h"

struct machine;
struct ram;

enum warm_way {
	WARM_NONE,
	WARM_PRE_FAULT, /* KVM_PRE_FAULT_MEMORY, Linux 6.11 */
	WARM_READER,	/* a few instructions on a vCPU of their own read a word of each page */
};

#define WARM_BUDGET_MS	  30000
#define WARM_REST_PERCENT 100

struct warm_options {
	uint32_t budget_ms; /* WARM_BUDGET_MS; then the rest stays cold. 0: off */
	/* Rest after each step, in percent of the time the step took by the clock, so that it takes the less
	 * the less there is: a processor that others want, a cgroup's quota. WARM_REST_PERCENT. */
	uint32_t rest_percent;
	bool pinned; /* a passed-through device has pinned all guest memory: all of it is there */
	/* At most ten times a second, and once at the end. Bytes that were gone through. NULL: nobody asks */
	void (*progress)(void *opaque, uint64_t done, uint64_t total);
	void *opaque;
	const bool *cancel; /* set by another thread: return soon. NULL: never */
	const char *root;   /* before /proc and /sys, for tests. NULL: "" */
};

struct warm_result {
	enum warm_way way;
	uint64_t warmed; /* bytes that are in the page tables now */
	uint64_t total;	 /* bytes that the memory file has */
	uint64_t ns;
	char why[192]; /* "", or why not all of it was warmed */
};

/* On a thread of its own, which becomes SCHED_IDLE: who calls it off and waits for it makes it SCHED_OTHER again
 * (pthread_setschedparam), or waits for as long as there is no processor to spare. Returns 0 also where nothing, or not all, was warmed:
 * out->why. An error means that the VM was left as no guest should have it (vCPU of the reader not at rest). */
int warm_run(struct machine *m, const struct warm_options *opt, struct warm_result *out,
	     struct error *err);

/* When vCPU 0's state is in its struct, before any vCPU is loaded with it: the reader's vCPU, if there is one, gets
 * its TSC offset. KVM has a clock that needs no system calls (its master clock) only where all vCPUs have the same
 * one, and looks whether they have when the last of those that run gets it. Costs nothing where it has not changed. */
int warm_follow(struct machine *m, struct error *err);

/* "pre-fault", "reader", "none". */
const char *warm_way_text(enum warm_way way);

/* ---- the parts ---- */

/* What of a memory file is there. */
struct warm_map {
	int fd;
	uint64_t size;
	bool whole; /* all of it, or as good as: the file does not tell */
	bool look; /* only what mincore(2) finds: not what was swapped out, nor what was never read in */
};

void warm_map_init(struct warm_map *map, const struct ram *ram, bool pinned);

/* The first stretch of data at or after @at, whole pages: false where there is none. */
bool warm_map_next(const struct warm_map *map, uint64_t at, uint64_t *off, uint64_t *len);

/* Bytes of all stretches. */
uint64_t warm_map_total(const struct warm_map *map);

/* How much memory may be taken at most: the least of what is available in the host and what our memory
 * cgroups leave. @root: "", or a folder that has proc/ and sys/. */
struct warm_room {
	uint64_t len;
	char limit[96]; /* which of them it was */
};
void warm_room(const char *root, struct warm_room *out);

/* What page tables for that much memory take, the VM's and the process's. */
uint64_t warm_cost(uint64_t len, uint64_t page_len);
