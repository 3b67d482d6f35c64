/* SPDX-License-Identifier: MIT */
/* The interrupt line (INTx) of a passed-through device: VFIO masks it when it fires, and KVM has it unmasked by an
 * eventfd when the guest has served it. */
#include <linux/pci_regs.h>
#include <sys/epoll.h>

#include "devices/vfio/irq.h"
#include "vmm/machine.h"

/*
 * Some mediated devices take no eventfd to unmask their line by, and the event loop makes the call. What such a device
 * has to say while it is masked may be lost: the kernel's sample mtty does not look again when it is unmasked. So the
 * line is raised once more after it was, and the guest's driver looks. In an update both eventfds keep what comes.
 */
static void raise_line(const struct vfio_dev *dev)
{
	const uint64_t one = 1;
	if (write(dev->intx.fd, &one, sizeof(one)) != sizeof(one))
		log_warn("%s: raising its interrupt line: %s", dev->dev.name, strerror(errno));
}

static void fired(void *opaque, uint32_t events)
{
	struct vfio_dev *dev = opaque;
	uint64_t count;
	if (read(dev->intx_trigger, &count, sizeof(count)) != sizeof(count))
		return;
	dev->intx_fired = true;
	raise_line(dev);
}

static void unmask_by_call(void *opaque, uint32_t events)
{
	struct vfio_dev *dev = opaque;
	struct vfio_irq_set set = {.argsz = sizeof(set),
				   .flags = VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_UNMASK,
				   .index = VFIO_PCI_INTX_IRQ_INDEX,
				   .count = 1};
	uint64_t count;
	if (read(dev->intx.unmask_fd, &count, sizeof(count)) != sizeof(count) || !dev->intx_fired)
		return; /* the EOI of a line that was raised once more */
	dev->intx_fired = false;
	vm_ioctl(dev->fd, VFIO_DEVICE_SET_IRQS, &set);
	raise_line(dev);
}

static void intx_unwatch(struct vfio_dev *dev)
{
	if (dev->intx_trigger < 0)
		return;
	loop_remove(&dev->dev.m->loop, dev->intx_trigger);
	loop_remove(&dev->dev.m->loop, dev->intx.unmask_fd);
	dev->intx_trigger = -1;
}

void vfio_intx_remove(struct vfio_dev *dev)
{
	intx_unwatch(dev);
	irq_remove(&dev->dev.m->irq, &dev->intx);
}

/* Called at the rehearsal and again in the pause. Then the eventfd is watched already, since the pause allocates
 * nothing. */
static void intx_watch(struct vfio_dev *dev, int trigger, int unmask)
{
	struct loop *loop = &dev->dev.m->loop;
	struct error err;
	dev->intx_fired = true; /* who has been handed over a device does not know */
	if (dev->intx_trigger == trigger && dev->intx.unmask_fd == unmask)
		return;
	intx_unwatch(dev);
	if (loop_add(loop, trigger, EPOLLIN, fired, dev, &err)) {
		vfio_irq_warn(dev, "INTx", &err);
	} else if (loop_add(loop, unmask, EPOLLIN, unmask_by_call, dev, &err)) {
		loop_remove(loop, trigger);
		vfio_irq_warn(dev, "INTx", &err);
	} else {
		dev->intx_trigger = trigger;
	}
}

static void intx_register(struct vfio_dev *dev, const int32_t *fd)
{
	unsigned pin = pci_config_get(&dev->pci, PCI_INTERRUPT_PIN, 1);
	struct error err = {0};
	if (dev->state.unmask_by_call)
		intx_watch(dev, fd[INTX_TRIGGER], fd[INTX_UNMASK]);
	else
		intx_unwatch(dev);
	irq_remove(&dev->dev.m->irq, &dev->intx); /* of a state that was loaded before */
	dev->intx =
		(struct irq_source){.kind = IRQ_LEVEL,
				    .fd = fd[dev->state.unmask_by_call ? INTX_LINE : INTX_TRIGGER],
				    .unmask_fd = fd[INTX_UNMASK],
				    .gsi = pci_intx_gsi(&dev->pci, pin)};
	irq_add(&dev->dev.m->irq, &dev->intx);
	irq_want(&dev->dev.m->irq, &dev->intx, true);
	if (irq_apply(&dev->dev.m->irq, &err))
		vfio_irq_warn(dev, "INTx", &err);
}

/* The kernel masks the line when it fires; the guest's EOI comes back through the unmask
 * eventfd. */
static int intx_set(struct vfio_dev *dev, const int32_t *fd)
{
	const uint32_t intx = VFIO_PCI_INTX_IRQ_INDEX;
	int rc = vfio_set_irqs(dev, intx, VFIO_IRQ_SET_ACTION_TRIGGER, &fd[INTX_TRIGGER], 0, 1);
	if (rc)
		return rc;
	rc = vfio_set_irqs(dev, intx, VFIO_IRQ_SET_ACTION_UNMASK, &fd[INTX_UNMASK], 0, 1);
	dev->state.unmask_by_call = rc == -ENOTTY;
	if (rc && rc != -ENOTTY) {
		vfio_set_irqs(dev, intx, VFIO_IRQ_SET_ACTION_TRIGGER, NULL, 0, 0);
		return rc;
	}
	return 0;
}

int vfio_intx_enable(struct vfio_dev *dev, struct error *err)
{
	int32_t fd[INTX_FDS];
	int rc = vfio_eventfds_open(dev, VFIO_IRQ_INTX, INTX_FDS, fd, err);
	if (rc)
		return rc;
	rc = intx_set(dev, fd);
	if (rc) {
		vfio_eventfds_close(dev, VFIO_IRQ_INTX, 0, INTX_FDS);
		return error_errno(err, rc < 0 ? -rc : EIO, "%s: enabling INTx", dev->dev.name);
	}
	if (!dev->state.unmask_by_call)
		vfio_eventfds_close(dev, VFIO_IRQ_INTX, INTX_LINE, INTX_FDS);
	intx_register(dev, fd);
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
	int32_t fd[INTX_FDS];
	if (!vfio_has_pin(dev) || dev->state.irq_vectors || dev->state.unmask_by_call > 1)
		return vfio_irq_bad_state(dev, "the device has no interrupt pin", err);
	int rc = vfio_eventfds_get(dev, VFIO_IRQ_INTX,
				   dev->state.unmask_by_call ? INTX_FDS : INTX_LINE, fd, err);
	if (!rc)
		intx_register(dev, fd);
	return rc;
}
