/* SPDX-License-Identifier: MIT */
/*
 * exits: what a port's read, a write to a register in memory and an interrupt cost, with the test device. Host: 'g'
 * reports "EXITS port mmio irq", each in ns; 'q' ends.
 *
 * The interrupt is one that the device raises while it serves a write: through its eventfd and irqfd, from
 * the write to the handler. What of that is the exit itself, mmio says.
 */
#include "guest.h"

#define SERIAL_SCRATCH 0x3ff
#define VEC_DEVICE     0x60
#define EXITS	       2000
#define IRQS	       100
#define LATE_US	       5000000

static struct testdev dev;
static volatile uint64_t came; /* TSC, in the handler; 0: not yet */

static void on_irq(struct trap_frame *frame)
{
	(void)frame;
	came = rdtsc();
	apic_eoi();
}

/* CPL3, which may not touch ports, but memory. */
static uint64_t mmio_loop(void *arg)
{
	uint64_t from = rdtsc();

	(void)arg;
	for (unsigned i = 0; i < EXITS; i++)
		testdev_write(&dev, TESTDEV_SCRATCH, i);
	return rdtsc() - from;
}

static uint64_t port_loop(void)
{
	uint64_t from = rdtsc();

	for (unsigned i = 0; i < EXITS; i++)
		inb(SERIAL_SCRATCH);
	return rdtsc() - from;
}

/* CPL3: from the write until the handler ran; 0: it never did. */
static uint64_t irq_once(void *arg)
{
	const uint64_t *late = arg;
	uint64_t from = rdtsc();

	testdev_write(&dev, TESTDEV_RAISE, 1);
	while (!came)
		if (rdtsc() - from > *late)
			return 0;
	return came - from;
}

static uint64_t irq_loop(void)
{
	uint64_t sum = 0, late = us_to_tsc(LATE_US);

	for (unsigned i = 0; i < IRQS; i++) {
		came = 0;
		uint64_t took = user_call(irq_once, &late);
		if (!took)
			guest_fail("interrupt %u did not come", i);
		sum += took;
	}
	return sum;
}

void guest_main(void)
{
	testdev_find(&dev);
	trap_set(VEC_DEVICE, on_irq);
	testdev_msix_enable(&dev, VEC_DEVICE, 0);
	guest_printf("READY\n");
	for (int c; (c = serial_read()) != 'q';) {
		if (c != 'g')
			continue;
		uint64_t port = port_loop(), mmio = user_call(mmio_loop, NULL), irq = irq_loop();
		guest_printf("EXITS %lu %lu %lu\n", tsc_to_ns(port) / EXITS,
			     tsc_to_ns(mmio) / EXITS, tsc_to_ns(irq) / IRQS);
	}
	guest_pass("exits");
}
