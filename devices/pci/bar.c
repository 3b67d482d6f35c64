/* SPDX-License-Identifier: MIT */
/*
 * Base address registers: sizing, decoding, moving. The guest may write any address at any time. A
 * BAR decodes only inside the bridge's windows and where no other BAR does; otherwise it stays
 * unmapped until some register on the bus changes.
 */
#include <linux/pci_regs.h>

#include "devices/pci/pci.h"

static unsigned bar_reg(unsigned bar)
{
	return bar == PCI_BAR_ROM ? PCI_ROM_ADDRESS : PCI_BASE_ADDRESS_0 + 4 * bar;
}

/* Bits of the low register that hold the address. */
static uint32_t bar_addr_mask(unsigned bar, uint32_t flags)
{
	if (bar == PCI_BAR_ROM)
		return (uint32_t)PCI_ROM_ADDRESS_MASK;
	return flags & PCI_BAR_IO ? (uint32_t)PCI_BASE_ADDRESS_IO_MASK
				  : (uint32_t)PCI_BASE_ADDRESS_MEM_MASK;
}

static uint32_t bar_type_bits(uint32_t flags)
{
	if (flags & PCI_BAR_IO)
		return PCI_BASE_ADDRESS_SPACE_IO;
	return (flags & PCI_BAR_64 ? PCI_BASE_ADDRESS_MEM_TYPE_64 : 0) |
	       (flags & PCI_BAR_PREF ? PCI_BASE_ADDRESS_MEM_PREFETCH : 0);
}

static int bar_check(const struct pci_dev *dev, unsigned bar, uint32_t flags, uint64_t len)
{
	uint64_t min = bar == PCI_BAR_ROM ? 2048 : flags & PCI_BAR_IO ? 4 : 16;
	bool wide = flags & PCI_BAR_64;
	if (bar >= PCI_BARS || !is_pow2(len) || len < min || dev->bars[bar].len)
		return -EINVAL;
	if (!wide && len > (flags & PCI_BAR_IO ? 64 * KIB : 2 * GIB))
		return -EINVAL;
	if (wide && (bar >= 5 || (flags & PCI_BAR_IO) || dev->bars[bar + 1].len))
		return -EINVAL;
	/* The upper half of a 64-bit one. */
	if (bar && bar < PCI_BAR_ROM && dev->bars[bar - 1].len &&
	    (dev->bars[bar - 1].flags & PCI_BAR_64))
		return -EINVAL;
	return 0;
}

int pci_bar_add(struct pci_dev *dev, unsigned bar, uint32_t flags, uint64_t len, struct error *err)
{
	if (bar_check(dev, bar, flags, len))
		return error_set(err, EINVAL, "%s: BAR %u of 0x%lx bytes, kind %u, cannot be",
				 dev->owner->name, bar, len, flags);
	dev->bars[bar] = (struct pci_bar){.len = len, .flags = flags};
	dev->state->bar_len[bar] = len;
	dev->state->bar_flags[bar] = flags;

	unsigned reg = bar_reg(bar);
	uint32_t writable = (uint32_t) ~(len - 1) & bar_addr_mask(bar, flags);
	if (bar == PCI_BAR_ROM)
		writable |= PCI_ROM_ADDRESS_ENABLE;
	pci_config_set(dev, reg, 4, bar == PCI_BAR_ROM ? 0 : bar_type_bits(flags));
	pci_config_allow(dev, reg, 4, writable);
	if (flags & PCI_BAR_64) {
		pci_config_set(dev, reg + 4, 4, 0);
		pci_config_allow(dev, reg + 4, 4, (uint32_t)(~(len - 1) >> 32));
	}
	return 0;
}

/* The result is aligned whatever the registers hold, those of a hostile blob too. */
uint64_t pci_bar_addr(const struct pci_dev *dev, unsigned bar)
{
	const struct pci_bar *b = &dev->bars[bar];
	uint64_t addr = pci_config_get(dev, bar_reg(bar), 4) & bar_addr_mask(bar, b->flags);
	if (b->flags & PCI_BAR_64)
		addr |= (uint64_t)pci_config_get(dev, bar_reg(bar) + 4, 4) << 32;
	return align_down(addr, b->len);
}

static bool in_window(const struct pci_dev *dev, const struct pci_bar *b, uint64_t addr)
{
	const struct pci_host_state *s = &dev->host->state;
	if (b->flags & PCI_BAR_IO)
		return addr >= s->pio_base && range_fits(addr - s->pio_base, b->len, s->pio_len);
	return (addr >= s->mmio32_base &&
		range_fits(addr - s->mmio32_base, b->len, s->mmio32_len)) ||
	       (addr >= s->mmio64_base && range_fits(addr - s->mmio64_base, b->len, s->mmio64_len));
}

