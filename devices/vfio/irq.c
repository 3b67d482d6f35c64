/* SPDX-License-Identifier: MIT */
/*
 * Interrupts of a passed-through device: INTx until the guest's driver enables MSI or MSI-X, and
 * again when that is disabled. Nothing here runs when an interrupt comes: irqfds carry it into the
 * guest. Only what the guest does leads to VFIO_DEVICE_SET_IRQS, which includes the EOI of a line that
 * the device does not take an eventfd for. Taking over finds the eventfds by name.
 */
#include <linux/pci_regs.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

#include "devices/vfio/vfio.h"
#include "vmm/machine.h"

/* INTx has two: the trigger and what unmasks it. */
static void irq_name(const struct vfio_dev *dev, enum vfio_irq_mode mode, unsigned i, char *name)
{
	if (mode == VFIO_IRQ_INTX)
		snprintf(name, FDSET_NAME_LEN, "vfio:%s:intx%s", dev->id, i ? "-unmask" : "");
	else
		snprintf(name, FDSET_NAME_LEN, "vfio:%s:%s:%u", dev->id,
			 mode == VFIO_IRQ_MSIX ? "msix" : "msi", i);
}

static struct pci_vectors *mode_vectors(struct vfio_dev *dev, enum vfio_irq_mode mode)
{
	return mode == VFIO_IRQ_MSIX ? &dev->msix.vec : &dev->msi.vec;
}

static uint32_t mode_index(enum vfio_irq_mode mode)
{
	return mode == VFIO_IRQ_MSIX  ? VFIO_PCI_MSIX_IRQ_INDEX
	       : mode == VFIO_IRQ_MSI ? VFIO_PCI_MSI_IRQ_INDEX
				      : VFIO_PCI_INTX_IRQ_INDEX;
}

/* A new eventfd under @name in the table of kept descriptors, or -errno. */
static int eventfd_keep(struct vfio_dev *dev, const char *name, struct error *err)
{
	int fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (fd < 0)
		return error_errno(err, errno, "eventfd %s", name);
	int rc = fdset_keep(&dev->dev.m->fds, name, fd, err);
	if (rc)
		close(fd);
	return rc ? rc : fd;
}

/* Hands @n eventfds to the device. 0; positive: the host has only so many; -errno. */
static int set_irqs(struct vfio_dev *dev, uint32_t index, uint32_t action, const int32_t *fds,
		    uint32_t n)
{
	size_t size = sizeof(struct vfio_irq_set) + n * sizeof(*fds);
	struct vfio_irq_set *set = calloc(1, size);
	if (!set)
		return -ENOMEM;
	*set = (struct vfio_irq_set){
		.argsz = (uint32_t)size,
		.flags = action | (n ? VFIO_IRQ_SET_DATA_EVENTFD : VFIO_IRQ_SET_DATA_NONE),
		.index = index,
		.count = n,
	};
	if (n)
		memcpy(set->data, fds, n * sizeof(*fds));
	long rc = vm_ioctl(dev->fd, VFIO_DEVICE_SET_IRQS, set);
	free(set);
	return (int)rc;
}

static void warn(struct vfio_dev *dev, const char *what, const struct error *err)
{
	if (!log_guest_ok(&dev->complaints, 5))
		return;
	log_warn("%s: %s: %s", dev->dev.name, what, err->text);
	if (err->hint[0])
		log_warn("%s: %s", dev->dev.name, err->hint);
}

/* The guest's EOI, for a device that is not unmasked by an eventfd. In an update it waits in the eventfd. */
static void unmask_by_call(void *opaque, uint32_t events)
{
	struct vfio_dev *dev = opaque;
	uint64_t count;
	if (read(dev->intx.unmask_fd, &count, sizeof(count)) == sizeof(count))
		set_irqs(dev, VFIO_PCI_INTX_IRQ_INDEX, VFIO_IRQ_SET_ACTION_UNMASK, NULL, 0);
}

