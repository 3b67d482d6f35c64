/* SPDX-License-Identifier: MIT */
#include "guest.h"

#define TESTDEV_ID  0x0001fff0u
#define COMMAND	    0x04
#define BAR0	    0x10
#define INTR_LINE   0x3c
#define CAP_MSIX    0x11
#define MSIX_ENABLE (1u << 31) /* in the capability's first word */
#define MSI_ADDRESS 0xfee00000u

void testdev_find(struct testdev *t)
{
	int dev = pci_find(TESTDEV_ID);

	if (dev < 0)
		guest_fail("no test device");
	t->dev = (unsigned)dev;
	t->bar = (volatile uint8_t *)(uintptr_t)(pci_read(t->dev, BAR0) & ~0xfu);
	if (!t->bar)
		guest_fail("test device: BAR 0 has no address");
	t->pin = pci_read(t->dev, INTR_LINE) & 0xff;
	pci_write(t->dev, COMMAND, 6); /* memory, bus master: MSIs are writes */
}

static void table_write(const struct testdev *t, unsigned word, uint32_t v)
{
	*(volatile uint32_t *)(t->bar + TESTDEV_TABLE + 4 * word) = v;
}

void testdev_msix_mask(const struct testdev *t, bool masked)
{
	table_write(t, 3, masked);
}

void testdev_msix_enable(const struct testdev *t, uint8_t vector, unsigned cpu)
{
	unsigned cap = pci_capability(t->dev, CAP_MSIX);

	if (!cap)
		guest_fail("test device: no MSI-X");
	table_write(t, 0,
		    MSI_ADDRESS | (cpu & 0xff) << 12 | cpu >> 8 << 5); /* 5 to 11: bits 8 to 14 */
	table_write(t, 1, 0);
	table_write(t, 2, vector);
	testdev_msix_mask(t, false);
	pci_write(t->dev, cap, pci_read(t->dev, cap) | MSIX_ENABLE);
}