static bool bar_decodes(const struct pci_dev *dev, unsigned bar)
{
	const struct pci_bar *b = &dev->bars[bar];
	uint32_t enable = b->flags & PCI_BAR_IO ? PCI_COMMAND_IO : PCI_COMMAND_MEMORY;
	if (!b->len || dev->state->asleep || !(pci_config_get(dev, PCI_COMMAND, 2) & enable))
		return false;
	if (bar == PCI_BAR_ROM &&
	    !(pci_config_get(dev, PCI_ROM_ADDRESS, 4) & PCI_ROM_ADDRESS_ENABLE))
		return false;
	return in_window(dev, b, pci_bar_addr(dev, bar));
}

static bool bar_collides(const struct pci_dev *dev, unsigned bar, uint64_t addr)
{
	const struct pci_bar *b = &dev->bars[bar];
	for (unsigned k = 0; k < dev->host->ndevs; k++) {
		const struct pci_dev *other = dev->host->devs[k];
		for (unsigned i = 0; i < PCI_BARS; i++) {
			const struct pci_bar *o = &other->bars[i];
			if (o != b && o->mapped &&
			    (o->flags & PCI_BAR_IO) == (b->flags & PCI_BAR_IO) &&
			    ranges_overlap(addr, b->len, o->addr, o->len))
				return true;
		}
	}
	return false;
}

static int bar_map(struct pci_dev *dev, unsigned bar, struct error *err)
{
	uint64_t addr = pci_bar_addr(dev, bar);
	if (bar_collides(dev, bar, addr))
		return error_set(err, EEXIST, "%s: BAR %u at 0x%lx overlaps another BAR",
				 dev->owner->name, bar, addr);
	int rc = dev->ops->bar_map(dev, bar, addr, err);
	if (rc)
		return rc;
	dev->bars[bar].addr = addr;
	dev->bars[bar].mapped = true;
	dev->state->bars_mapped |= 1u << bar;
	return 0;
}

static void bar_unmap(struct pci_dev *dev, unsigned bar)
{
	dev->ops->bar_unmap(dev, bar, dev->bars[bar].addr);
	dev->bars[bar].mapped = false;
	dev->state->bars_mapped &= ~(1u << bar);
}

static void bars_unmap_stale(struct pci_dev *dev)
{
	for (unsigned i = 0; i < PCI_BARS; i++) {
		struct pci_bar *b = &dev->bars[i];
		if (!dev->bars[i].mapped ||
		    (bar_decodes(dev, i) && pci_bar_addr(dev, i) == b->addr))
			continue;
		bar_unmap(dev, i);
	}
}

static void bars_map_new(struct pci_dev *dev)
{
	for (unsigned i = 0; i < PCI_BARS; i++) {
		if (dev->bars[i].mapped || !bar_decodes(dev, i))
			continue;
		struct error err = {0};
		int rc = bar_map(dev, i, &err);
		if (rc && rc != -EEXIST && log_guest_ok(&dev->complaints, 5))
			log_warn("%s: BAR %u stays unmapped: %s", dev->owner->name, i, err.text);
	}
}

/* First unmaps all that moved or went away, on all devices: one BAR may take the place of another. */
void pci_bars_update(struct pci_host *host)
{
	for (unsigned i = 0; i < host->ndevs; i++)
		bars_unmap_stale(host->devs[i]);
	for (unsigned i = 0; i < host->ndevs; i++)
		bars_map_new(host->devs[i]);
}

int pci_dev_load(struct pci_dev *dev, struct error *err)
{
	const struct pci_state *s = dev->state;

	if (s->devfn >> 3 >= PCI_SLOTS || !s->devfn != (dev == &dev->host->pci))
		return error_set(err, EBADMSG,
				 "%s: the guest knows it as slot %u.%u, which cannot be",
				 dev->owner->name, s->devfn >> 3, s->devfn & 7);
	for (unsigned i = 0; i < PCI_BARS; i++)
		if (s->bar_len[i] != dev->bars[i].len || s->bar_flags[i] != dev->bars[i].flags)
			return error_set(err, EBADMSG,
					 "%s: BAR %u had 0x%lx bytes, kind %u; now 0x%lx, kind %u",
					 dev->owner->name, i, s->bar_len[i], s->bar_flags[i],
					 dev->bars[i].len, dev->bars[i].flags);
	for (unsigned i = 0; i < 32; i++)
		if (s->bars_mapped & (1u << i) && (i >= PCI_BARS || !bar_decodes(dev, i)))
			return error_set(err, EBADMSG,
					 "%s: BAR %u is said to be mapped, its registers disagree",
					 dev->owner->name, i);
	return 0;
}