static void intx_unwatch(struct vfio_dev *dev)
{
	if (dev->intx_watched)
		loop_remove(&dev->dev.m->loop, dev->intx.unmask_fd);
	dev->intx_watched = false;
}

void vfio_irq_remove_intx(struct vfio_dev *dev)
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
	dev->intx_watched = !loop_add(&dev->dev.m->loop, unmask_fd, EPOLLIN, unmask_by_call, dev,
				      &err);
	if (!dev->intx_watched)
		warn(dev, "INTx", &err);
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
		warn(dev, "INTx", &err);
}

static void eventfds_close(struct vfio_dev *dev, enum vfio_irq_mode mode, unsigned from,
			   unsigned to)
{
	char name[FDSET_NAME_LEN];
	for (unsigned i = from; i < to; i++) {
		irq_name(dev, mode, i, name);
		fdset_close(&dev->dev.m->fds, name);
	}
}

static int eventfds_open(struct vfio_dev *dev, enum vfio_irq_mode mode, unsigned n, int32_t *fds,
			 struct error *err)
{
	char name[FDSET_NAME_LEN];
	for (unsigned i = 0; i < n; i++) {
		irq_name(dev, mode, i, name);
		fds[i] = eventfd_keep(dev, name, err);
		if (fds[i] < 0) {
			eventfds_close(dev, mode, 0, i);
			return fds[i];
		}
	}
	return 0;
}

static int eventfds_get(struct vfio_dev *dev, enum vfio_irq_mode mode, unsigned n, int32_t *fds,
			struct error *err)
{
	char name[FDSET_NAME_LEN];
	for (unsigned i = 0; i < n; i++) {
		irq_name(dev, mode, i, name);
		fds[i] = fdset_get(&dev->dev.m->fds, name);
		if (fds[i] < 0)
			return error_set(err, EBADMSG, "%s: descriptor %s was not handed over",
					 dev->dev.name, name);
	}
	return 0;
}

/* The kernel masks the line when it fires; the guest's EOI comes back through the unmask
 * eventfd. */
static int intx_enable(struct vfio_dev *dev, struct error *err)
{
	const uint32_t intx = VFIO_PCI_INTX_IRQ_INDEX;
	int32_t fd[2] = {-1, -1};
	int rc = eventfds_open(dev, VFIO_IRQ_INTX, 2, fd, err);
	if (rc)
		return rc;
	rc = set_irqs(dev, intx, VFIO_IRQ_SET_ACTION_TRIGGER, &fd[0], 1);
	dev->state.unmask_by_call = 0;
	if (!rc) {
		rc = set_irqs(dev, intx, VFIO_IRQ_SET_ACTION_UNMASK, &fd[1], 1);
		if (rc == -ENOTTY) {
			dev->state.unmask_by_call = 1;
			rc = 0;
		}
		if (rc)
			set_irqs(dev, intx, VFIO_IRQ_SET_ACTION_TRIGGER, NULL, 0);
	}
	if (rc) {
		eventfds_close(dev, VFIO_IRQ_INTX, 0, 2);
		return error_errno(err, rc < 0 ? -rc : EIO, "%s: enabling INTx", dev->dev.name);
	}
	intx_register(dev, fd[0], fd[1]);
	dev->state.irq_mode = VFIO_IRQ_INTX;
	return 0;
}

static bool has_pin(const struct vfio_dev *dev)
{
	unsigned pin = pci_config_get(&dev->pci, PCI_INTERRUPT_PIN, 1);
	return pin >= 1 && pin <= 4 && dev->answers.irq_count[VFIO_PCI_INTX_IRQ_INDEX];
}

int vfio_irq_start(struct vfio_dev *dev, struct error *err)
{
	return has_pin(dev) ? intx_enable(dev, err) : 0;
}

