/* SPDX-License-Identifier: MIT */
/*
 * poison: a page that the host loses. 'r' reads it, and says LOST where a machine check names it, else READ; the
 * check's bank is left as it is until 'b' looks at it and clears it (KEPT). 'q' ends.
 */
#include "guest.h"

#define VEC_MC	       18
#define MSR_MCG_CAP    0x179
#define MSR_MCG_STATUS 0x17a
#define MSR_BANK(n)    (0x400 + 4 * (n)) /* CTL, STATUS, ADDR, MISC */
#define CR4_MCE	       0x40
#define STATUS_VAL     (1ull << 63)
#define STATUS_UC      (1ull << 61)
#define STATUS_ADDRV   (1ull << 58)
#define IN_PROGRESS    0x4
#define RESTART_VALID  0x1

static uint8_t page[4096] __attribute__((aligned(4096)));
static volatile unsigned checks;
static unsigned bank = ~0u;
static uint64_t status;

static void find_bank(void)
{
	unsigned banks = rdmsr(MSR_MCG_CAP) & 0xff;
	for (bank = 0; bank < banks; bank++)
		if (rdmsr(MSR_BANK(bank) + 1) & STATUS_VAL)
			return;
	guest_fail("no bank of %u says what was lost", banks);
}

static void on_mc(struct trap_frame *frame)
{
	uint64_t mcg = rdmsr(MSR_MCG_STATUS);

	checks++;
	find_bank();
	status = rdmsr(MSR_BANK(bank) + 1);
	if (!(mcg & IN_PROGRESS) || !(mcg & RESTART_VALID))
		guest_fail("MCG_STATUS %lx", mcg);
	if (!(status & STATUS_UC) || !(status & STATUS_ADDRV))
		guest_fail("status %lx of bank %u", status, bank);
	if (rdmsr(MSR_BANK(bank) + 2) != (uint64_t)page)
		guest_fail("address %lx, not %lx", rdmsr(MSR_BANK(bank) + 2), (uint64_t)page);
	frame->rip += 2; /* the load */
	wrmsr(MSR_MCG_STATUS, 0);
}

static void read_page(void)
{
	unsigned before = checks;
	uint8_t byte = 0;

	__asm__ volatile("movb (%%rdi), %%al" : "+a"(byte) : "D"(page + 8) : "memory");
	if (checks == before && byte != 0x5a)
		guest_fail("read %x, and nobody says that it was lost", byte);
	guest_printf(checks == before ? "READ\n" : "LOST\n");
}

/* An update has carried it. */
static void look_at_bank(void)
{
	uint64_t now = rdmsr(MSR_BANK(bank) + 1);

	if (now != status || rdmsr(MSR_BANK(bank) + 2) != (uint64_t)page)
		guest_fail("bank %u has %lx at %lx, not %lx", bank, now, rdmsr(MSR_BANK(bank) + 2),
			   status);
	wrmsr(MSR_BANK(bank) + 1, 0);
	guest_printf("KEPT\n");
}

void guest_main(void)
{
	memset(page, 0x5a, sizeof(page));
	trap_set(VEC_MC, on_mc);
	write_cr4(read_cr4() | CR4_MCE);
	guest_printf("READY %lx\n", (uint64_t)page);
	for (;;) {
		switch (serial_read()) {
		case 'r':
			read_page();
			break;
		case 'b':
			look_at_bank();
			break;
		case 'q':
			guest_pass("%u machine checks", checks);
		}
	}
}
