/* SPDX-License-Identifier: MIT */
/* Address spaces: MMIO and port I/O. A region has one handler; every access is one struct
 * bus_access. */
#pragma once

#include "vmm/base/base.h"

struct bus_access {
	uint64_t offset; /* from the region's base, in bytes */
	uint32_t len;	 /* 1, 2, 4 or 8 */
	bool write;
	uint64_t value; /* little-endian; write: what the guest wrote; read: filled by the handler,
			   preset to all ones */
};

/* Device lock held. Guest mistakes never fail: reads of nothing give all ones, writes to nothing
 * vanish. */
typedef void (*bus_handler)(void *opaque, struct bus_access *access);

struct bus_region {
	uint64_t base, len;
	const char *name; /* not copied */
	bus_handler handler;
	void *opaque;
};

#define BUS_MAX_REGIONS 256

struct bus {
	unsigned n;
	struct bus_region regions[BUS_MAX_REGIONS]; /* sorted by base, not overlapping */
};

/* -EEXIST if it overlaps another, which a guest may ask for; -ENOSPC; -EINVAL for an empty or
 * wrapping one. */
int bus_add(struct bus *bus, const struct bus_region *region, struct error *err);

/* Removes the region with exactly that base and handler argument; unknown ones are ignored. */
void bus_remove(struct bus *bus, uint64_t base, void *opaque);

/* An access that crosses a region's end goes to nobody, nor does one of 3, 5, 6 or 7 bytes, which
 * KVM has from far pointers and from what it cuts at the ends of pages. False: there is no region,
 * and a read gives all ones. */
bool bus_dispatch(struct bus *bus, uint64_t addr, struct bus_access *access);
