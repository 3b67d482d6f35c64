/* SPDX-License-Identifier: MIT */
/* Where guest memory lies: below the hole for devices, and above 4 GiB. */
#include "vmm/arch/x86_64/layout.h"

#include "vmm/arch.h"
#include "vmm/ram.h"

static void add_region(struct ram_state *ram, uint64_t gpa, uint64_t len, uint64_t offset)
{
	ram->gpa[ram->nregions] = gpa;
	ram->len[ram->nregions] = len;
	ram->offset[ram->nregions++] = offset;
}

int arch_ram_layout(struct ram_state *ram, uint64_t size, struct error *err)
{
	if (size < LAYOUT_RAM_MIN || size > LAYOUT_RAM_MAX || size % PAGE_LEN) {
		error_end(err, EXIT_CONFIG, EINVAL, "guest memory of %lu bytes", size);
		return error_hint(
			err,
			"give --mem whole pages, between %lluM and %lluG (a number alone is MiB)",
			LAYOUT_RAM_MIN / MIB, LAYOUT_RAM_MAX / GIB);
	}
	uint64_t low = size < LAYOUT_RAM_LOW_END ? size : LAYOUT_RAM_LOW_END;
	ram->nregions = 0;
	add_region(ram, 0, low, 0);
	uint64_t done = low, high = LAYOUT_HT_BASE - LAYOUT_RAM_HIGH;
	if (high > size - done)
		high = size - done;
	if (high)
		add_region(ram, LAYOUT_RAM_HIGH, high, done);
	done += high;
	if (done < size)
		add_region(ram, LAYOUT_HT_END, size - done, done);
	return 0;
}

/* What Linux reaches with four levels of page tables (MAX_PHYSMEM_BITS of x86-64). */
#define MAX_BITS 46

/* The third quarter of the address space (AMD keeps the end of it for HyperTransport), or what RAM
 * leaves of that. */
void layout_mmio64(unsigned bits, uint64_t ram_end, uint64_t *base, uint64_t *len)
{
	uint64_t space = 1ull << (bits < MAX_BITS ? bits : MAX_BITS), end = space / 4 * 3;
	uint64_t from = align_up(ram_end, GIB);
	if (from < space / 2)
		from = space / 2;
	*base = from < end ? from : 0;
	*len = from < end ? end - from : 0;
}
