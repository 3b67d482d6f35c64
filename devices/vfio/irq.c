/* SPDX-License-Identifier: MIT */
/*
 * Interrupts of a passed-through device: INTx (intx.c) until the guest's driver enables MSI or MSI-X, and
 * again when it disables that. Nothing here runs for an interrupt, since irqfds carry it into the guest.
 * VFIO_DEVICE_SET_IRQS is called only for what the guest does. A successor finds the eventfds by name.
 */
#include <linux/pci_regs.h>
#include <sys/eventfd.h>
#include <sys/resource.h>

#include "devices/vfio/irq.h"
#include "vmm/machine.h"

static void irq_name(const struct vfio_dev *dev, enum vfio_irq_mode mode, unsigned i, char *name)
{
	static const char *const intx[INTX_FDS] = {
		[INTX_TRIGGER] = "", [INTX_UNMASK] = "-unmask", [INTX_LINE] = "-line"};
	if (mode == VFIO_IRQ_INTX)
		snprintf(name, FDSET_NAME_LEN, "vfio:%s:intx%s", dev->id, intx[i]);
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

/* Gives the device @n eventfds (-1: none) for the vectors from @start on. Returns 0, a positive number if the host has
 * only so many vectors, or -errno. */
int vfio_set_irqs(struct vfio_dev *dev, uint32_t index, uint32_t action, const int32_t *fds,
		  uint32_t start, uint32_t n)
{
	size_t size = sizeof(struct vfio_irq_set) + n * sizeof(*fds);
	struct vfio_irq_set *set = calloc(1, size);
	if (!set)
		return -ENOMEM;
	*set = (struct vfio_irq_set){
		.argsz = (uint32_t)size,
		.flags = action | (n ? VFIO_IRQ_SET_DATA_EVENTFD : VFIO_IRQ_SET_DATA_NONE),
		.index = index,
		.start = start,
		.count = n,
	};
	if (n)
		memcpy(set->data, fds, n * sizeof(*fds));
	long rc = vm_ioctl(dev->fd, VFIO_DEVICE_SET_IRQS, set);
	free(set);
	return (int)rc;
}

void vfio_irq_warn(struct vfio_dev *dev, const char *what, const struct error *err)
{
	if (!log_guest_ok(&dev->complaints, 5))
		return;
	log_warn("%s: %s: %s", dev->dev.name, what, err->text);
	if (err->hint[0])
		log_warn("%s: %s", dev->dev.name, err->hint);
}

void vfio_eventfds_close(struct vfio_dev *dev, enum vfio_irq_mode mode, unsigned from, unsigned to)
{
	char name[FDSET_NAME_LEN];
	for (unsigned i = from; i < to; i++) {
		irq_name(dev, mode, i, name);
		fdset_close(&dev->dev.m->fds, name);
	}
}

int vfio_eventfds_open(struct vfio_dev *dev, enum vfio_irq_mode mode, unsigned n, int32_t *fds,
		       struct error *err)
{
	char name[FDSET_NAME_LEN];
	for (unsigned i = 0; i < n; i++) {
		irq_name(dev, mode, i, name);
		fds[i] = eventfd_keep(dev, name, err);
		if (fds[i] < 0) {
			vfio_eventfds_close(dev, mode, 0, i);
			return fds[i];
		}
	}
	return 0;
}

static bool unused(const struct vfio_dev *dev, unsigned i)
{
	return dev->state.irq_unused[i / 8] >> i % 8 & 1;
}

int vfio_eventfds_get(struct vfio_dev *dev, enum vfio_irq_mode mode, unsigned n, int32_t *fds,
		      struct error *err)
{
	char name[FDSET_NAME_LEN];
	for (unsigned i = 0; i < n; i++) {
		fds[i] = -1;
		if (mode == VFIO_IRQ_MSIX && unused(dev, i))
			continue;
		irq_name(dev, mode, i, name);
		fds[i] = fdset_get(&dev->dev.m->fds, name);
		if (fds[i] < 0)
			return error_set(err, EBADMSG, "%s: descriptor %s was not handed over",
					 dev->dev.name, name);
	}
	return 0;
}

int vfio_irq_start(struct vfio_dev *dev, struct error *err)
{
	dev->started = true;
	if (dev->dev.m->fresh)
		return vfio_has_pin(dev) ? vfio_intx_enable(dev, err) : 0;
	/* A vector that the guest unmasked just when the pause began has no eventfd yet. */
	if (dev->state.irq_mode == VFIO_IRQ_MSIX)
		msix_update(&dev->msix);
	return 0;
}

#define HOST_HINT "have the host's other devices use fewer interrupts: /proc/interrupts lists them"

/* Asks the host for @n vectors, with the eventfds that are not -1. A host that has fewer vectors says how many it can
 * give. Returns how many it gave, or -errno. */
static int host_vectors(struct vfio_dev *dev, enum vfio_irq_mode mode, const int32_t *fds,
			unsigned n, struct error *err)
{
	unsigned want = n;
	int rc;
	while ((rc = vfio_set_irqs(dev, mode_index(mode), VFIO_IRQ_SET_ACTION_TRIGGER, fds, 0, n)) >
		       0 &&
	       (unsigned)rc < n)
		n = (unsigned)rc;
	if (!rc)
		return (int)n;
	rc = error_errno(err, rc < 0 ? -rc : ENOSPC, "enabling %u vectors", want);
	return rc == -ENOSPC ? error_hint(err, HOST_HINT) : rc;
}

static void warn_fewer(struct vfio_dev *dev, enum vfio_irq_mode mode, unsigned n, unsigned want)
{
	struct error err = {0};
	char what[64];
	error_set(&err, ENOSPC, "the host has no more");
	error_hint(&err, HOST_HINT);
	snprintf(what, sizeof(what), "only %u of %u %s vectors work", n, want,
		 mode == VFIO_IRQ_MSIX ? "MSI-X" : "MSI");
	vfio_irq_warn(dev, what, &err);
}

static bool any_used(const struct vfio_dev *dev)
{
	for (unsigned i = 0; i < dev->state.irq_vectors; i++)
		if (!unused(dev, i))
			return true;
	return false;
}

/* With @fd in use, are enough descriptors left for clients of the control socket and for an update? The kernel gives
 * the lowest free number, so @fd tells how many are in use. */
static bool spare_left(int fd)
{
	struct rlimit limit;
	return getrlimit(RLIMIT_NOFILE, &limit) || (rlim_t)fd + VFIO_SPARE_FDS < limit.rlim_cur;
}

/* An MSI-X vector gets its eventfd when the guest first unmasks it, because each takes a descriptor and most devices
 * have more vectors than drivers use. Until then the device keeps an interrupt pending in hardware. A successor does
 * this only when it has the guest. */
void vfio_msix_use(struct pci_vectors *vec, unsigned i)
{
	struct vfio_dev *dev = (struct vfio_dev *)vec->owner;
	struct error err = {0};
	char name[FDSET_NAME_LEN], what[48];
	if (!dev->started || dev->state.irq_mode != VFIO_IRQ_MSIX || i >= dev->state.irq_vectors)
		return;
	irq_name(dev, VFIO_IRQ_MSIX, i, name);
	int32_t fd = eventfd_keep(dev, name, &err);
	int rc = fd < 0 ? fd : 0;
	if (!rc && !spare_left(fd) && any_used(dev))
		rc = error_errno(&err, EMFILE, "the last %d descriptors are left to others",
				 VFIO_SPARE_FDS);
	if (!rc)
		rc = vfio_set_irqs(dev, VFIO_PCI_MSIX_IRQ_INDEX, VFIO_IRQ_SET_ACTION_TRIGGER, &fd,
				   i, 1);
	if (!rc) {
		dev->state.irq_unused[i / 8] &= (uint8_t) ~(1u << i % 8);
		pci_vector_set_fd(vec, i, fd);
		return;
	}
	if (fd >= 0)
		fdset_close(&dev->dev.m->fds, name);
	if (!err.code) {
		error_errno(&err, rc < 0 ? -rc : ENOSPC, "the host does not give it");
		error_hint(&err, HOST_HINT);
	}
	snprintf(what, sizeof(what), "MSI-X vector %u stays silent", i);
	vfio_irq_warn(dev, what, &err);
}

static int msix_enable(struct vfio_dev *dev, unsigned want, struct error *err)
{
	int32_t none[MSIX_MAX_VECTORS];
	/* With none at all the guest should know at once. */
	fd_auto int one = eventfd(0, EFD_CLOEXEC);
	if (one < 0)
		return error_errno(err, errno, "eventfd");
	memset(none, -1, sizeof(none));
	bool one_by_one = dev->answers.traits & VFIO_TRAIT_ONE_BY_ONE;
	int n = host_vectors(dev, VFIO_IRQ_MSIX, none, one_by_one ? 1 : want, err);
	if (n < 0)
		return n;
	if (one_by_one)
		n = (int)want;
	dev->state.irq_mode = VFIO_IRQ_MSIX;
	dev->state.irq_vectors = (uint32_t)n;
	memset(dev->state.irq_unused, 0xff, sizeof(dev->state.irq_unused));
	if ((unsigned)n < want)
		warn_fewer(dev, VFIO_IRQ_MSIX, (unsigned)n, want);
	return 0;
}

/* Most devices cannot mask MSI vectors, so all that were asked for are used. */
static int msi_enable(struct vfio_dev *dev, unsigned want, struct error *err)
{
	int32_t fds[MSI_MAX_VECTORS];
	int rc = vfio_eventfds_open(dev, VFIO_IRQ_MSI, want, fds, err);
	if (rc)
		return rc;
	int n = host_vectors(dev, VFIO_IRQ_MSI, fds, want, err);
	vfio_eventfds_close(dev, VFIO_IRQ_MSI, n < 0 ? 0 : (unsigned)n, want);
	if (n < 0)
		return n;
	for (unsigned i = 0; i < (unsigned)n; i++)
		pci_vector_set_fd(&dev->msi.vec, i, fds[i]);
	dev->state.irq_mode = VFIO_IRQ_MSI;
	dev->state.irq_vectors = (uint32_t)n;
	memset(dev->state.irq_unused, 0, sizeof(dev->state.irq_unused));
	if ((unsigned)n < want)
		warn_fewer(dev, VFIO_IRQ_MSI, (unsigned)n, want);
	return 0;
}

void vfio_irq_disable(struct vfio_dev *dev)
{
	enum vfio_irq_mode mode = dev->state.irq_mode;
	if (mode == VFIO_IRQ_NONE)
		return;
	/* First out of KVM, then off in the device, then closed. */
	if (mode == VFIO_IRQ_INTX)
		vfio_intx_remove(dev);
	else
		pci_vectors_release(mode_vectors(dev, mode));
	vfio_set_irqs(dev, mode_index(mode), VFIO_IRQ_SET_ACTION_TRIGGER, NULL, 0, 0);
	vfio_eventfds_close(dev, mode, 0,
			    mode == VFIO_IRQ_INTX ? INTX_FDS : dev->state.irq_vectors);
	dev->state.irq_mode = VFIO_IRQ_NONE;
	dev->state.irq_vectors = 0;
}

/* The guest set or cleared the enable bit of MSI or MSI-X. */
static int mode_change(struct vfio_dev *dev, enum vfio_irq_mode mode, bool on, unsigned vectors)
{
	struct error err = {0};
	if (!on && dev->state.irq_mode != mode && dev->state.irq_mode != VFIO_IRQ_NONE)
		return 0; /* the guest had both on, and the other one is served */
	vfio_irq_disable(dev);
	int rc = !on			 ? 0
		 : mode == VFIO_IRQ_MSIX ? msix_enable(dev, vectors, &err)
					 : msi_enable(dev, vectors, &err);
	if (rc)
		vfio_irq_warn(dev, mode == VFIO_IRQ_MSIX ? "MSI-X stays off" : "MSI stays off",
			      &err);
	if ((rc || !on) && vfio_has_pin(dev) && vfio_intx_enable(dev, &err))
		vfio_irq_warn(dev, "stays without interrupts", &err);
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

int vfio_irq_bad_state(const struct vfio_dev *dev, const char *what, struct error *err)
{
	return error_set(err, EBADMSG, "%s: interrupt mode %u with %u vectors: %s", dev->dev.name,
			 dev->state.irq_mode, dev->state.irq_vectors, what);
}

static int vectors_load(struct vfio_dev *dev, enum vfio_irq_mode mode, bool enabled,
			struct error *err)
{
	struct pci_vectors *vec = mode_vectors(dev, mode);
	unsigned n = dev->state.irq_vectors;
	int32_t fds[MSIX_MAX_VECTORS];
	if (!enabled || !n || n > vec->n)
		return vfio_irq_bad_state(dev, "the device's capability disagrees", err);
	int rc = vfio_eventfds_get(dev, mode, n, fds, err);
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

/* Drops eventfds of modes other than @mode: the offer, which was loaded before, may have been in another mode. */
static void forget_others(struct vfio_dev *dev, enum vfio_irq_mode mode)
{
	if (mode != VFIO_IRQ_INTX)
		vfio_intx_remove(dev);
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
		return dev->state.irq_vectors ? vfio_irq_bad_state(dev, "no mode", err) : 0;
	case VFIO_IRQ_INTX:
		return vfio_intx_load(dev, err);
	case VFIO_IRQ_MSI:
		return vectors_load(dev, VFIO_IRQ_MSI, dev->pci.msi && dev->msi.enabled, err);
	case VFIO_IRQ_MSIX:
		return vectors_load(dev, VFIO_IRQ_MSIX, dev->pci.msix && dev->msix.enabled, err);
	default:
		return vfio_irq_bad_state(dev, "no such mode", err);
	}
}
