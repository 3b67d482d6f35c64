/* SPDX-License-Identifier: MIT */
/*
 * A device that the host wants back, and that the guest gives up (unbind=eject), in two steps. The guest has let go:
 * its BARs, interrupts and DMA are off, and it finds an empty slot. Then the leader closes the device, for which the
 * host waits: not in an update, which has sent its descriptors to the successor, but by who has the guest afterwards.
 */
#include <linux/pci_regs.h>

#include "devices/vfio/irq.h"
#include "vmm/machine.h"

/* A vCPU has written to the register. */
bool vfio_eject(struct pci_dev *pci)
{
	struct vfio_dev *dev = (struct vfio_dev *)pci->owner;
	if (!(dev->state.trouble & 1u << VFIO_TROUBLE_REQUEST))
		return false;
	vfio_config_write(pci, PCI_COMMAND, 2, 0);
	vfio_irq_disable(dev);
	device_leave(&dev->dev);
	return true;
}

/* What is left of it is its place on the bus. */
static void forget_parts(struct vfio_dev *dev)
{
	vfio_trouble_close(dev);
	vfio_regions_free(dev);
	for (unsigned i = 0; i < PCI_BARS; i++) {
		dev->pci.bars[i].len = 0;
		dev->state.pci.bar_len[i] = dev->state.pci.bar_flags[i] = 0;
	}
}

void vfio_release(struct device *base)
{
	struct vfio_dev *dev = (struct vfio_dev *)base;
	pthread_mutex_lock(&base->m->lock);
	forget_parts(dev);
	pthread_mutex_unlock(&base->m->lock);
	vfio_container_remove(dev->container, dev);
	pthread_mutex_lock(&base->m->lock);
	dev->fd = -1;
	device_tell(base, VFIO_EJECTED, false);
	pthread_mutex_unlock(&base->m->lock);
}

int vfio_gone_load(struct vfio_dev *dev, struct error *err)
{
	if (!pci_slot_gone(&dev->pci))
		return error_set(err, EBADMSG, "%s: descriptor vfio:%s was not handed over",
				 dev->dev.name, dev->id);
	dev->dev.trouble = VFIO_EJECTED;
	return pci_dev_load(&dev->pci, err);
}
