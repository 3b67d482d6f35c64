/* SPDX-License-Identifier: MIT */
/*
 * The IOMMU by iommufd: an address space (IOAS) whose mappings are of the file of guest memory, not of a process's
 * addresses, so that nothing of DMA changes in an update, and mediated devices are as good as any (linux/iommufd.h).
 * IOMMU_IOAS_CHANGE_PROCESS only moves the accounting of locked memory to the process that has the guest now. Devices
 * have nodes of their own; each is bound to the iommufd and attached to the IOAS once, when it is opened.
 */
#include <fcntl.h>

#include "devices/vfio/iommufd_uapi.h"
#include "devices/vfio/vfio.h"
#include "vmm/machine.h"

static int ioas_alloc(int fd, uint32_t *ioas, struct error *err)
{
	struct iommufd_ioas_alloc alloc = {.size = sizeof(alloc)};
	int rc = vm_call(fd, IOMMUFD_IOAS_ALLOC, &alloc, err, "iommufd: address space for DMA");
	*ioas = alloc.out_ioas_id;
	return rc;
}

static int map_file(int fd, uint32_t ioas, int file, uint64_t start, uint64_t len, uint64_t iova)
{
	struct iommufd_ioas_map_file map = {
		.size = sizeof(map),
		.flags = IOMMUFD_MAP_FIXED_IOVA | IOMMUFD_MAP_WRITEABLE | IOMMUFD_MAP_READABLE,
		.ioas_id = ioas,
		.fd = file,
		.start = start,
		.length = len,
		.iova = iova,
	};
	return (int)vm_ioctl(fd, IOMMUFD_IOAS_MAP_FILE, &map);
}

static int change_process(int fd)
{
	struct iommufd_ioas_change_process change = {.size = sizeof(change)};
	return (int)vm_ioctl(fd, IOMMUFD_IOAS_CHANGE_PROCESS, &change);
}

