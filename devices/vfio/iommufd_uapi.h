/* SPDX-License-Identifier: MIT */
/*
 * What of linux/iommufd.h (Linux 6.2; file mappings 6.13; change of process 6.14) and of linux/vfio.h (devices' own
 * nodes, 6.6; BARs as dma-bufs, as 7.3 has them) is used, for headers that are older than that. Numbers and layouts are
 * the kernel's.
 */
#pragma once

#include <linux/ioctl.h>
#include <linux/kvm.h>
#include <linux/types.h>
#include <linux/vfio.h>

#define IOMMUFD_CALL(nr) _IO(';', nr)

struct iommufd_ioas_alloc {
	__u32 size;
	__u32 flags;
	__u32 out_ioas_id;
};
#define IOMMUFD_IOAS_ALLOC IOMMUFD_CALL(0x81)

/* The array is of struct vfio_iova_range's form: both ends belong to it. */
struct iommufd_ioas_iova_ranges {
	__u32 size;
	__u32 ioas_id;
	__u32 num_iovas;
	__u32 reserved;
	__aligned_u64 allowed_iovas;
	__aligned_u64 out_iova_alignment;
};
#define IOMMUFD_IOAS_IOVA_RANGES IOMMUFD_CALL(0x84)

#define IOMMUFD_MAP_FIXED_IOVA (1u << 0)
#define IOMMUFD_MAP_WRITEABLE  (1u << 1)
#define IOMMUFD_MAP_READABLE   (1u << 2)

struct iommufd_ioas_map_file {
	__u32 size;
	__u32 flags;
	__u32 ioas_id;
	__s32 fd;
	__aligned_u64 start;
	__aligned_u64 length;
	__aligned_u64 iova;
};
#define IOMMUFD_IOAS_MAP_FILE IOMMUFD_CALL(0x8f)

struct iommufd_ioas_unmap {
	__u32 size;
	__u32 ioas_id;
	__aligned_u64 iova;
	__aligned_u64 length;
};
#define IOMMUFD_IOAS_UNMAP IOMMUFD_CALL(0x86)

struct iommufd_ioas_change_process {
	__u32 size;
	__u32 reserved;
};
#define IOMMUFD_IOAS_CHANGE_PROCESS IOMMUFD_CALL(0x92)

struct vfio_cdev_bind {
	__u32 argsz;
	__u32 flags;
	__s32 iommufd;
	__u32 out_devid;
	__aligned_u64 token_uuid_ptr; /* 16 bytes */
};
#define VFIO_CDEV_BIND_TOKEN (1u << 0)
#define VFIO_CDEV_BIND	     _IO(VFIO_TYPE, VFIO_BASE + 18)

/* Of VFIO_DEVICE_GET_PCI_HOT_RESET_INFO on a device's own node: all that would be reset are ours; a device that is
 * not. */
#define VFIO_HOT_RESET_OWNED	 (1u << 1)
#define VFIO_HOT_RESET_NOT_OWNED (~0u)

struct vfio_cdev_attach {
	__u32 argsz;
	__u32 flags;
	__u32 pt_id;
};
#define VFIO_CDEV_ATTACH _IO(VFIO_TYPE, VFIO_BASE + 19)

/* What VFIO_DEVICE_FEATURE has of a region as a dma-buf, with one range; the answer is the descriptor. */
struct vfio_dma_buf_request {
	__u32 region_index;
	__u32 open_flags;
	__u32 flags;
	__u32 nr_ranges;
	__u64 offset;
	__u64 length;
};
#define VFIO_FEATURE_DMA_BUF 11
