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
		return error_hint(err, "give --mem whole pages, between %llu MiB and %llu GiB",
				  LAYOUT_RAM_MIN / MIB, LAYOUT_RAM_MAX / GIB);
	}
	uint64_t low = size < LAYOUT_RAM_LOW_END ? size : LAYOUT_RAM_LOW_END;
	ram->nregions = 0;
	add_region(ram, 0, low, 0);
	if (size > low)
		add_region(ram, LAYOUT_RAM_HIGH, size - low, low);
	return 0;
}
