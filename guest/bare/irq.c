/* SPDX-License-Identifier: MIT */
/*
 * irq: counts the test device's MSI-X interrupts, which CPU 0 takes, with last=1 the last CPU. Host: 'r' reports
 * "COUNT n pending p", 'm' and 'u' mask and unmask the vector, 'q' ends.
 */
#include "guest.h"

#define VEC_DEVICE 0x40

static volatile uint64_t count;
static unsigned taker;

static void on_device(struct trap_frame *frame)
{
	(void)frame;
	if (cpu_index() != taker)
		guest_fail("cpu %u got what is cpu %u's", cpu_index(), taker);
	count++;
	apic_eoi();
}

static void take(unsigned cpu)
{
	(void)cpu;
	for (;;)
		irq_wait();
}

void guest_main(void)
{
	volatile uint64_t never = 0;
	struct testdev t;

	trap_set(VEC_DEVICE, on_device);
	testdev_find(&t);
	if (option_number("last", 0))
		cpu_boot(taker = guest_cpus - 1, take);
	testdev_msix_enable(&t, VEC_DEVICE, taker);
	guest_printf("READY\n");
	for (;;) {
		int c = serial_poll();
		if (c == 'q')
			break;
		if (c == 'm' || c == 'u') {
			testdev_msix_mask(&t, c == 'm');
			guest_printf("%s\n", c == 'm' ? "MASKED" : "UNMASKED");
		}
		if (c == 'r')
			guest_printf("COUNT %lu pending %u\n", count,
				     testdev_read(&t, TESTDEV_PBA) & 1);
		if (c < 0)
			wait_flag(&never, 200); /* interrupts are taken here, at CPL3 */
	}
	guest_pass("irq count=%lu", count);
}
