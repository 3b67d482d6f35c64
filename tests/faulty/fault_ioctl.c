/* SPDX-License-Identifier: MIT */
/*
 * Fault points at the calls that give DMA and VFIO groups to the new image, and queues to its vhost: in the build that
 * fails on purpose the linker sends vm_ioctl() here (--wrap), so that no device knows of faults.
 */
#include "cpr/fault.h"

#ifdef MOLT_FAULTS

#include <errno.h>
#include <linux/kvm.h>
#include <linux/vfio.h>
#include <linux/vhost.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "devices/vfio/iommufd_uapi.h"
#include "vmm/base/error.h"
#include "vmm/base/num.h"
#include "vmm/vm.h"

static bool is_dma(const void *arg)
{
	return ((const struct vfio_iommu_type1_dma_map *)arg)->flags & VFIO_DMA_MAP_FLAG_VADDR;
}

static bool is_group(const void *arg)
{
	const struct kvm_device_attr *attr = arg;
	return attr->group == KVM_DEV_VFIO_GROUP && attr->attr == KVM_DEV_VFIO_GROUP_ADD;
}

static struct {
	const char *name;
	unsigned long request;
	bool (*is)(const void *arg);
	unsigned count; /* of them so far, in this image */
} calls[] = {
	{"dma", VFIO_IOMMU_MAP_DMA, is_dma, 0},
	{"process", IOMMUFD_IOAS_CHANGE_PROCESS, NULL, 0},
	{"group", KVM_SET_DEVICE_ATTR, is_group, 0},
	{"vhost-owner", VHOST_SET_OWNER, NULL, 0},
	{"vhost-memory", VHOST_SET_MEM_TABLE, NULL, 0},
	{"vhost-rings", VHOST_SET_VRING_ADDR, NULL, 0},
	{"vhost-backend", VHOST_NET_SET_BACKEND, NULL, 0},
};

/* The linker's names. */
long __real_vm_ioctl(int fd, unsigned long request, void *arg);
long __wrap_vm_ioctl(int fd, unsigned long request, void *arg);

long __wrap_vm_ioctl(int fd, unsigned long request, void *arg)
{
	char point[24];
	struct error err;
	unsigned i = 0;
	/* Other threads have filters, and do nothing of this. */
	bool leader = syscall(SYS_gettid) == getpid();
	while (i < ARRAY_LEN(calls) &&
	       (calls[i].request != request || (calls[i].is && !calls[i].is(arg))))
		i++;
	if (!leader || i == ARRAY_LEN(calls))
		return __real_vm_ioctl(fd, request, arg);
	snprintf(point, sizeof(point), "%s-%u", calls[i].name, ++calls[i].count);
	if (fault_error(point, &err))
		return -EIO;
	long rc = __real_vm_ioctl(fd, request, arg);
	if (rc < 0)
		calls[i].count--; /* refused: it is made again in another way */
	else
		fault_point(point);
	return rc;
}

#endif
