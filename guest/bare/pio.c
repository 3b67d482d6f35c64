/* SPDX-License-Identifier: MIT */
/*
 * pio: accesses to devices, caught half-way by updates, are made exactly once. Registers of the test
 * device count them: single reads, 16-byte ones that KVM cuts into two, one across a page's end;
 * string input fills a buffer to the byte; string output prints the numbered lines the host checks.
 * 'q' ends.
 */
#include "guest.h"

#define SERIAL_DATA    0x3f8
#define SERIAL_SCRATCH 0x3ff
#define STRING_LEN     5000 /* more than a page */

static struct testdev dev;
static uint64_t counter, touched; /* what the device's registers must say */
static uint8_t buffer[STRING_LEN + 64];

static void expect(const char *what, uint64_t got, uint64_t want)
{
	if (got != want)
		guest_fail("%s: %lx, not %lx", what, got, want);
}

static void check_counter(void)
{
	for (unsigned i = 0; i < 16; i++)
		expect("counter", testdev_read(&dev, TESTDEV_COUNTER), (uint32_t)counter++);
}

/* CPL3: one 16-byte read. */
static uint64_t read_16(void *to)
{
	__asm__ volatile("movups (%0), %%xmm0\n\tmovups %%xmm0, (%1)"
			 :
			 : "r"(dev.bar), "r"(to)
			 : "memory");
	return 0;
}

/* CPL3: one 16-byte write of what @from holds, to the scratch register and beyond. */
static uint64_t write_16(void *from)
{
	__asm__ volatile("movups (%0), %%xmm0\n\tmovups %%xmm0, (%1)"
			 :
			 : "r"(from), "r"(dev.bar + TESTDEV_SCRATCH)
			 : "memory");
	return 0;
}

/* Both halves have side effects: the counter's, and the scratch register's count of accesses. */
static void check_wide(uint64_t round)
{
	volatile uint64_t *scratch = (volatile uint64_t *)(dev.bar + TESTDEV_SCRATCH);
	uint64_t value = round * 0x9e3779b97f4a7c15, got[2] = {value, ~value};

	for (unsigned i = 0; i < 4; i++) {
		user_call(write_16, got);
		touched++;
		expect("scratch register", *scratch, value);
		touched++;
		user_call(read_16, got);
		touched++;
		expect("counter in a 16-byte read", got[0], (uint32_t)counter++);
		expect("scratch in a 16-byte read", got[1], value);
		got[0] = value;
		expect("accesses to the scratch register", testdev_read(&dev, TESTDEV_TOUCHED),
		       (uint32_t)touched);
	}
}

/* Half on the device's last bytes, half where nothing is. */
static void check_page_end(void)
{
	volatile uint64_t *last = (volatile uint64_t *)(dev.bar + 0xffc);

	expect("read across the page's end", *last, 0xffffffff00000000);
}

static void check_string_in(uint8_t value)
{
	uint8_t *to = buffer + 32;
	uint64_t n = STRING_LEN;

	memset(buffer, ~value, sizeof(buffer));
	outb(SERIAL_SCRATCH, value);
	__asm__ volatile("rep insb" : "+D"(to), "+c"(n) : "d"(SERIAL_SCRATCH) : "memory");
	expect("count after string input", n, 0);
	expect("end of string input", (uint64_t)to, (uint64_t)buffer + 32 + STRING_LEN);
	for (unsigned i = 0; i < sizeof(buffer); i++)
		expect("byte of string input", buffer[i],
		       i >= 32 && i < 32 + STRING_LEN ? value : (uint8_t)~value);
}

static void hex(char *to, uint32_t v, unsigned base)
{
	for (unsigned i = 8; i-- > 0; v /= base)
		to[i] = "0123456789abcdef"[v % base];
}

static void check_string_out(uint32_t number)
{
	char line[] = "L 00000000 00000000\n", *from = line;
	uint64_t n = sizeof(line) - 1;

	hex(line + 2, number, 10);
	hex(line + 11, number * 2654435761u, 16);
	__asm__ volatile("rep outsb" : "+S"(from), "+c"(n) : "d"(SERIAL_DATA) : "memory");
	expect("count after string output", n, 0);
	expect("end of string output", (uint64_t)from, (uint64_t)line + sizeof(line) - 1);
}

void guest_main(void)
{
	uint32_t lines = 0;
	uint64_t rounds = 0;

	testdev_find(&dev);
	guest_printf("READY\n");
	for (; serial_poll() != 'q'; rounds++) {
		check_counter();
		check_wide(rounds);
		check_page_end();
		check_string_out(lines++);
		if (rounds % 16 == 0)
			check_string_in((uint8_t)(rounds / 16));
	}
	guest_pass("pio lines=%u rounds=%lu accesses=%lu", lines, rounds, counter + touched);
}
