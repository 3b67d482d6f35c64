/* SPDX-License-Identifier: MIT */
/* Config space as an array of bytes with a mask of writable bits. */
#include <linux/pci_regs.h>

#include "devices/pci/msi.h"
#include "devices/pci/pci.h"
#include "vmm/machine.h"

uint32_t pci_config_get(const struct pci_dev *dev, unsigned off, unsigned len)
{
	return (uint32_t)load_le(dev->state->config + off, len);
}

void pci_config_set(struct pci_dev *dev, unsigned off, unsigned len, uint32_t val)
{
	store_le(dev->state->config + off, val, len);
}

void pci_config_allow(struct pci_dev *dev, unsigned off, unsigned len, uint32_t mask)
{
	store_le(dev->wmask + off, mask, len);
}

uint32_t pci_config_read(struct pci_dev *dev, unsigned off, unsigned len)
{
	if (dev->msi)
		msi_config_reading(dev->msi, off, len);
	return pci_config_get(dev, off, len);
}

void pci_config_write(struct pci_dev *dev, unsigned off, unsigned len, uint32_t val)
{
	uint32_t mask = (uint32_t)load_le(dev->wmask + off, len);
	uint32_t old = pci_config_get(dev, off, len);
	pci_config_set(dev, off, len, (old & ~mask) | (val & mask));

	if (ranges_overlap(off, len, PCI_COMMAND, 2) ||
	    ranges_overlap(off, len, PCI_BASE_ADDRESS_0, 6 * 4) ||
	    ranges_overlap(off, len, PCI_ROM_ADDRESS, 4))
		pci_bars_update(dev->host);
	if (dev->msi)
		msi_config_written(dev->msi, off, len);
	if (dev->msix)
		msix_config_written(dev->msix, off, len);
}

int pci_dev_init(struct pci_dev *dev, struct device *owner, const struct pci_ops *ops,
		 struct pci_state *state, struct error *err)
{
	struct pci_host *host = (struct pci_host *)machine_device(owner->m, "pci-host", NULL);
	if (!host)
		return error_set(err, ENODEV, "%s: the machine has no PCI host bridge",
				 owner->name);
	unsigned slot = 1; /* 00:00.0 is the bridge */
	while (slot < PCI_SLOTS && pci_dev_at(host, slot << 3))
		slot++;
	if (slot == PCI_SLOTS || host->ndevs == PCI_MAX_DEVS)
		return error_end(err, EXIT_CONFIG, ENOSPC,
				 "%s: all %d slots of the PCI bus are taken", owner->name,
				 PCI_SLOTS - 1);
	dev->owner = owner;
	dev->host = host;
	dev->ops = ops;
	dev->state = state;
	state->devfn = slot << 3;
	host->devs[host->ndevs++] = dev;

	pci_config_allow(dev, PCI_COMMAND, 2,
			 PCI_COMMAND_IO | PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER |
				 PCI_COMMAND_PARITY | PCI_COMMAND_SERR | PCI_COMMAND_INTX_DISABLE);
	pci_config_allow(dev, PCI_CACHE_LINE_SIZE, 1, 0xff);
	pci_config_allow(dev, PCI_INTERRUPT_LINE, 1, 0xff);
	return 0;
}

struct pci_dev *pci_dev_at(const struct pci_host *host, unsigned devfn)
{
	for (unsigned i = 0; i < host->ndevs; i++)
		if (host->devs[i]->state->devfn == devfn)
			return host->devs[i];
	return NULL;
}

void pci_dev_join(struct pci_dev *dev, const struct pci_dev *first, unsigned fn)
{
	dev->state->devfn = first->state->devfn | fn;
}

bool pci_shares_slot(const struct pci_dev *dev)
{
	const struct pci_host *host = dev->host;
	for (unsigned i = 0; i < host->ndevs; i++)
		if (host->devs[i] != dev &&
		    host->devs[i]->state->devfn >> 3 == dev->state->devfn >> 3)
			return true;
	return false;
}

uint32_t pci_intx_gsi(const struct pci_dev *dev, unsigned pin)
{
	return dev->host->state.intx_gsi[((dev->state->devfn >> 3) + pin - 1) % 4];
}

void pci_intx_set(struct pci_dev *dev, bool level)
{
	const struct pci_host *host = dev->host;
	uint32_t gsi = pci_intx_gsi(dev, 1);
	bool any = false;
	if (dev->line == level)
		return;
	dev->line = level;
	for (unsigned i = 0; i < host->ndevs; i++)
		any |= host->devs[i]->line && pci_intx_gsi(host->devs[i], 1) == gsi;
	irq_pin(&dev->owner->m->irq, gsi, any);
}
