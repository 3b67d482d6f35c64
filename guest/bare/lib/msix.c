/* SPDX-License-Identifier: MIT */
/* MSI-X of whatever devices there are, for what many vectors cost (PCI 3.0, 6.8.2). */
#include "guest.h"

#define COMMAND	     0x04
#define BAR0	     0x10
#define BAR_64	     4u
#define CAP_MSIX     0x11
#define MSIX_ENABLE  (1u << 31) /* in the capability's first word */
#define MSI_TO_CPU_0 0xfee00000u

/* The table, or NULL where this code, which has the first 4 GiB only, cannot reach it. */
static volatile uint32_t *table_find(unsigned dev, unsigned cap)
{
	uint32_t table = pci_read(dev, cap + 4);
	unsigned bar = BAR0 + 4 * (table & 7);
	uint32_t low = pci_read(dev, bar);

	if ((low & BAR_64) && pci_read(dev, bar + 4))
		return NULL;
	return (volatile uint32_t *)(uintptr_t)((low & ~0xfu) + (table & ~7u));
}

static unsigned enable(unsigned dev, unsigned n, uint8_t vector)
{
	unsigned cap = pci_capability(dev, CAP_MSIX);
	volatile uint32_t *table = cap ? table_find(dev, cap) : NULL;
	unsigned len = cap ? (pci_read(dev, cap) >> 16 & 0x7ff) + 1 : 0;

	if (!table)
		return 0;
	pci_write(dev, COMMAND, 6); /* memory, bus master: MSIs are writes */
	for (unsigned i = 0; i < n && i < len; i++) {
		table[4 * i] = MSI_TO_CPU_0;
		table[4 * i + 1] = 0;
		table[4 * i + 2] = vector;
		table[4 * i + 3] = 0;
	}
	pci_write(dev, cap, pci_read(dev, cap) | MSIX_ENABLE);
	return n < len ? n : len;
}

unsigned msix_enable_all(unsigned n, uint8_t vector)
{
	unsigned done = 0;

	for (unsigned dev = 0; dev < 256 && done < n; dev += 8)
		if (pci_read(dev, 0) != UINT32_MAX)
			done += enable(dev, n - done, vector);
	return done;
}