static int iommufd_node(void)
{
	char path[64];
	snprintf(path, sizeof(path), "%s/iommu", vfio_host.dev);
	int fd = open(path, O_RDWR | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

/* Whether this kernel has both calls, without an effect: arguments that cannot work give another error than ENOTTY. */
static bool can_update(int fd)
{
	return map_file(fd, 0, -1, 0, 4096, 0) != -ENOTTY && change_process(fd) != -ENOTTY;
}

bool vfio_iommufd_usable(struct vfio_container *c, char *why, size_t size)
{
	char path[VFIO_NODE_LEN];
	struct device *d = NULL;
	fd_auto int fd = iommufd_node();
	*why = 0;
	if (fd == -ENOENT)
		return false; /* what most kernels are built like: nothing worth a word */
	if (fd < 0) {
		snprintf(why, size, "%s/iommu: %s", vfio_host.dev, strerror(-fd));
		return false;
	}
	if (!can_update(fd)) {
		snprintf(why, size, "this kernel's iommufd has no file mappings (Linux 6.14 has)");
		return false;
	}
	while ((d = machine_device(c->dev.m, "vfio", d))) {
		const char *id = ((struct vfio_dev *)d)->id;
		if (pci_slot_gone(&((struct vfio_dev *)d)->pci))
			continue;
		if (!vfio_node(id, path, sizeof(path))) {
			snprintf(why, size, "device %s has no node of its own (Linux 6.6 has)", id);
			return false;
		}
		if (access(path, R_OK | W_OK)) {
			snprintf(why, size, "%s: %s", path, strerror(errno));
			return false;
		}
	}
	return true;
}

static int iommufd_open(struct vfio_container *c, struct error *err)
{
	fd_auto int fd = iommufd_node();
	if (fd < 0)
		return vfio_explain_iommufd(-fd, err);
	if (!can_update(fd))
		return vfio_explain_iommufd(ENOTTY, err);
	int rc = ioas_alloc(fd, &c->state.ioas, err);
	if (rc < 0)
		return rc;
	int kept = fd;
	fd = -1;
	return kept;
}

/* Takes the devices' nodes over. Each was bound and attached when it was opened, and stays so. */
static int iommufd_adopt(struct vfio_container *c, struct error *err)
{
	struct device *d = NULL;
	while ((d = machine_device(c->dev.m, "vfio", d))) {
		char name[FDSET_NAME_LEN];
		snprintf(name, sizeof(name), "vfio:%s", ((struct vfio_dev *)d)->id);
		int fd = fdset_get(&c->dev.m->fds, name);
		int rc = fd < 0 ? 0 : vfio_container_add(c, 0, fd, err);
		if (rc)
			return rc;
	}
	return 0;
}

static int iommufd_open_device(struct vfio_container *c, const struct vfio_dev *dev,
			       struct error *err)
{
	char path[VFIO_NODE_LEN];
	int rc = vfio_explain_device(dev->id, NULL, err);
	if (rc)
		return rc;
	if (!vfio_node(dev->id, path, sizeof(path)))
		return vfio_explain_node(dev->id, NULL, ENOENT, err);
	fd_auto int fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return vfio_explain_node(dev->id, path, errno, err);
	/* Before it is bound, which opens it. */
	rc = vfio_container_tie(c, 0, fd, err);
	if (rc)
		return rc;
	struct vfio_cdev_bind bind = {.argsz = sizeof(bind), .iommufd = c->fd};
	if (dev->has_token) {
		bind.flags = VFIO_CDEV_BIND_TOKEN;
		bind.token_uuid_ptr = (uintptr_t)dev->token;
	} else { /* kernels before tokens know no more */
		bind.argsz = offsetof(struct vfio_cdev_bind, token_uuid_ptr);
	}
	rc = (int)vm_ioctl(fd, VFIO_CDEV_BIND, &bind);
	if (rc < 0)
		return vfio_explain_node(dev->id, path, -rc, err);
	struct vfio_cdev_attach attach = {.argsz = sizeof(attach), .pt_id = c->state.ioas};
	rc = (int)vm_ioctl(fd, VFIO_CDEV_ATTACH, &attach);
	if (rc < 0)
		return vfio_explain_iommu(dev->id, -rc, err);
	rc = vfio_container_add(c, 0, fd, err);
	if (rc)
		return rc;
	int kept = fd;
	fd = -1;
	return kept;
}

static int iommufd_tie_of(const struct vfio_container *c, const struct vfio_dev *dev)
{
	for (unsigned i = 0; i < c->nfiles; i++)
		if (c->files[i].fd == dev->fd)
			return (int)i;
	return -1;
}

static unsigned iommufd_ranges(const struct vfio_container *c, struct vfio_iova_range *out,
			       unsigned max)
{
	struct iommufd_ioas_iova_ranges ranges = {
		.size = sizeof(ranges),
		.ioas_id = c->state.ioas,
		.num_iovas = max,
		.allowed_iovas = (uintptr_t)out,
	};
	return vm_ioctl(c->fd, IOMMUFD_IOAS_IOVA_RANGES, &ranges) < 0 ? 0 : ranges.num_iovas;
}

static int iommufd_map(const struct vfio_container *c, uint32_t i)
{
	return map_file(c->fd, c->state.ioas, c->dev.m->ram.fd, c->state.offset[i], c->state.len[i],
			c->state.iova[i]);
}

int vfio_iommufd_map_bar(const struct vfio_container *c, int file, uint64_t len, uint64_t iova)
{
	return map_file(c->fd, c->state.ioas, file, 0, len, iova);
}

void vfio_iommufd_unmap_bar(const struct vfio_container *c, uint64_t len, uint64_t iova)
{
	struct iommufd_ioas_unmap unmap = {
		.size = sizeof(unmap), .ioas_id = c->state.ioas, .iova = iova, .length = len};
	vm_ioctl(c->fd, IOMMUFD_IOAS_UNMAP, &unmap);
}

/* Whether an update could be done: IOMMU_IOAS_CHANGE_PROCESS to the process that has the mappings already changes
 * nothing, but fails where the real change would. */
static int iommufd_may_renew(const struct vfio_container *c, struct error *err)
{
	int rc = change_process(c->fd);
	if (rc >= 0)
		return vfio_explain_memlock(vfio_dma_len(c) * vfio_iommufd.locked_times, err);
	error_end(err, EXIT_REFUSED, -rc,
		  "iommufd: the kernel does not move DMA to another process: %m");
	return error_hint(err, "the reason may be in the kernel log: dmesg | grep iommufd");
}

static int iommufd_renew(struct vfio_container *c, struct error *err)
{
	int rc = change_process(c->fd);
	if (rc >= 0)
		return 0;
	if (rc == -ENOMEM && vfio_explain_memlock(vfio_dma_len(c) * vfio_iommufd.locked_times, err))
		return rc;
	return error_end(err, EXIT_HOST, -rc,
			 "iommufd: locked memory is still counted for the former process: %m");
}

const struct vfio_iommu vfio_iommufd = {
	.name = "iommufd",
	.kept = "iommufd0",
	.open = iommufd_open,
	.adopt = iommufd_adopt,
	.open_device = iommufd_open_device,
	.tie_of = iommufd_tie_of,
	.ranges = iommufd_ranges,
	.map = iommufd_map,
	.may_renew = iommufd_may_renew,
	.renew = iommufd_renew,
	/* The new process is charged before the old one is credited. */
	.locked_times = 2,
};
