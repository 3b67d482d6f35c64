/* SPDX-License-Identifier: MIT */
/*
 * The legacy way to the IOMMU: a container that groups of devices are put into, and mappings by host address
 * (linux/vfio.h). A mapping outlives the process: VFIO_DMA_UNMAP_FLAG_VADDR makes it forget the host address,
 * VFIO_DMA_MAP_FLAG_VADDR gives it another one. The kernel takes any address: that it is the right memory is ours to
 * see.
 */
#include <fcntl.h>

#include "devices/vfio/vfio.h"
#include "vmm/machine.h"

#define GROUP_PREFIX "vfio-group:"

static int type1_open(struct vfio_container *c, struct error *err)
{
	char path[64];
	snprintf(path, sizeof(path), "%s/vfio/vfio", vfio_host.dev);
	fd_auto int fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return vfio_explain_container(errno, err);
	long version = vm_ioctl(fd, VFIO_GET_API_VERSION, NULL);
	if (version != VFIO_API_VERSION)
		return error_end(err, EXIT_HOST, ENOTSUP, "%s: API version %ld, expected %d", path,
				 version, VFIO_API_VERSION);
	if (vm_ioctl(fd, VFIO_CHECK_EXTENSION, (void *)VFIO_TYPE1v2_IOMMU) <= 0) {
		error_end(err, EXIT_HOST, ENOTSUP, "%s: the kernel offers no type1 IOMMU", path);
		return error_hint(err, "modprobe vfio_iommu_type1");
	}
	int kept = fd;
	fd = -1;
	return kept;
}

/* The groups are known by their descriptors' names. */
static int type1_adopt(struct vfio_container *c, struct error *err)
{
	struct fdset *fds = &c->dev.m->fds;
	for (unsigned i = 0; i < fds->n; i++) {
		const char *name = fds->e[i].name;
		char *end;
		if (strncmp(name, GROUP_PREFIX, strlen(GROUP_PREFIX)))
			continue;
		unsigned long number = strtoul(name + strlen(GROUP_PREFIX), &end, 10);
		if (*end || number > INT32_MAX)
			return error_set(err, EBADMSG, "vfio-container: descriptor %s", name);
		int rc = vfio_container_add(c, (unsigned)number, fdset_get(fds, name), err);
		if (rc)
			return rc;
	}
	return 0;
}

/* The descriptor of IOMMU group @number, opened and put into the container for its first device @id. */
static int group_open(struct vfio_container *c, unsigned number, const char *id, struct error *err)
{
	char path[64];
	snprintf(path, sizeof(path), "%s/vfio/%u", vfio_host.dev, number);
	fd_auto int fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return vfio_explain_group(id, number, errno, err);
	struct vfio_group_status status = {.argsz = sizeof(status)};
	long rc = vm_ioctl(fd, VFIO_GROUP_GET_STATUS, &status);
	if (rc < 0)
		return error_errno(err, (int)-rc, "%s: VFIO_GROUP_GET_STATUS", path);
	if (!(status.flags & VFIO_GROUP_FLAGS_VIABLE))
		return vfio_explain_viable(id, number, err);
	rc = vm_ioctl(fd, VFIO_GROUP_SET_CONTAINER, &c->fd);
	/* The type of the container is set when it has its first group. */
	if (rc >= 0 && !c->nfiles)
		rc = vm_ioctl(c->fd, VFIO_SET_IOMMU, (void *)VFIO_TYPE1v2_IOMMU);
	if (rc < 0)
		return vfio_explain_iommu(id, (int)-rc, err);

	char name[FDSET_NAME_LEN];
	snprintf(name, sizeof(name), GROUP_PREFIX "%u", number);
	int kept = fd;
	rc = fdset_keep(&c->dev.m->fds, name, kept, err);
	if (rc)
		return (int)rc;
	fd = -1;
	rc = vfio_container_add(c, number, kept, err);
	return rc ? (int)rc : kept;
}

static int group_of(struct vfio_container *c, unsigned number, const char *id, struct error *err)
{
	for (unsigned i = 0; i < c->nfiles; i++)
		if (c->files[i].number == number)
			return c->files[i].fd;
	return group_open(c, number, id, err);
}

static int type1_open_device(struct vfio_container *c, const struct vfio_dev *dev,
			     struct error *err)
{
	unsigned group;
	int rc = vfio_explain_device(dev->id, &group, err);
	if (rc)
		return rc;
	int group_fd = group_of(c, group, dev->id, err);
	if (group_fd < 0)
		return group_fd;
	char id[2 * VFIO_ID_LEN];
	const uint8_t *t = dev->token;
	int n = snprintf(id, sizeof(id), "%s", dev->id);
	if (dev->has_token)
		snprintf(id + n, sizeof(id) - (size_t)n,
			 " vf_token=%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-"
			 "%02x%02x%02x%02x%02x%02x",
			 t[0], t[1], t[2], t[3], t[4], t[5], t[6], t[7], t[8], t[9], t[10], t[11],
			 t[12], t[13], t[14], t[15]);
	long fd = vm_ioctl(group_fd, VFIO_GROUP_GET_DEVICE_FD, id);
	return fd < 0 ? vfio_explain_open(dev->id, group, (int)-fd, err) : (int)fd;
}