/* As many of @want as there are descriptors for, less what control socket and update need. 0: none. */
static unsigned vectors_open(struct vfio_dev *dev, enum vfio_irq_mode mode, unsigned want,
			     int32_t *fds, struct error *err)
{
	unsigned opened = 0, n;
	char name[FDSET_NAME_LEN];
	for (; opened < want; opened++) {
		irq_name(dev, mode, opened, name);
		fds[opened] = eventfd_keep(dev, name, err);
		if (fds[opened] < 0)
			break;
	}
	if (opened == want || !opened)
		return opened;
	n = opened > VFIO_SPARE_FDS ? opened - VFIO_SPARE_FDS : 1;
	eventfds_close(dev, mode, n, opened);
	return n;
}

#define HOST_HINT "have the host's other devices use fewer interrupts: /proc/interrupts lists them"

static int vectors_enable(struct vfio_dev *dev, enum vfio_irq_mode mode, unsigned want,
			  struct error *err)
{
	struct pci_vectors *vec = mode_vectors(dev, mode);
	const char *kind = mode == VFIO_IRQ_MSIX ? "MSI-X" : "MSI";
	int32_t fds[MSIX_MAX_VECTORS];
	char what[64];
	unsigned opened = vectors_open(dev, mode, want, fds, err), n = opened;
	if (!opened)
		return -err->code;
	int rc;
	/* A host that is short of vectors says how many it can give. */
	while ((rc = set_irqs(dev, mode_index(mode), VFIO_IRQ_SET_ACTION_TRIGGER, fds, n)) > 0 &&
	       (unsigned)rc < n) {
		eventfds_close(dev, mode, (unsigned)rc, n);
		n = (unsigned)rc;
	}
	if (rc) {
		eventfds_close(dev, mode, 0, n);
		rc = error_errno(err, rc < 0 ? -rc : ENOSPC, "enabling %u vectors", opened);
		return rc == -ENOSPC ? error_hint(err, HOST_HINT) : rc;
	}
	for (unsigned i = 0; i < n; i++)
		pci_vector_set_fd(vec, i, fds[i]);
	dev->state.irq_mode = mode;
	dev->state.irq_vectors = n;
	if (n < opened) {
		error_set(err, ENOSPC, "the host has no more");
		error_hint(err, HOST_HINT);
	}
	if (n < want) {
		snprintf(what, sizeof(what), "only %u of %u %s vectors work", n, want, kind);
		warn(dev, what, err);
	}
	return 0;
}

static void irq_disable(struct vfio_dev *dev)
{
	enum vfio_irq_mode mode = dev->state.irq_mode;
	if (mode == VFIO_IRQ_NONE)
		return;
	/* First out of KVM, then off in the device, then closed. */
	if (mode == VFIO_IRQ_INTX)
		vfio_irq_remove_intx(dev);
	else
		pci_vectors_release(mode_vectors(dev, mode));
	set_irqs(dev, mode_index(mode), VFIO_IRQ_SET_ACTION_TRIGGER, NULL, 0);
	eventfds_close(dev, mode, 0, mode == VFIO_IRQ_INTX ? 2 : dev->state.irq_vectors);
	dev->state.irq_mode = VFIO_IRQ_NONE;
	dev->state.irq_vectors = 0;
}

/* The guest set or cleared the enable bit of MSI or MSI-X. */
static int mode_change(struct vfio_dev *dev, enum vfio_irq_mode mode, bool on, unsigned vectors)
{
	struct error err = {0};
	if (!on && dev->state.irq_mode != mode && dev->state.irq_mode != VFIO_IRQ_NONE)
		return 0; /* the guest had both on, and the other one is served */
	irq_disable(dev);
	int rc = on ? vectors_enable(dev, mode, vectors, &err) : 0;
	if (rc)
		warn(dev, mode == VFIO_IRQ_MSIX ? "MSI-X stays off" : "MSI stays off", &err);
	if ((rc || !on) && has_pin(dev) && intx_enable(dev, &err))
		warn(dev, "stays without interrupts", &err);
	return rc;
}

