/* SPDX-License-Identifier: MIT */
/*
 * The IOMMU address space that all passed-through devices share, as a device of the machine: it chooses how the kernel
 * is asked for it (iommu.h), ties the devices to the VM by the KVM-VFIO device, and takes part in the update on behalf
 * of all of them.
 */
#include <fcntl.h>
#include <linux/kvm.h>

#include "devices/vfio/vfio.h"
#include "vmm/machine.h"

const struct vfio_iommu *const vfio_iommus[VFIO_IOMMU_KINDS] = {
	[VFIO_TYPE1] = &vfio_type1,
	[VFIO_IOMMUFD] = &vfio_iommufd,
};

static const struct field container_fields[] = {
	FIELD_ARRAY(struct vfio_container_state, iova),
	FIELD_ARRAY(struct vfio_container_state, len),
	FIELD_ARRAY(struct vfio_container_state, offset),
	FIELD_U(struct vfio_container_state, nranges),
	FIELD_ARRAY_LEN(struct vfio_container_state, groups, ngroups),
	FIELD_U_SINCE(struct vfio_container_state, kind, 2, VFIO_TYPE1),
	FIELD_U_SINCE(struct vfio_container_state, ioas, 2, 0),
};
static STATE_CLASS(container_state_class, "vfio-container", 2, struct vfio_container_state,
		   container_fields);

static int container_init(struct device *dev, const char *arg, struct error *err)
{
	struct vfio_container *c = (struct vfio_container *)dev;
	c->fd = c->kvm_fd = -1;
	return 0;
}

/* Sets *@kind to the interface that the options of --vfio ask for (iommu=), or -1. All devices share one: two that
 * ask for different ones are an error. */
static int asked_for(struct machine *m, int *kind, struct error *err)
{
	const struct vfio_dev *first = NULL;
	struct device *d = NULL;
	*kind = -1;
	while ((d = machine_device(m, "vfio", d))) {
		const struct vfio_dev *dev = (struct vfio_dev *)d;
		if (dev->iommu < 0)
			continue;
		if (first && first->iommu != dev->iommu) {
			error_end(err, EXIT_USAGE, EINVAL,
				  "--vfio %s asks for iommu=%s, --vfio %s for iommu=%s", first->id,
				  vfio_iommus[first->iommu]->name, dev->id,
				  vfio_iommus[dev->iommu]->name);
			return error_hint(err,
					  "a machine has one IOMMU address space: say the same");
		}
		first = first ?: dev;
	}
	if (first)
		*kind = first->iommu;
	return 0;
}

/* For p2p=on there is iommufd only. */
static int check_p2p(const struct vfio_container *c, bool asked, struct error *err)
{
	const struct vfio_dev *dev;
	struct device *d = NULL;
	do {
		d = machine_device(c->dev.m, "vfio", d);
		dev = (struct vfio_dev *)d;
	} while (d && !dev->p2p);
	if (!d)
		return 0;
	error_end(err, asked ? EXIT_USAGE : EXIT_HOST, ENOTSUP,
		  "--vfio %s,p2p=on needs iommufd: %s", dev->id,
		  asked	      ? "type1 is asked for"
		  : c->why[0] ? c->why
			      : "the host has no /dev/iommu");
	return error_hint(err, "leave p2p=on out, or iommu=type1 where the host has iommufd");
}

static int choose(struct vfio_container *c, struct error *err)
{
	int kind, rc = asked_for(c->dev.m, &kind, err);
	if (rc)
		return rc;
	bool asked = kind >= 0;
	if (!asked)
		kind = vfio_iommufd_usable(c, c->why, sizeof(c->why)) ? VFIO_IOMMUFD : VFIO_TYPE1;
	rc = kind == VFIO_TYPE1 ? check_p2p(c, asked, err) : 0;
	if (rc)
		return rc;
	if (c->why[0])
		log_info("vfio: type1 is used: %s", c->why);
	c->state.kind = (uint32_t)kind;
	c->iommu = vfio_iommus[kind];
	return 0;
}

static int container_open(struct device *dev, struct error *err)
{
	struct vfio_container *c = (struct vfio_container *)dev;
	for (unsigned i = 0; c->fd < 0 && i < VFIO_IOMMU_KINDS; i++) {
		c->fd = fdset_get(&dev->m->fds, vfio_iommus[i]->kept);
		c->iommu = vfio_iommus[i];
	}
	int rc = c->fd < 0 ? choose(c, err) : 0;
	if (rc)
		return rc;
	snprintf(dev->name, sizeof(dev->name), "vfio-container (%s)", c->iommu->name);
	if (c->fd >= 0)
		return c->iommu->adopt(c, err);
	int fd = c->iommu->open(c, err);
	if (fd < 0)
		return fd;
	rc = fdset_keep(&dev->m->fds, c->iommu->kept, fd, err);
	if (rc)
		close(fd);
	else
		c->fd = fd;
	return rc;
}

/* KVM learns of groups and devices: on some hosts DMA is not coherent with the guest's caches unless it does (linux
 * Documentation/virt/kvm/devices/vfio.rst). Devices and groups are given to it by the same call. */
static int kvm_file(const struct vfio_container *c, int32_t fd, uint64_t attr)
{
	struct kvm_device_attr arg = {
		.group = KVM_DEV_VFIO_GROUP, .attr = attr, .addr = (uintptr_t)&fd};
	return (int)vm_ioctl(c->kvm_fd, KVM_SET_DEVICE_ATTR, &arg);
}

