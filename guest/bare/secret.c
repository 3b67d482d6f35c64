/* SPDX-License-Identifier: MIT */
/* secret: a register and a place in memory hold a pattern that the host looks for in molt's own memory
 * (tests/guest/cases/drives_security.c). 'q' ends. */
#include "guest.h"

static volatile uint64_t seed = 0x0123456789abcdef; /* computed: the kernel's file has no copy */
static volatile uint64_t pattern[2], now[2];

static uint64_t load(void *from)
{
	__asm__ volatile("movups (%0), %%xmm9" : : "r"(from) : "memory");
	return 0;
}

static uint64_t store(void *to)
{
	__asm__ volatile("movups %%xmm9, (%0)" : : "r"(to) : "memory");
	return 0;
}

void guest_main(void)
{
	pattern[0] = seed * 0x9e3779b97f4a7c15;
	pattern[1] = ~pattern[0];
	user_call(load, (void *)pattern);
	guest_printf("READY\n");
	while (serial_poll() != 'q')
		;
	user_call(store, (void *)now);
	if (now[0] != pattern[0] || now[1] != pattern[1])
		guest_fail("XMM9 is %lx, not %lx", now[0], pattern[0]);
	guest_pass("secret kept");
}
