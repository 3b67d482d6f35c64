/* SPDX-License-Identifier: MIT */
/* PCI config space of bus 0, mechanism #1. */
#include "guest.h"

uint32_t pci_read(unsigned dev, unsigned reg)
{
	outl(0xcf8, 0x80000000u | dev << 8 | (reg & 0xfc));
	return inl(0xcfc);
}

void pci_write(unsigned dev, unsigned reg, uint32_t v)
{
	outl(0xcf8, 0x80000000u | dev << 8 | (reg & 0xfc));
	outl(0xcfc, v);
}

int pci_find(uint32_t id)
{
	for (unsigned dev = 0; dev < 256; dev += 8)
		if (pci_read(dev, 0) == id)
			return (int)dev;
	return -1;
}

unsigned pci_capability(unsigned dev, uint8_t id)
{
	unsigned at = 0x34;

	if (!(pci_read(dev, 4) & 1u << 20)) /* status: capability list */
		return 0;
	at = pci_read(dev, at) & 0xfc;
	for (int n = 0; at && n < 48; n++) {
		uint32_t head = pci_read(dev, at);
		if ((head & 0xff) == id)
			return at;
		at = head >> 8 & 0xfc;
	}
	return 0;
}