int vfio_container_tie(struct vfio_container *c, unsigned number, int fd, struct error *err)
{
	if (c->kvm_fd < 0) {
		struct kvm_create_device create = {.type = KVM_DEV_TYPE_VFIO};
		long rc = vm_ioctl(c->dev.m->vm.fd, KVM_CREATE_DEVICE, &create);
		if (rc < 0)
			return error_errno(err, (int)-rc, "vfio-container: KVM-VFIO device");
		c->kvm_fd = (int)create.fd;
		fd_set_cloexec(c->kvm_fd, true);
	}
	int rc = kvm_file(c, fd, KVM_DEV_VFIO_GROUP_ADD);
	if (rc >= 0 || rc == -EEXIST)
		return 0;
	if (c->iommu == &vfio_type1)
		return error_errno(err, -rc, "vfio-container: IOMMU group %u to KVM", number);
	return error_errno(err, -rc, "vfio-container: a device to KVM");
}

int vfio_container_add(struct vfio_container *c, unsigned number, int fd, struct error *err)
{
	if (c->nfiles == VFIO_MAX_FILES)
		return error_set(err, ENOSPC,
				 "vfio-container: more than %d IOMMU groups or devices",
				 VFIO_MAX_FILES);
	c->files[c->nfiles].number = number;
	c->files[c->nfiles++].fd = fd;
	return 0;
}

/* The last descriptor of a device resets it, that of the last group unpins guest memory: so they are closed without the
 * device lock. */
void vfio_container_remove(struct vfio_container *c, const struct vfio_dev *dev)
{
	struct machine *m = c->dev.m;
	char names[2][FDSET_NAME_LEN] = {"", ""};
	int fds[2] = {-1, -1};
	int tie = c->iommu->tie_of(c, dev);
	snprintf(names[0], sizeof(names[0]), "vfio:%s", dev->id);
	if (tie >= 0) {
		if (c->kvm_fd >= 0)
			kvm_file(c, c->files[tie].fd, KVM_DEV_VFIO_GROUP_DEL);
		if (c->files[tie].fd != dev->fd)
			snprintf(names[1], sizeof(names[1]), "vfio-group:%u", c->files[tie].number);
		c->files[tie] = c->files[--c->nfiles];
		c->state.nranges = c->nfiles ? c->state.nranges : 0;
	}
	pthread_mutex_lock(&m->lock);
	for (unsigned i = 0; i < 2; i++) {
		int fd = fdset_get(&m->fds, names[i]);
		fds[i] = fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, 0);
		fdset_close(&m->fds, names[i]);
	}
	pthread_mutex_unlock(&m->lock);
	fd_close(&fds[0]);
	fd_close(&fds[1]);
}

static int tie_all(struct vfio_container *c, struct error *err)
{
	int rc = 0;
	for (unsigned i = 0; !rc && i < c->nfiles; i++)
		rc = vfio_container_tie(c, c->files[i].number, c->files[i].fd, err);
	return rc;
}

static int container_pre_save(void *opaque, struct error *err)
{
	struct vfio_container *c = opaque;
	c->state.ngroups = c->iommu == &vfio_type1 ? c->nfiles : 0;
	for (unsigned i = 0; i < c->state.ngroups; i++)
		c->state.groups[i] = c->files[i].number;
	return 0;
}

static int groups_check(const struct vfio_container *c, struct error *err)
{
	if (c->state.ngroups != c->nfiles)
		return error_set(err, EBADMSG,
				 "vfio-container: state of %u IOMMU groups, %u were handed over",
				 c->state.ngroups, c->nfiles);
	for (unsigned i = 0; i < c->nfiles; i++) {
		unsigned k = 0;
		while (k < c->nfiles && c->files[k].number != c->state.groups[i])
			k++;
		if (k == c->nfiles)
			return error_set(err, EBADMSG,
					 "vfio-container: IOMMU group %u was not handed over",
					 c->state.groups[i]);
	}
	return 0;
}

static int container_post_load(void *opaque, struct error *err)
{
	struct vfio_container *c = opaque;
	if (c->state.kind >= VFIO_IOMMU_KINDS || vfio_iommus[c->state.kind] != c->iommu)
		return error_set(err, EBADMSG,
				 "vfio-container: state of IOMMU interface %u, %s was handed over",
				 c->state.kind, c->iommu->name);
	int rc = c->iommu == &vfio_type1 ? groups_check(c, err) : 0;
	return rc ?: vfio_dma_check(c, err);
}

static int container_reset(struct device *dev, struct error *err)
{
	struct vfio_container *c = (struct vfio_container *)dev;
	return vfio_dma_map(c, err) ?: tie_all(c, err);
}

static int container_check(struct device *dev, struct error *err)
{
	struct vfio_container *c = (struct vfio_container *)dev;
	struct device *d = NULL;
	while ((d = machine_device(dev->m, "vfio", d)))
		if (vfio_p2p_check((struct vfio_dev *)d, NULL))
			return 0; /* the device says it itself, with the reason */
	return c->nfiles ? c->iommu->may_renew(c, err) : 0;
}

/* Before the pause: all of guest memory will be locked by this process, so its limit must allow for it. */
static int container_join(struct device *dev, struct error *err)
{
	struct vfio_container *c = (struct vfio_container *)dev;
	return vfio_explain_memlock(vfio_dma_len(c) * c->iommu->locked_times, err)
		       ?: tie_all(c, err);
}

static int container_take(struct device *dev, struct error *err)
{
	struct vfio_container *c = (struct vfio_container *)dev;
	return c->nfiles ? c->iommu->renew(c, err) : 0;
}

static void container_destroy(struct device *dev)
{
	struct vfio_container *c = (struct vfio_container *)dev;
	/* The old VM must not clear the VM pointer of a group or device after the new one has set it. */
	for (unsigned i = 0; c->kvm_fd >= 0 && i < c->nfiles; i++)
		kvm_file(c, c->files[i].fd, KVM_DEV_VFIO_GROUP_DEL);
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
	.take = container_take,
	.destroy = container_destroy,
};
