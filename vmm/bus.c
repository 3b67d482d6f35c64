/* SPDX-License-Identifier: MIT */
/* An address space: sorted regions, and the dispatch of accesses to them. */
#include "vmm/bus.h"

/* Index of the first region whose base is above @addr. */
static unsigned upper(const struct bus *bus, uint64_t addr)
{
	unsigned lo = 0, hi = bus->n;
	while (lo < hi) {
		unsigned mid = (lo + hi) / 2;
		if (bus->regions[mid].base <= addr)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

int bus_add(struct bus *bus, const struct bus_region *r, struct error *err)
{
	if (!r->len || r->base + (r->len - 1) < r->base)
		return error_set(err, EINVAL, "region %s: empty or wrapping", r->name);
	unsigned at = upper(bus, r->base);
	const struct bus_region *clash = NULL;
	if (at && r->base - bus->regions[at - 1].base < bus->regions[at - 1].len)
		clash = &bus->regions[at - 1];
	else if (at < bus->n && bus->regions[at].base - r->base < r->len)
		clash = &bus->regions[at];
	if (clash)
		return error_set(err, EEXIST, "region %s at 0x%lx overlaps %s", r->name, r->base,
				 clash->name);
	if (bus->n == BUS_MAX_REGIONS)
		return error_set(err, ENOSPC, "region %s: more than %d regions", r->name,
				 BUS_MAX_REGIONS);
	memmove(&bus->regions[at + 1], &bus->regions[at], (bus->n - at) * sizeof(*r));
	bus->regions[at] = *r;
	bus->n++;
	return 0;
}

void bus_remove(struct bus *bus, uint64_t base, void *opaque)
{
	unsigned at = upper(bus, base);
	if (!at || bus->regions[at - 1].base != base || bus->regions[at - 1].opaque != opaque)
		return;
	memmove(&bus->regions[at - 1], &bus->regions[at], (bus->n - at) * sizeof(bus->regions[0]));
	bus->n--;
}

bool bus_dispatch(struct bus *bus, uint64_t addr, struct bus_access *access)
{
	unsigned at = upper(bus, addr);
	if (!access->write)
		access->value = ~0ull;
	if (!at || !is_pow2(access->len) || access->len > 8)
		return false;
	struct bus_region *r = &bus->regions[at - 1];
	access->offset = addr - r->base;
	if (!range_fits(access->offset, access->len, r->len))
		return false;
	r->handler(r->opaque, access);
	return true;
}