/* A BAR that stays where it is is not touched, or KVM would drop the page tables of its slot. First unmaps all that
 * goes, on all devices: one BAR may take the place of another. */
int pci_bars_load(struct pci_host *host, struct error *err)
{
	uint32_t wanted[PCI_MAX_DEVS] = {0};
	for (unsigned k = 0; k < host->ndevs; k++) {
		struct pci_dev *dev = host->devs[k];
		if (pci_dev_at(host, dev->state->devfn) != dev)
			return error_set(err, EBADMSG, "%s: another device is in its slot %u.%u",
					 dev->owner->name, dev->state->devfn >> 3,
					 dev->state->devfn & 7);
		wanted[k] = dev->state->bars_mapped;
		for (unsigned i = 0; i < PCI_BARS; i++)
			if (dev->bars[i].mapped &&
			    (!(wanted[k] & (1u << i)) || pci_bar_addr(dev, i) != dev->bars[i].addr))
				bar_unmap(dev, i);
	}
	for (unsigned k = 0; k < host->ndevs; k++)
		for (unsigned i = 0; i < PCI_BARS; i++) {
			struct pci_dev *dev = host->devs[k];
			int rc = wanted[k] & (1u << i) && !dev->bars[i].mapped
					 ? bar_map(dev, i, err)
					 : 0;
			if (rc)
				return rc;
		}
	return 0;
}

/* ---- the addresses that BARs start with: what firmware would do. COMMAND stays 0 ---- */

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
	if (ra->dev != rb->dev)
		return ra->dev->state->devfn < rb->dev->state->devfn ? -1 : 1;
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
	unsigned reg = bar_reg(bar);
	pci_config_set(dev, reg, 4, pci_config_get(dev, reg, 4) | (uint32_t)addr);
	if (dev->bars[bar].flags & PCI_BAR_64)
		pci_config_set(dev, reg + 4, 4, (uint32_t)(addr >> 32));
}

/* A driver can do without an I/O or 32-bit BAR as a rule. A 64-bit one is what the device is for. */
static int no_room(const struct pci_host *host, const struct request *list, unsigned n,
		   const struct request *missing, struct error *err)
{
	const struct pci_bar *b = &missing->dev->bars[missing->bar];
	const char *name = missing->dev->owner->name;
	struct arch_pci_layout l;
	uint64_t need = 0;

	if (!(b->flags & PCI_BAR_64)) {
		log_warn("%s: no room for BAR %u (0x%lx bytes) in the guest's address space", name,
			 missing->bar, b->len);
		return 0;
	}
	for (unsigned i = 0; i < n; i++)
		if (list[i].dev->bars[list[i].bar].flags & PCI_BAR_64)
			need += align_up(list[i].dev->bars[list[i].bar].len, MIB);
	arch_pci_layout(host->dev.m, &l);
	error_end(err, EXIT_HOST, ENOSPC,
		  "%s: no room for BAR %u of %lu MiB: the devices' 64-bit BARs take %lu MiB, the "
		  "guest's window for them has %lu MiB (%u address bits on this host)",
		  name, missing->bar, (unsigned long)(align_up(b->len, MIB) / MIB),
		  (unsigned long)(need / MIB), (unsigned long)(l.mmio64_len / MIB), l.address_bits);
	return error_hint(err,
			  "pass fewer devices, or use a host with more address bits; less --mem "
			  "makes room where it is more than %lluG",
			  (1ull << l.address_bits) / 2 / GIB);
}

int pci_bars_assign(struct pci_host *host, struct error *err)
{
	const struct pci_host_state *s = &host->state;
	struct window pio = {s->pio_base, s->pio_base + s->pio_len};
	struct window mmio32 = {s->mmio32_base, s->mmio32_base + s->mmio32_len};
	struct window mmio64 = {s->mmio64_base, s->mmio64_base + s->mmio64_len};
	struct request list[PCI_MAX_DEVS * PCI_BARS];
	unsigned n = 0;

	if (!pio.next)
		pio.next = 4; /* address 0 is what an unassigned BAR holds */
	for (unsigned i = 0; i < host->ndevs; i++)
		for (unsigned bar = 0; bar < PCI_BARS; bar++)
			if (host->devs[i]->bars[bar].len)
				list[n++] = (struct request){host->devs[i], bar};
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
		int rc = ok ? 0 : no_room(host, list, n, &list[i], err);
		if (rc)
			return rc;
	}
	return 0;
}
