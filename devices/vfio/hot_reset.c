/* SPDX-License-Identifier: MIT */
/*
 * Devices without a reset of their own: the bus or slot that they are in is reset, and all of their functions with it
 * (VFIO_DEVICE_PCI_HOT_RESET, linux/vfio.h). The kernel allows it where all of them are ours. With type1 descriptors of
 * their groups prove that; with iommufd the kernel knows it by itself.
 */
#include "devices/vfio/iommufd_uapi.h"
#include "devices/vfio/vfio.h"
#include "vmm/machine.h"

#define MAX_FUNCTIONS 256 /* of a bus */

union info {
	struct vfio_pci_hot_reset_info head;
	uint8_t room[sizeof(struct vfio_pci_hot_reset_info) +
		     MAX_FUNCTIONS * sizeof(struct vfio_pci_dependent_device)];
};

union request {
	struct vfio_pci_hot_reset head;
	uint8_t room[sizeof(struct vfio_pci_hot_reset) + VFIO_MAX_FILES * sizeof(int32_t)];
};

static void name_of(const struct vfio_pci_dependent_device *d, char *id)
{
	snprintf(id, VFIO_ID_LEN, "%04x:%02x:%02x.%x", d->segment, d->bus, d->devfn >> 3,
		 d->devfn & 7);
}

/* The descriptor of an IOMMU group, or -1: it is not ours. */
static int group_fd(const struct vfio_container *c, unsigned number)
{
	for (unsigned i = 0; i < c->nfiles; i++)
		if (c->files[i].number == number)
			return c->files[i].fd;
	return -1;
}

/* Two messages, as there are two reasons why one that would be reset as well must not be. */
static int check_one(const struct vfio_dev *dev, const union info *info,
		     const struct vfio_pci_dependent_device *d, struct error *err)
{
	const struct vfio_container *c = dev->container;
	bool owned = c->iommu == &vfio_type1 ? group_fd(c, d->group_id) >= 0
					     : info->head.flags & VFIO_HOT_RESET_OWNED ||
						       d->group_id != VFIO_HOT_RESET_NOT_OWNED;
	char id[VFIO_ID_LEN];
	name_of(d, id);
	if (!owned) {
		error_set(err, EPERM, "a bus reset would reach %s too, which is not the guest's",
			  id);
		return error_hint(err, "give it to the guest as well: --vfio %s", id);
	}
	const struct vfio_dev *other = vfio_find(dev->dev.m, id);
	if (other && other->noreset)
		return error_set(err, EPERM, "a bus reset would reach %s too, which has noreset",
				 id);
	return 0;
}

static void add_group(union request *r, int fd)
{
	for (uint32_t i = 0; i < r->head.count; i++)
		if (r->head.group_fds[i] == fd)
			return;
	r->head.group_fds[r->head.count++] = fd;
	r->head.argsz += (uint32_t)sizeof(fd);
}

int vfio_hot_reset(struct vfio_dev *dev, struct error *err)
{
	const struct vfio_container *c = dev->container;
	union info info = {.head = {.argsz = sizeof(info)}};
	union request request = {.head = {.argsz = sizeof(request.head)}};
	long rc = vm_ioctl(dev->fd, VFIO_DEVICE_GET_PCI_HOT_RESET_INFO, &info.head);
	if (rc < 0)
		return error_set(err, (int)-rc, "it is on no bus that can be reset");
	for (uint32_t i = 0; i < info.head.count && i < MAX_FUNCTIONS; i++) {
		const struct vfio_pci_dependent_device *d = &info.head.devices[i];
		int bad = check_one(dev, &info, d, err);
		if (bad)
			return bad;
		if (c->iommu == &vfio_type1)
			add_group(&request, group_fd(c, d->group_id));
	}
	rc = vm_ioctl(dev->fd, VFIO_DEVICE_PCI_HOT_RESET, &request.head);
	if (rc < 0)
		return error_errno(err, (int)-rc, "resetting its bus");
	for (uint32_t i = 0; i < info.head.count && i < MAX_FUNCTIONS; i++) {
		char id[VFIO_ID_LEN];
		name_of(&info.head.devices[i], id);
		struct vfio_dev *other = vfio_find(dev->dev.m, id);
		if (other)
			other->was_reset = true;
	}
	return 0;
}
