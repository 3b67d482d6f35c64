/* SPDX-License-Identifier: MIT */
/* topology: each CPU compares what CPUID says of its place with sockets=, cores= and threads=, again after each update;
 * with powers of two only. 'q' ends. */
#include "guest.h"

#define AMD 0x444d4163 /* ECX of leaf 0: AuthenticAMD */

static unsigned cores, threads;
static volatile uint64_t wrong[GUEST_MAX_CPUS], looked[GUEST_MAX_CPUS];

struct regs {
	uint32_t a, b, c, d;
};

static struct regs cpuid_of(uint32_t leaf, uint32_t index)
{
	struct regs r = {leaf, 0, index, 0};

	__asm__ volatile("cpuid" : "+a"(r.a), "=b"(r.b), "+c"(r.c), "=d"(r.d));
	return r;
}

/* The number of a check that fails, 0: none. */
static unsigned check(unsigned cpu)
{
	unsigned package = cores * threads;
	struct regs max = cpuid_of(0, 0), one = cpuid_of(1, 0);
	struct regs smt = cpuid_of(0xb, 0), core = cpuid_of(0xb, 1);

	if (one.b >> 24 != cpu || (one.b >> 16 & 0xff) != package)
		return 1;
	if ((one.d >> 28 & 1) != (package > 1))
		return 2;
	if (max.a < 0xb)
		return 3;
	if (1u << smt.a != threads || smt.b != threads || smt.d != cpu || smt.c != 0x100)
		return 4;
	if (1u << core.a != package || core.b != package || core.d != cpu || core.c != 0x201)
		return 5;
	if (cpuid_of(0xb, 2).b)
		return 6;
	if (max.c != AMD)
		return (cpuid_of(4, 0).a >> 26) + 1 == cores ? 0 : 7;
	struct regs size = cpuid_of(0x80000008, 0), place = cpuid_of(0x8000001e, 0);
	if ((size.c & 0xff) + 1 != package || 1u << (size.c >> 12 & 0xf) != package)
		return 8;
	if (!(cpuid_of(0x80000001, 0).c >> 22 & 1)) /* no topology extensions */
		return 0;
	if (place.a != cpu || (place.b >> 8 & 0xff) + 1 != threads ||
	    (place.b & 0xff) != cpu % package / threads || (place.c & 0xff) != cpu / package)
		return 9;
	return 0;
}

static void look(unsigned cpu)
{
	unsigned n = check(cpu);

	wrong[cpu] = n ?: wrong[cpu];
	looked[cpu]++;
}

static void look_again(unsigned cpu)
{
	for (;; cpu_pause())
		look(cpu);
}

/* All CPUs look, from begin to end. */
static void look_all(void)
{
	look(0);
	for (unsigned i = 0; i < guest_cpus; i++) {
		uint64_t enough = looked[i] + (i ? 2 : 0);
		while (looked[i] < enough)
			cpu_pause();
		if (wrong[i])
			guest_fail("topology: CPU %u, check %u", i, (unsigned)wrong[i]);
	}
}

void guest_main(void)
{
	unsigned rounds = 0;

	cores = (unsigned)option_number("cores", 1);
	threads = (unsigned)option_number("threads", 1);
	for (unsigned i = 1; i < guest_cpus; i++)
		cpu_boot(i, look_again);
	look_all();
	guest_printf("READY\n");
	for (int c; (c = serial_poll()) != 'q';) {
		if (c != 't')
			continue;
		look_all();
		guest_printf("LOOKED %u\n", ++rounds);
	}
	guest_pass("topology rounds=%u", rounds);
}
