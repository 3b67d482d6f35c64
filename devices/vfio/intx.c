/* SPDX-License-Identifier: MIT */
/* The interrupt line of a passed-through device. */
#include <linux/pci_regs.h>
#include <sys/epoll.h>

#include "devices/vfio/irq.h"
#include "vmm/machine.h"

/* The guest's EOI, for a device that is not unmasked by an eventfd. In an update it waits in the eventfd. */
static void unmask_by_call(void *opaque, uint32_t events)
{
	struct vfio_dev *dev = opaque;
	struct vfio_irq_set set = {.argsz = sizeof(set),
				   .flags = VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_UNMASK,
				   .index = VFIO_PCI_INTX_IRQ_INDEX,
				   .count = 1};
	uint64_t count;
	if (read(dev->intx.unmask_fd, &count, sizeof(count)) == sizeof(count))
		vm_ioctl(dev->fd, VFIO_DEVICE_SET_IRQS, &set);
}

static void intx_unwatch(struct vfio_dev *dev)
{
	if (dev->intx_watched)
		loop_remove(&dev->dev.m->loop, dev->intx.unmask_fd);
	dev->intx_watched = false;
}

void vfio_intx_remove(struct vfio_dev *dev)
{
	intx_unwatch(dev);
	irq_remove(&dev->dev.m->irq, &dev->intx);
}

/* A state that is loaded again finds it watched: the pause allocates nothing. */
static void intx_watch(struct vfio_dev *dev, int unmask_fd)
{
	struct error err;
	if (dev->intx_watched && dev->intx.unmask_fd == unmask_fd && dev->state.unmask_by_call)
		return;
	intx_unwatch(dev);
	if (!dev->state.unmask_by_call)
		return;
	dev->intx_watched =
		!loop_add(&dev->dev.m->loop, unmask_fd, EPOLLIN, unmask_by_call, dev, &err);
	if (!dev->intx_watched)
		vfio_irq_warn(dev, "INTx", &err);
}

static void intx_register(struct vfio_dev *dev, int fd, int unmask_fd)
{
	unsigned pin = pci_config_get(&dev->pci, PCI_INTERRUPT_PIN, 1);
	struct error err = {0};
	intx_watch(dev, unmask_fd);
	irq_remove(&dev->dev.m->irq, &dev->intx); /* of a state that was loaded before */
	dev->intx = (struct irq_source){.kind = IRQ_LEVEL,
					.fd = fd,
					.unmask_fd = unmask_fd,
					.gsi = pci_intx_gsi(&dev->pci, pin)};
	irq_add(&dev->dev.m->irq, &dev->intx);
	irq_want(&dev->dev.m->irq, &dev->intx, true);
	if (irq_apply(&dev->dev.m->irq, &err))
		vfio_irq_warn(dev, "INTx", &err);
}

/* The kernel masks the line when it fires; the guest's EOI comes back through the unmask
 * eventfd. */
int vfio_intx_enable(struct vfio_dev *dev, struct error *err)
{
	const uint32_t intx = VFIO_PCI_INTX_IRQ_INDEX;
	int32_t fd[2] = {-1, -1};
	int rc = vfio_eventfds_open(dev, VFIO_IRQ_INTX, 2, fd, err);
	if (rc)
		return rc;
	rc = vfio_set_irqs(dev, intx, VFIO_IRQ_SET_ACTION_TRIGGER, &fd[0], 0, 1);
	dev->state.unmask_by_call = 0;
	if (!rc) {
		rc = vfio_set_irqs(dev, intx, VFIO_IRQ_SET_ACTION_UNMASK, &fd[1], 0, 1);
		if (rc == -ENOTTY) {
			dev->state.unmask_by_call = 1;
			rc = 0;
		}
		if (rc)
			vfio_set_irqs(dev, intx, VFIO_IRQ_SET_ACTION_TRIGGER, NULL, 0, 0);
	}
	if (rc) {
		vfio_eventfds_close(dev, VFIO_IRQ_INTX, 0, 2);
		return error_errno(err, rc < 0 ? -rc : EIO, "%s: enabling INTx", dev->dev.name);
	}
	intx_register(dev, fd[0], fd[1]);
	dev->state.irq_mode = VFIO_IRQ_INTX;
	return 0;
}

bool vfio_has_pin(const struct vfio_dev *dev)
{
	unsigned pin = pci_config_get(&dev->pci, PCI_INTERRUPT_PIN, 1);
	return pin >= 1 && pin <= 4 && dev->answers.irq_count[VFIO_PCI_INTX_IRQ_INDEX];
}

int vfio_intx_load(struct vfio_dev *dev, struct error *err)
{
	int32_t fd[2] = {-1, -1};
	if (!vfio_has_pin(dev) || dev->state.irq_vectors || dev->state.unmask_by_call > 1)
		return vfio_irq_bad_state(dev, "the device has no interrupt pin", err);
	int rc = vfio_eventfds_get(dev, VFIO_IRQ_INTX, 2, fd, err);
	if (!rc)
		intx_register(dev, fd[0], fd[1]);
	return rc;
}
