/* SPDX-License-Identifier: MIT */
/*
 * DMA of passed-through devices: one IOMMU address space for all of them, in which guest physical addresses are DMA
 * addresses. Two interfaces of the kernel make one, each a back-end: the legacy type1 container with groups
 * (linux/vfio.h), and iommufd with the devices' own nodes (linux/iommufd.h). A machine has one of them.
 */
#pragma once

#include <linux/vfio.h>

#include "vmm/device.h"
#include "vmm/ram.h"

struct vfio_container;
struct vfio_dev;

#define VFIO_MAX_FILES 32 /* one per PCI slot is enough */

enum vfio_iommu_kind { VFIO_TYPE1, VFIO_IOMMUFD, VFIO_IOMMU_KINDS };

struct vfio_iommu {
	const char *name; /* in options and `molt status` */
	const char *kept; /* name of its descriptor in the table of kept ones */
	/* A fresh guest's. The descriptor, or -errno. */
	int (*open)(struct vfio_container *c, struct error *err);
	/* What belongs to it beside its own descriptor was handed over: finds it. */
	int (*adopt)(struct vfio_container *c, struct error *err);
	/* Puts a fresh guest's device under the IOMMU and opens it. Its descriptor, which is the caller's, or
	 * -errno. */
	int (*open_device)(struct vfio_container *c, const struct vfio_dev *dev, struct error *err);
	/* DMA addresses that may be used, at most @max ranges of them; the kernel takes no others. How many, or 0:
	 * it does not tell. */
	unsigned (*ranges)(const struct vfio_container *c, struct vfio_iova_range *out,
			   unsigned max);
	/* What ties @dev to the VM (an index of c->files), if nothing else of the guest needs it; or -1. */
	int (*tie_of)(const struct vfio_container *c, const struct vfio_dev *dev);
	/* Range @i of guest memory, readable and writable for devices. 0 or -errno. */
	int (*map)(const struct vfio_container *c, uint32_t i);
	/* The guest runs: may it be given to another process? The error is the reason. */
	int (*may_renew)(const struct vfio_container *c, struct error *err);
	/* This process has the guest now; DMA goes on all the time. May be tried again after a failure. */
	int (*renew)(struct vfio_container *c, struct error *err);
	/* Times the guest's memory that may be locked at one moment. */
	unsigned locked_times;
};

extern const struct vfio_iommu vfio_type1, vfio_iommufd;
extern const struct vfio_iommu *const vfio_iommus[VFIO_IOMMU_KINDS];

struct vfio_container_state {
	uint64_t iova[RAM_MAX_REGIONS]; /* as mapped: equal to guest physical addresses */
	uint64_t len[RAM_MAX_REGIONS];
	uint64_t offset[RAM_MAX_REGIONS]; /* in the file of guest memory */
	uint32_t nranges;
	uint32_t ngroups;
	uint32_t groups[VFIO_MAX_FILES]; /* type1: numbers of the IOMMU groups */
	uint32_t kind;			 /* enum vfio_iommu_kind */
	uint32_t ioas;			 /* iommufd: number of the address space */
};

struct vfio_container {
	struct device dev;
	const struct vfio_iommu *iommu; /* NULL until it is open */
	int fd;
	int kvm_fd; /* KVM-VFIO device; -1 while there is none */
	/* What ties VM and devices together: groups (type1) or devices (iommufd). Owned by the table of kept
	 * descriptors. */
	unsigned nfiles;
	struct {
		unsigned number; /* of the group; iommufd: none */
		int fd;
	} files[VFIO_MAX_FILES];
	char why[120]; /* that it is not iommufd, where the host has it; "": it has not */
	struct vfio_container_state state;
};

extern const struct device_class vfio_container_class;

/* container.c, for back-ends: one more group or device. KVM learns of all when a fresh guest is reset, or a successor
 * joins; tie tells it at once, for drivers that want to know the VM when they open the device. */
int vfio_container_add(struct vfio_container *c, unsigned number, int fd, struct error *err);
int vfio_container_tie(struct vfio_container *c, unsigned number, int fd, struct error *err);

/* container.c: the guest has ejected @dev: KVM and this process let go of it, and of what ties it to the VM. */
void vfio_container_remove(struct vfio_container *c, const struct vfio_dev *dev);

/* iommufd.c: is it what this host, its devices and this guest's memory are to have? @why not. */
bool vfio_iommufd_usable(struct vfio_container *c, char *why, size_t size);

/* iommufd.c, for p2p.c: a stretch of a BAR, as a dma-buf, at a DMA address. map: 0 or -errno. */
int vfio_iommufd_map_bar(const struct vfio_container *c, int file, uint64_t len, uint64_t iova);
void vfio_iommufd_unmap_bar(const struct vfio_container *c, uint64_t len, uint64_t iova);

/* dma.c: guest memory in the IOMMU. check: the ranges are guest memory. */
int vfio_dma_map(struct vfio_container *c, struct error *err);
int vfio_dma_check(const struct vfio_container *c, struct error *err);
uint64_t vfio_dma_len(const struct vfio_container *c);
void *vfio_dma_hva(const struct vfio_container *c, uint32_t i);
int vfio_dma_failed(const struct vfio_container *c, uint32_t i, int code, const char *what,
		    struct error *err);
