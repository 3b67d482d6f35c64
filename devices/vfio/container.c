/* SPDX-License-Identifier: MIT */
/* The VFIO container: the IOMMU address space that all devices share, their groups, and the
 * KVM-VFIO device that ties the groups to the VM. It takes part in the update on behalf of all of
 * them. */
#include <fcntl.h>
#include <linux/kvm.h>

#include "devices/vfio/vfio.h"
#include "vmm/machine.h"

#define CONTAINER_NAME "container0"
#define GROUP_PREFIX   "vfio-group:"

static const struct field container_fields[] = {
	FIELD_ARRAY(struct vfio_container_state, iova),
	FIELD_ARRAY(struct vfio_container_state, len),
	FIELD_ARRAY(struct vfio_container_state, offset),
	FIELD_U(struct vfio_container_state, nranges),
	FIELD_ARRAY_LEN(struct vfio_container_state, groups, ngroups),
};
static STATE_CLASS(container_state_class, "vfio-container", 1, struct vfio_container_state,
		   container_fields);

static int container_init(struct device *dev, const char *arg, struct error *err)
{
	struct vfio_container *c = (struct vfio_container *)dev;
	c->fd = c->kvm_fd = -1;
	return 0;
}

static int group_add(struct vfio_container *c, unsigned number, int fd, struct error *err)
{
	if (c->ngroups == VFIO_MAX_GROUPS)
		return error_set(err, ENOSPC, "vfio-container: more than %d IOMMU groups",
				 VFIO_MAX_GROUPS);
	c->groups[c->ngroups].number = number;
	c->groups[c->ngroups++].fd = fd;
	return 0;
}

/* The groups of a container that was taken over are known by their descriptors' names. */
static int groups_take(struct vfio_container *c, struct error *err)
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
		int rc = group_add(c, (unsigned)number, fdset_get(fds, name), err);
		if (rc)
			return rc;
	}
	return 0;
}

static int container_open(struct device *dev, struct error *err)
{
	struct vfio_container *c = (struct vfio_container *)dev;
	c->fd = fdset_get(&dev->m->fds, CONTAINER_NAME);
	if (c->fd >= 0)
		return groups_take(c, err);

	char path[64];
	snprintf(path, sizeof(path), "%s/vfio/vfio", vfio_host.dev);
	c->fd = open(path, O_RDWR | O_CLOEXEC);
	if (c->fd < 0)
		return vfio_explain_container(errno, err);
	int rc = fdset_keep(&dev->m->fds, CONTAINER_NAME, c->fd, err);
	if (rc)
		return rc;
	long version = vm_ioctl(c->fd, VFIO_GET_API_VERSION, NULL);
	if (version != VFIO_API_VERSION)
		return error_end(err, EXIT_HOST, ENOTSUP, "%s: API version %ld, expected %d", path,
				 version, VFIO_API_VERSION);
	if (vm_ioctl(c->fd, VFIO_CHECK_EXTENSION, (void *)VFIO_TYPE1v2_IOMMU) <= 0) {
		error_end(err, EXIT_HOST, ENOTSUP, "%s: the kernel offers no type1 IOMMU", path);
		return error_hint(err, "modprobe vfio_iommu_type1");
	}
	return 0;
}

static int group_open(struct vfio_container *c, unsigned number, const char *bdf, struct error *err)
{
	char path[64];
	snprintf(path, sizeof(path), "%s/vfio/%u", vfio_host.dev, number);
	fd_auto int fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return vfio_explain_group(bdf, number, errno, err);
	struct vfio_group_status status = {.argsz = sizeof(status)};
	long rc = vm_ioctl(fd, VFIO_GROUP_GET_STATUS, &status);
	if (rc < 0)
		return error_errno(err, (int)-rc, "%s: VFIO_GROUP_GET_STATUS", path);
	if (!(status.flags & VFIO_GROUP_FLAGS_VIABLE))
		return vfio_explain_viable(bdf, number, err);
	rc = vm_ioctl(fd, VFIO_GROUP_SET_CONTAINER, &c->fd);
	/* The type of the container is set when it has its first group. */
	if (rc >= 0 && !c->ngroups)
		rc = vm_ioctl(c->fd, VFIO_SET_IOMMU, (void *)VFIO_TYPE1v2_IOMMU);
	if (rc < 0)
		return vfio_explain_iommu(bdf, (int)-rc, err);

	char name[FDSET_NAME_LEN];
	snprintf(name, sizeof(name), GROUP_PREFIX "%u", number);
	int kept = fd;
	rc = fdset_keep(&c->dev.m->fds, name, kept, err);
	if (rc)
		return (int)rc;
	fd = -1;
	rc = group_add(c, number, kept, err);
	return rc ? (int)rc : kept;
}

