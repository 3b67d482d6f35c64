/* SPDX-License-Identifier: MIT */
/* The addresses that BARs start with: what firmware would do. COMMAND stays 0: the guest's drivers
 * switch decoding on. */
#include <linux/pci_regs.h>

#include "devices/pci/pci.h"

struct window {
	uint64_t next, end;
};

struct request {
	struct pci_dev *dev;
	unsigned bar;
};

/* Biggest first: naturally aligned requests of falling size leave no holes between them. */
static int request_cmp(const void *a, const void *b)
{
	const struct request *ra = a, *rb = b;
	uint64_t la = ra->dev->bars[ra->bar].len, lb = rb->dev->bars[rb->bar].len;
	if (la != lb)
		return la < lb ? 1 : -1;
	if (ra->dev->devfn != rb->dev->devfn)
		return ra->dev->devfn < rb->dev->devfn ? -1 : 1;
	return ra->bar < rb->bar ? -1 : 1;
}

static bool window_take(struct window *w, uint64_t len, uint64_t *addr)
{
	uint64_t at = align_up(w->next, len);
	if (at < w->next || at > w->end || len > w->end - at)
		return false;
	*addr = at;
	w->next = at + len;
	return true;
}

static void bar_set_addr(struct pci_dev *dev, unsigned bar, uint64_t addr)
{
	unsigned reg = bar == PCI_BAR_ROM ? PCI_ROM_ADDRESS : PCI_BASE_ADDRESS_0 + 4 * bar;
	pci_config_set(dev, reg, 4, pci_config_get(dev, reg, 4) | (uint32_t)addr);
	if (dev->bars[bar].flags & PCI_BAR_64)
		pci_config_set(dev, reg + 4, 4, (uint32_t)(addr >> 32));
}

void pci_bars_assign(struct pci_host *host)
{
	const struct pci_host_state *s = &host->state;
	struct window pio = {s->pio_base, s->pio_base + s->pio_len};
	struct window mmio32 = {s->mmio32_base, s->mmio32_base + s->mmio32_len};
	struct window mmio64 = {s->mmio64_base, s->mmio64_base + s->mmio64_len};
	struct request list[PCI_SLOTS * PCI_BARS];
	unsigned n = 0;

	if (!pio.next)
		pio.next = 4; /* address 0 is what an unassigned BAR holds */
	for (unsigned slot = 0; slot < PCI_SLOTS; slot++)
		for (unsigned bar = 0; host->slots[slot] && bar < PCI_BARS; bar++)
			if (host->slots[slot]->bars[bar].len)
				list[n++] = (struct request){host->slots[slot], bar};
	qsort(list, n, sizeof(list[0]), request_cmp);

	for (unsigned i = 0; i < n; i++) {
		struct pci_dev *dev = list[i].dev;
		const struct pci_bar *b = &dev->bars[list[i].bar];
		uint64_t addr = 0;
		bool ok;
		if (b->flags & PCI_BAR_IO)
			ok = window_take(&pio, b->len, &addr);
		else if ((b->flags & PCI_BAR_64) && (b->flags & PCI_BAR_PREF))
			ok = window_take(&mmio64, b->len, &addr) ||
			     window_take(&mmio32, b->len, &addr);
		else
			ok = window_take(&mmio32, b->len, &addr) ||
			     ((b->flags & PCI_BAR_64) && window_take(&mmio64, b->len, &addr));
		if (ok)
			bar_set_addr(dev, list[i].bar, addr);
		else
			log_warn("%s: no room for BAR %u (0x%lx bytes) in the guest's address "
				 "space",
				 dev->owner->name, list[i].bar, b->len);
	}
}