static int msix_changed(struct msix *msix, bool on)
{
	return mode_change((struct vfio_dev *)msix->pci->owner, VFIO_IRQ_MSIX, on, msix->vec.n);
}

static int msi_changed(struct msi *msi, bool on)
{
	return mode_change((struct vfio_dev *)msi->pci->owner, VFIO_IRQ_MSI, on,
			   msi_vectors_used(msi));
}

void vfio_irq_init(struct vfio_dev *dev)
{
	dev->msix.changed = msix_changed;
	dev->msi.changed = msi_changed;
}

static int bad_state(const struct vfio_dev *dev, const char *what, struct error *err)
{
	return error_set(err, EBADMSG, "%s: interrupt mode %u with %u vectors: %s", dev->dev.name,
			 dev->state.irq_mode, dev->state.irq_vectors, what);
}

static int intx_load(struct vfio_dev *dev, struct error *err)
{
	int32_t fd[2] = {-1, -1};
	if (!has_pin(dev) || dev->state.irq_vectors || dev->state.unmask_by_call > 1)
		return bad_state(dev, "the device has no interrupt pin", err);
	int rc = eventfds_get(dev, VFIO_IRQ_INTX, 2, fd, err);
	if (!rc)
		intx_register(dev, fd[0], fd[1]);
	return rc;
}

static int vectors_load(struct vfio_dev *dev, enum vfio_irq_mode mode, bool enabled,
			struct error *err)
{
	struct pci_vectors *vec = mode_vectors(dev, mode);
	unsigned n = dev->state.irq_vectors;
	int32_t fds[MSIX_MAX_VECTORS];
	if (!enabled || !n || n > vec->n)
		return bad_state(dev, "the device's capability disagrees", err);
	int rc = eventfds_get(dev, mode, n, fds, err);
	if (rc)
		return rc;
	for (unsigned i = 0; i < vec->n; i++)
		pci_vector_set_fd(vec, i, i < n ? fds[i] : -1);
	if (mode == VFIO_IRQ_MSIX)
		msix_update(&dev->msix);
	else
		msi_update(&dev->msi);
	return 0;
}

/* Of a state that was loaded before: what is not in @mode. */
static void forget_others(struct vfio_dev *dev, enum vfio_irq_mode mode)
{
	if (mode != VFIO_IRQ_INTX)
		vfio_irq_remove_intx(dev);
	for (unsigned i = 0; dev->pci.msix && mode != VFIO_IRQ_MSIX && i < dev->msix.vec.n; i++)
		pci_vector_set_fd(&dev->msix.vec, i, -1);
	for (unsigned i = 0; dev->pci.msi && mode != VFIO_IRQ_MSI && i < dev->msi.vec.n; i++)
		pci_vector_set_fd(&dev->msi.vec, i, -1);
}

int vfio_irq_load(struct vfio_dev *dev, struct error *err)
{
	forget_others(dev, dev->state.irq_mode);
	int rc = dev->pci.msix ? msix_load(&dev->msix, err) : 0;
	if (!rc && dev->pci.msi)
		rc = msi_load(&dev->msi, err);
	if (rc)
		return rc;
	switch (dev->state.irq_mode) {
	case VFIO_IRQ_NONE:
		return dev->state.irq_vectors ? bad_state(dev, "no mode", err) : 0;
	case VFIO_IRQ_INTX:
		return intx_load(dev, err);
	case VFIO_IRQ_MSI:
		return vectors_load(dev, VFIO_IRQ_MSI, dev->pci.msi && dev->msi.enabled, err);
	case VFIO_IRQ_MSIX:
		return vectors_load(dev, VFIO_IRQ_MSIX, dev->pci.msix && dev->msix.enabled, err);
	default:
		return bad_state(dev, "no such mode", err);
	}
}
