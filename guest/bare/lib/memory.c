/* SPDX-License-Identifier: MIT */
/* All of the guest's RAM, as the memory map says (xen/include/public/arch-x86/hvm/start_info.h). */
#include "guest.h"

#define PAGE	 4096ul
#define HUGE	 (2ul << 20)
#define GIB	 (1ul << 30)
#define GIB_MAX	 16
#define GIB_HAVE 4 /* start.S maps these */
#define PTE	 7 /* present, writable, user */
#define PTE_HUGE 0x80
#define RAM	 1

extern uint32_t pvh_info;
extern uint64_t boot_pdpt[];

struct memory_map {
	uint32_t head[10]; /* magic to rsdp_paddr */
	uint64_t ranges;   /* guest physical address */
	uint32_t n, reserved;
};

struct range {
	uint64_t gpa, len;
	uint32_t type, reserved;
};

static uint64_t directories[GIB_MAX - GIB_HAVE][512] __attribute__((aligned(4096)));

static void map_up_to(uint64_t end)
{
	for (uint64_t gib = GIB_HAVE; gib < GIB_MAX && gib * GIB < end; gib++) {
		uint64_t *pd = directories[gib - GIB_HAVE];
		for (uint64_t i = 0; i < 512; i++)
			pd[i] = (gib * GIB + i * HUGE) | PTE | PTE_HUGE;
		boot_pdpt[gib] = (uint64_t)pd | PTE;
	}
}

/* CPL3: a write that changes nothing, whoever else writes there. */
static uint64_t range_touch(void *arg)
{
	const struct range *r = arg;
	uint64_t n = 0;

	for (uint64_t at = r->gpa; at < r->gpa + r->len; at += PAGE, n++)
		__asm__ volatile("lock orq $0, (%0)" : : "r"(at) : "memory");
	return n;
}

uint64_t memory_touch(void)
{
	const struct memory_map *map = (const void *)(uintptr_t)pvh_info;
	const struct range *given = (const void *)map->ranges;
	uint64_t pages = 0;

	for (uint32_t i = 0; i < map->n; i++) {
		struct range r = given[i];
		uint64_t end = r.gpa + r.len;
		if (r.type != RAM)
			continue;
		map_up_to(end);
		if (end > GIB_MAX * GIB)
			end = GIB_MAX * GIB;
		r.gpa = (r.gpa + PAGE - 1) & ~(PAGE - 1);
		r.len = end > r.gpa ? (end - r.gpa) & ~(PAGE - 1) : 0;
		pages += user_call(range_touch, &r);
	}
	return pages;
}