int vfio_container_group(struct vfio_container *c, unsigned number, const char *bdf,
			 struct error *err)
{
	for (unsigned i = 0; i < c->ngroups; i++)
		if (c->groups[i].number == number)
			return c->groups[i].fd;
	return group_open(c, number, bdf, err);
}

/* KVM learns of the groups: on some hosts DMA is not coherent with the guest's caches unless it
 * does (linux Documentation/virt/kvm/devices/vfio.rst). */
static int kvm_group(const struct vfio_container *c, unsigned i, uint64_t attr)
{
	int32_t fd = c->groups[i].fd;
	struct kvm_device_attr arg = {
		.group = KVM_DEV_VFIO_GROUP, .attr = attr, .addr = (uintptr_t)&fd};
	return (int)vm_ioctl(c->kvm_fd, KVM_SET_DEVICE_ATTR, &arg);
}

static int kvm_attach(struct vfio_container *c, struct error *err)
{
	if (c->kvm_fd < 0) {
		struct kvm_create_device create = {.type = KVM_DEV_TYPE_VFIO};
		long rc = vm_ioctl(c->dev.m->vm.fd, KVM_CREATE_DEVICE, &create);
		if (rc < 0)
			return error_errno(err, (int)-rc, "vfio-container: KVM-VFIO device");
		c->kvm_fd = (int)create.fd;
		fd_set_cloexec(c->kvm_fd, true);
	}
	for (unsigned i = 0; i < c->ngroups; i++) {
		int rc = kvm_group(c, i, KVM_DEV_VFIO_GROUP_ADD);
		if (rc < 0 && rc != -EEXIST)
			return error_errno(err, -rc, "vfio-container: IOMMU group %u to KVM",
					   c->groups[i].number);
	}
	return 0;
}

static int container_pre_save(void *opaque, struct error *err)
{
	struct vfio_container *c = opaque;
	c->state.ngroups = c->ngroups;
	for (unsigned i = 0; i < c->ngroups; i++)
		c->state.groups[i] = c->groups[i].number;
	return 0;
}

static int container_post_load(void *opaque, struct error *err)
{
	struct vfio_container *c = opaque;
	if (c->state.ngroups != c->ngroups)
		return error_set(err, EBADMSG,
				 "vfio-container: state of %u IOMMU groups, %u were handed over",
				 c->state.ngroups, c->ngroups);
	for (unsigned i = 0; i < c->ngroups; i++) {
		unsigned k = 0;
		while (k < c->ngroups && c->groups[k].number != c->state.groups[i])
			k++;
		if (k == c->ngroups)
			return error_set(err, EBADMSG,
					 "vfio-container: IOMMU group %u was not handed over",
					 c->state.groups[i]);
	}
	return vfio_dma_check(c, err);
}

static int container_reset(struct device *dev, struct error *err)
{
	struct vfio_container *c = (struct vfio_container *)dev;
	return vfio_dma_map(c, err) ?: kvm_attach(c, err);
}

static int container_check(struct device *dev, struct error *err)
{
	struct vfio_container *c = (struct vfio_container *)dev;
	if (vm_ioctl(c->fd, VFIO_CHECK_EXTENSION, (void *)VFIO_UPDATE_VADDR) <= 0)
		return vfio_explain_update(c, err);
	return 0;
}

/* After commit all of guest memory is locked by this process, which has its parent's limits. */
static int container_join(struct device *dev, struct error *err)
{
	struct vfio_container *c = (struct vfio_container *)dev;
	return vfio_explain_memlock(vfio_dma_len(c), err) ?: kvm_attach(c, err);
}

static void container_destroy(struct device *dev)
{
	struct vfio_container *c = (struct vfio_container *)dev;
	/* The old VM must not clear the group's VM pointer after the new one has set it. */
	for (unsigned i = 0; c->kvm_fd >= 0 && i < c->ngroups; i++)
		kvm_group(c, i, KVM_DEV_VFIO_GROUP_DEL);
	fd_close(&c->kvm_fd);
}

const struct device_class vfio_container_class = {
	.name = "vfio-container",
	.state = &container_state_class,
	.size = sizeof(struct vfio_container),
	.state_offset = offsetof(struct vfio_container, state),
	.init = container_init,
	.open = container_open,
	.pre_save = container_pre_save,
	.post_load = container_post_load,
	.reset = container_reset,
	.check = container_check,
	.join = container_join,
	.take = vfio_dma_renew,
	.destroy = container_destroy,
};
