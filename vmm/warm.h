/* SPDX-License-Identifier: MIT */
/*
 * Warming: while the guest still runs in the incumbent, the successor fills the page tables of its
 * own VM over the same memory. Without that the guest faults in all of its memory anew. Guest
 * memory is only read, and no page of it is made. vCPUs have their CPUID then, but no state; from
 * then on no memory slot is removed: that throws all away.
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
	/* Rest after each step, in percent of the time it took: the less processor there is, the
	 * longer. */
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

/* On a thread of its own, which becomes idle (sched.h). Returns 0 also where nothing, or not all, was warmed: out->why.
 * An error: no guest should have the VM. */
int warm_run(struct machine *m, const struct warm_options *opt, struct warm_result *out,
	     struct error *err);
const char *warm_way_text(enum warm_way way);

/* ---- which stretches of guest memory there are (warm_map.c) ---- */

struct warm_map {
	int fd;
	uint64_t size;
	bool whole; /* all of it, or as good as: the file does not tell */
	bool look; /* only what mincore(2) finds: not what was swapped out, nor what was never read in */
};

void warm_map_init(struct warm_map *map, const struct ram *ram, bool pinned);

/* The first stretch of data at or after @at, whole pages: false where there is none. */
bool warm_map_next(const struct warm_map *map, uint64_t at, uint64_t *off, uint64_t *len);
uint64_t warm_map_total(const struct warm_map *map);

/* ---- room for page tables (warm_room.c) ---- */

/* How much memory may be taken: what the host and our memory cgroups leave. @root: "", or has proc/
 * and sys/. */
struct warm_room {
	uint64_t len;
	char limit[96]; /* which of them it was */
};
void warm_room(const char *root, struct warm_room *out);

/* What page tables for that much memory take, the VM's and the process's. */
uint64_t warm_cost(uint64_t len, uint64_t page_len);
