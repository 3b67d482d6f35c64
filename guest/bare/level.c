/* SPDX-License-Identifier: MIT */
/*
 * level: the test device's INTx line, level-triggered. The handler says "IRQ n" and keeps the line's
 * interrupt in service until the host sends 'd' (the device has lowered the line), then ends it.
 * Host: 'r' reports "COUNT n", 'm' and 'u' mask and unmask the IOAPIC pin, 'q' ends.
 */
#include "guest.h"

#define VEC_DEVICE 0x40

static volatile uint64_t count;

static void on_device(struct trap_frame *frame)
{
	(void)frame;
	guest_printf("IRQ %lu\n", ++count);
	if (serial_read() != 'd')
		guest_fail("the host sent something else than 'd'");
	apic_eoi();
}

void guest_main(void)
{
	volatile uint64_t never = 0;
	struct testdev t;

	trap_set(VEC_DEVICE, on_device);
	testdev_find(&t);
	ioapic_set(t.pin, IOAPIC_LEVEL | VEC_DEVICE);
	guest_printf("READY pin %u\n", t.pin);
	for (;;) {
		int c = serial_poll();
		if (c == 'q')
			break;
		if (c == 'm' || c == 'u') {
			ioapic_set(t.pin,
				   IOAPIC_LEVEL | VEC_DEVICE | (c == 'm' ? IOAPIC_MASKED : 0));
			guest_printf("%s\n", c == 'm' ? "MASKED" : "UNMASKED");
		}
		if (c == 'r')
			guest_printf("COUNT %lu\n", count);
		if (c < 0)
			wait_flag(&never, 200);
	}
	guest_pass("level count=%lu", count);
}
