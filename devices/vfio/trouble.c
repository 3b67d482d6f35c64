/* SPDX-License-Identifier: MIT */
/*
 * What the host says about a device that the guest has: that it has failed (VFIO_PCI_ERR_IRQ_INDEX), and that the host
 * wants it back, since somebody unbinds it or removes it (VFIO_PCI_REQ_IRQ_INDEX), who then waits until the device is
 * closed. Each comes by an eventfd, "vfio:ID:err" and "vfio:ID:req", which an update keeps.
 */
#include <sys/epoll.h>
#include <sys/eventfd.h>

#include "devices/vfio/vfio.h"
#include "vmm/machine.h"

static const struct kind {
	uint32_t index;
	const char *name, *text;
} kinds[VFIO_TROUBLES] = {
	[VFIO_TROUBLE_ERROR] = {VFIO_PCI_ERR_IRQ_INDEX, "err",
				"has failed: the hardware reported an error that nothing corrects"},
	[VFIO_TROUBLE_REQUEST] = {VFIO_PCI_REQ_IRQ_INDEX, "req",
				  "is wanted back by the host, which waits until the guest ends"},
};

static void fd_name(const struct vfio_dev *dev, unsigned kind, char *name)
{
	snprintf(name, FDSET_NAME_LEN, "vfio:%s:%s", dev->id, kinds[kind].name);
}

static const char *text_of(const struct vfio_dev *dev, unsigned kind)
{
	return kind == VFIO_TROUBLE_REQUEST && dev->unbind == VFIO_UNBIND_EJECT
		       ? "is wanted back by the host: the guest is asked to eject it"
		       : kinds[kind].text;
}

/* False: nothing has. What comes again is told once. */
static bool came(struct vfio_dev *dev, unsigned kind)
{
	uint64_t count;
	if (read(dev->trouble_fd[kind], &count, sizeof(count)) != sizeof(count))
		return false;
	if (dev->state.trouble & 1u << kind)
		return true;
	dev->state.trouble |= 1u << kind;
	device_tell(&dev->dev, text_of(dev, kind),
		    kind == VFIO_TROUBLE_REQUEST && dev->unbind == VFIO_UNBIND_POWEROFF);
	return true;
}

static void error_came(void *opaque, uint32_t events)
{
	came(opaque, VFIO_TROUBLE_ERROR);
}

/* The kernel says every 10 s that it wants a device back (vfio_unregister_group_dev). So the guest is asked as often,
 * as it may have begun anew meanwhile; and the time is looked at. */
static void request_came(void *opaque, uint32_t events)
{
	struct vfio_dev *dev = opaque;
	if (!came(dev, VFIO_TROUBLE_REQUEST) || dev->unbind != VFIO_UNBIND_EJECT ||
	    pci_slot_gone(&dev->pci))
		return;
	uint64_t waited_s = pci_slot_ask(&dev->pci);
	if (dev->unbind_timeout_s && waited_s >= dev->unbind_timeout_s && !dev->dev.ends_guest)
		device_tell(&dev->dev,
			    "is wanted back by the host, and the guest has not ejected it", true);
}

static int watch(struct vfio_dev *dev, unsigned kind, int fd, struct error *err)
{
	static const loop_handler handlers[VFIO_TROUBLES] = {
		[VFIO_TROUBLE_ERROR] = error_came, [VFIO_TROUBLE_REQUEST] = request_came};
	int rc = loop_add(&dev->dev.m->loop, fd, EPOLLIN, handlers[kind], dev, err);
	if (!rc)
		dev->trouble_fd[kind] = fd;
	return rc;
}

static int set(struct vfio_dev *dev, unsigned kind, int32_t fd)
{
	struct {
		struct vfio_irq_set set;
		int32_t fd;
	} arg = {.set = {.argsz = sizeof(arg),
			 .flags = VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER,
			 .index = kinds[kind].index,
			 .count = 1},
		 .fd = fd};
	return (int)vm_ioctl(dev->fd, VFIO_DEVICE_SET_IRQS, &arg);
}

static int start_one(struct vfio_dev *dev, unsigned kind, struct error *err)
{
	struct vfio_irq_info info = {.argsz = sizeof(info), .index = kinds[kind].index};
	char name[FDSET_NAME_LEN];
	/* A device that is no PCI Express one reports no errors, a mediated one often neither. */
	if (vm_ioctl(dev->fd, VFIO_DEVICE_GET_IRQ_INFO, &info) < 0 || !info.count)
		return 0;
	int fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (fd < 0)
		return error_errno(err, errno, "%s: eventfd", dev->dev.name);
	fd_name(dev, kind, name);
	int rc = fdset_keep(&dev->dev.m->fds, name, fd, err);
	if (rc) {
		close(fd);
		return rc;
	}
	rc = set(dev, kind, fd);
	if (rc < 0) {
		log_warn("%s: the host will not tell when the device %s: %s", dev->dev.name,
			 kinds[kind].text, strerror(-rc));
		fdset_close(&dev->dev.m->fds, name);
		return 0;
	}
	return watch(dev, kind, fd, err);
}

int vfio_trouble_start(struct vfio_dev *dev, struct error *err)
{
	int rc = 0;
	for (unsigned i = 0; !rc && i < VFIO_TROUBLES; i++)
		rc = start_one(dev, i, err);
	return rc;
}

/* Watches the eventfds that came with the guest; an older program has made none. In the pause they are watched already,
 * since the rehearsal. */
int vfio_trouble_load(struct vfio_dev *dev, struct error *err)
{
	char name[FDSET_NAME_LEN];
	int rc = 0;
	if (dev->state.trouble >> VFIO_TROUBLES)
		return error_set(err, EBADMSG, "%s: state: trouble 0x%x", dev->dev.name,
				 dev->state.trouble);
	for (unsigned i = 0; !rc && i < VFIO_TROUBLES; i++) {
		fd_name(dev, i, name);
		int fd = fdset_get(&dev->dev.m->fds, name);
		if (fd >= 0 && dev->trouble_fd[i] < 0)
			rc = watch(dev, i, fd, err);
		if (dev->state.trouble & 1u << i)
			dev->dev.trouble = text_of(dev, i);
	}
	return rc;
}

void vfio_trouble_close(struct vfio_dev *dev)
{
	char name[FDSET_NAME_LEN];
	vfio_trouble_end(dev);
	for (unsigned i = 0; i < VFIO_TROUBLES; i++) {
		fd_name(dev, i, name);
		fdset_close(&dev->dev.m->fds, name);
	}
}

void vfio_trouble_end(struct vfio_dev *dev)
{
	for (unsigned i = 0; i < VFIO_TROUBLES; i++) {
		if (dev->trouble_fd[i] >= 0)
			loop_remove(&dev->dev.m->loop, dev->trouble_fd[i]);
		dev->trouble_fd[i] = -1;
	}
}