/* The group, unless another device of the guest's is in it. */
static int type1_tie_of(const struct vfio_container *c, const struct vfio_dev *dev)
{
	struct device *d = NULL;
	unsigned group, other, i = 0;
	if (!vfio_group_of(dev->id, &group))
		return -1;
	while ((d = machine_device(c->dev.m, "vfio", d)))
		if (d != &dev->dev && ((struct vfio_dev *)d)->fd >= 0 &&
		    vfio_group_of(((struct vfio_dev *)d)->id, &other) && other == group)
			return -1;
	while (i < c->nfiles && c->files[i].number != group)
		i++;
	return i < c->nfiles ? (int)i : -1;
}

/* Since Linux 5.4, in a capability that follows the structure. */
static unsigned type1_ranges(const struct vfio_container *c, struct vfio_iova_range *out,
			     unsigned max)
{
	union {
		struct vfio_iommu_type1_info info;
		uint64_t room[256];
	} u = {.info = {.argsz = sizeof(u)}};
	struct vfio_iommu_type1_info_cap_iova_range cap;
	if (vm_ioctl(c->fd, VFIO_IOMMU_GET_INFO, &u.info) < 0 ||
	    !(u.info.flags & VFIO_IOMMU_INFO_CAPS) || u.info.argsz > sizeof(u))
		return 0;
	uint32_t off = u.info.cap_offset;
	for (unsigned guard = 0; guard < 16 && range_fits(off, sizeof(cap), u.info.argsz) && off;
	     guard++) {
		memcpy(&cap, (const uint8_t *)&u + off, sizeof(cap));
		if (cap.header.id != VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE) {
			off = cap.header.next;
			continue;
		}
		uint64_t len = (uint64_t)cap.nr_iovas * sizeof(*out);
		if (cap.nr_iovas > max || !range_fits(off + sizeof(cap), len, u.info.argsz))
			return 0;
		memcpy(out, (const uint8_t *)&u + off + sizeof(cap), len);
		return cap.nr_iovas;
	}
	return 0;
}

static int range_map(const struct vfio_container *c, uint32_t i, uint32_t flags)
{
	struct vfio_iommu_type1_dma_map map = {
		.argsz = sizeof(map),
		.flags = flags,
		.vaddr = (uintptr_t)vfio_dma_hva(c, i),
		.iova = c->state.iova[i],
		.size = c->state.len[i],
	};
	return map.vaddr ? (int)vm_ioctl(c->fd, VFIO_IOMMU_MAP_DMA, &map) : -EFAULT;
}

static int type1_map(const struct vfio_container *c, uint32_t i)
{
	return range_map(c, i, VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE);
}

/* Replaces the incumbent's address of a range by ours. If the first try failed between the two calls, the second try
 * finds no address to take away (EINVAL), and gives ours. */
static int range_renew(const struct vfio_container *c, uint32_t i)
{
	struct vfio_iommu_type1_dma_unmap unmap = {
		.argsz = sizeof(unmap),
		.flags = VFIO_DMA_UNMAP_FLAG_VADDR,
		.iova = c->state.iova[i],
		.size = c->state.len[i],
	};
	int rc = (int)vm_ioctl(c->fd, VFIO_IOMMU_UNMAP_DMA, &unmap);
	if (rc < 0 && rc != -EINVAL)
		return rc;
	return range_map(c, i, VFIO_DMA_MAP_FLAG_VADDR);
}

static int type1_renew(struct vfio_container *c, struct error *err)
{
	for (uint32_t i = 0; i < c->state.nranges; i++) {
		int rc = range_renew(c, i);
		if (rc < 0)
			return vfio_dma_failed(c, i, -rc, "new DMA address", err);
	}
	return 0;
}

static int type1_may_renew(const struct vfio_container *c, struct error *err)
{
	if (vm_ioctl(c->fd, VFIO_CHECK_EXTENSION, (void *)VFIO_UPDATE_VADDR) <= 0)
		return vfio_explain_update(c, err);
	return 0;
}

const struct vfio_iommu vfio_type1 = {
	.name = "type1",
	.kept = "container0",
	.open = type1_open,
	.adopt = type1_adopt,
	.open_device = type1_open_device,
	.tie_of = type1_tie_of,
	.ranges = type1_ranges,
	.map = type1_map,
	.may_renew = type1_may_renew,
	.renew = type1_renew,
	.locked_times = 1,
};
