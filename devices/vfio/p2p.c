/* SPDX-License-Identifier: MIT */
/*
 * Peer-to-peer DMA (p2p=on): what is mapped into the guest of a device's BARs is in the IOMMU's address space as well,
 * at the guest's address, so that the guest's devices reach it. By iommufd only, which maps a dma-buf of vfio-pci's as
 * it maps a file. The kernel ends such a mapping when the device decodes no memory any more, and when it is reset; and
 * while there is one it lets no other process have the guest's DMA (docs/kernel-facts.md). So such a machine is not
 * updated.
 */
#include <fcntl.h>
#include <linux/pci_regs.h>

#include "devices/vfio/iommufd_uapi.h"
#include "devices/vfio/vfio.h"
#include "vmm/machine.h"
#include "vmm/seccomp/seccomp.h"

#define UNREACHABLE "has a BAR that other devices do not reach, though it has p2p=on"

struct bar_export {
	struct vfio_device_feature head;
	struct vfio_dma_buf_request buf;
};

static long part_export(const struct vfio_dev *dev, struct bar_export *e, uint32_t flags)
{
	e->head = (struct vfio_device_feature){.argsz = sizeof(*e),
					       .flags = flags | VFIO_FEATURE_DMA_BUF};
	return vm_ioctl(dev->fd, VFIO_DEVICE_FEATURE, e);
}

/* Does the kernel have it, for this device? And the threads that map BARs, which are vCPUs', may do so from here on. */
int vfio_p2p_init(struct vfio_dev *dev, struct error *err)
{
	struct bar_export e = {};
	if (!dev->p2p)
		return 0;
	long rc = part_export(dev, &e, VFIO_DEVICE_FEATURE_PROBE | VFIO_DEVICE_FEATURE_GET);
	if (rc < 0) {
		error_end(err, EXIT_HOST, (int)-rc,
			  "%s: p2p=on: the kernel has no dma-buf of its BARs: %m", dev->dev.name);
		return error_hint(
			err, "leave p2p=on out; it needs CONFIG_VFIO_PCI_DMABUF (Linux 7.3 has "
			     "it where CONFIG_PCI_P2PDMA is set) and no mediated device");
	}
	seccomp_allow_ioctl(VFIO_DEVICE_FEATURE);
	seccomp_allow_ioctl(IOMMUFD_IOAS_MAP_FILE);
	seccomp_allow_ioctl(IOMMUFD_IOAS_UNMAP);
	return 0;
}

/* The kernel would refuse IOMMU_IOAS_CHANGE_PROCESS, but only while a BAR is mapped. An answer that depends on what the
 * guest does now is of no use to who plans an update. */
int vfio_p2p_check(const struct vfio_dev *dev, struct error *err)
{
	if (!dev->p2p || dev->fd < 0) /* it is ejected */
		return 0;
	error_end(
		err, EXIT_REFUSED, ENOTSUP,
		"p2p=on: while its BARs are mapped for other devices the kernel gives the guest's "
		"DMA to no other process");
	return error_hint(err, "start the guest without p2p=on, where its devices can do without");
}

/* The guest's processors have it all the same. */
static void tell(struct vfio_dev *dev, const struct vfio_part *part, long rc)
{
	if (log_guest_ok(&dev->complaints, 5))
		log_warn("%s: other devices do not reach BAR %u at 0x%lx, 0x%lx bytes: %s",
			 dev->dev.name, part->region->index, part->iova, part->len,
			 strerror((int)-rc));
	if (!dev->dev.trouble)
		device_tell(&dev->dev, UNREACHABLE, false);
}

/* The dma-buf lives as long as its mapping. */
void vfio_p2p_map(struct vfio_part *part, uint64_t addr)
{
	struct vfio_dev *dev = part->region->dev;
	struct bar_export e = {.buf = {.region_index = part->region->index,
				       .open_flags = O_RDWR | O_CLOEXEC,
				       .nr_ranges = 1,
				       .offset = part->off,
				       .length = part->len}};
	if (!dev->p2p)
		return;
	part->iova = addr + part->off;
	long rc = part_export(dev, &e, VFIO_DEVICE_FEATURE_GET);
	fd_auto int fd = rc < 0 ? -1 : (int)rc;
	rc = rc < 0 ? rc : vfio_iommufd_map_bar(dev->container, fd, part->len, part->iova);
	part->reachable = rc >= 0;
	if (!part->reachable)
		tell(dev, part, rc);
}

void vfio_p2p_unmap(struct vfio_part *part)
{
	if (part->reachable)
		vfio_iommufd_unmap_bar(part->region->dev->container, part->len, part->iova);
	part->reachable = false;
}

/* The registers by which the guest resets the function itself, which goes on to decode but has lost its mappings. */
void vfio_p2p_find_reset(struct vfio_dev *dev, unsigned id, unsigned cap)
{
	if (id == PCI_CAP_ID_EXP)
		dev->exp_flr = cap + PCI_EXP_DEVCTL + 1;
	else if (id == PCI_CAP_ID_AF)
		dev->af_flr = cap + PCI_AF_CTRL;
}

static bool sets(unsigned at, uint8_t bit, unsigned off, unsigned len, uint32_t val)
{
	return at && at >= off && at < off + len && val >> 8 * (at - off) & bit;
}

void vfio_p2p_written(struct vfio_dev *dev, unsigned off, unsigned len, uint32_t val)
{
	if (!dev->p2p || !(sets(dev->exp_flr, PCI_EXP_DEVCTL_BCR_FLR >> 8, off, len, val) ||
			   sets(dev->af_flr, PCI_AF_CTRL_FLR, off, len, val)))
		return;
	for (unsigned i = 0; i < PCI_BARS; i++)
		for (unsigned k = 0; dev->pci.bars[i].mapped && k < dev->regions[i].nparts; k++) {
			struct vfio_part *part = &dev->regions[i].parts[k];
			if (!part->reachable)
				continue;
			vfio_p2p_unmap(part);
			vfio_p2p_map(part, dev->pci.bars[i].addr);
		}
}
