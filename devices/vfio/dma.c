/* SPDX-License-Identifier: MIT */
/*
 * Guest memory in the IOMMU: one mapping per region, IOVA equal to guest physical address. A
 * mapping outlives the process: VFIO_DMA_UNMAP_FLAG_VADDR makes it forget the host address,
 * VFIO_DMA_MAP_FLAG_VADDR gives it another one, and DMA goes on all the time (linux/vfio.h). The
 * kernel takes any address: that it is the right memory is ours to see.
 */

#include "devices/vfio/vfio.h"
#include "vmm/machine.h"

uint64_t vfio_dma_len(const struct vfio_container *c)
{
	uint64_t sum = 0;
	for (uint32_t i = 0; i < c->state.nranges; i++)
		sum += c->state.len[i];
	return sum;
}

static void *range_hva(const struct vfio_container *c, uint32_t i)
{
	return ram_at(&c->dev.m->ram, c->state.iova[i], c->state.len[i]);
}

static int range_map(const struct vfio_container *c, uint32_t i, uint32_t flags)
{
	struct vfio_iommu_type1_dma_map map = {
		.argsz = sizeof(map),
		.flags = flags,
		.vaddr = (uintptr_t)range_hva(c, i),
		.iova = c->state.iova[i],
		.size = c->state.len[i],
	};
	return map.vaddr ? (int)vm_ioctl(c->fd, VFIO_IOMMU_MAP_DMA, &map) : -EFAULT;
}

static int range_failed(const struct vfio_container *c, uint32_t i, int code, const char *what,
			struct error *err)
{
	/* Locked memory is the likely reason for ENOMEM, and the only one with a remedy. */
	if (code == ENOMEM && vfio_explain_memlock(vfio_dma_len(c), err))
		return -ENOMEM;
	return error_end(err, EXIT_HOST, code, "vfio-container: %s of guest memory 0x%lx+0x%lx: %m",
			 what, c->state.iova[i], c->state.len[i]);
}

int vfio_dma_map(struct vfio_container *c, struct error *err)
{
	const struct ram_state *r = &c->dev.m->ram.state;
	for (uint32_t i = 0; i < r->nregions; i++) {
		c->state.iova[i] = r->gpa[i];
		c->state.len[i] = r->len[i];
		c->state.offset[i] = r->offset[i];
	}
	c->state.nranges = r->nregions;
	for (uint32_t i = 0; i < c->state.nranges; i++) {
		int rc = range_map(c, i, VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE);
		if (rc < 0)
			return range_failed(c, i, -rc, "DMA mapping", err);
	}
	return 0;
}

int vfio_dma_check(const struct vfio_container *c, struct error *err)
{
	const struct vfio_container_state *s = &c->state;
	const struct ram_state *r = &c->dev.m->ram.state;
	bool same = s->nranges == r->nregions && s->nranges <= RAM_MAX_REGIONS;
	for (uint32_t i = 0; same && i < s->nranges; i++)
		same = s->iova[i] == r->gpa[i] && s->len[i] == r->len[i] &&
		       s->offset[i] == r->offset[i] && range_hva(c, i);
	if (!same)
		return error_set(err, EBADMSG,
				 "vfio-container: the DMA ranges are not the guest's memory");
	return 0;
}

/* The incumbent's address goes, ours comes; DMA goes on all the time. In a second try, after a failure in between, there
 * is none that could go (EINVAL). */
static int range_renew(struct vfio_container *c, uint32_t i)
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

int vfio_dma_renew(struct device *dev, struct error *err)
{
	struct vfio_container *c = (struct vfio_container *)dev;
	for (uint32_t i = 0; i < c->state.nranges; i++) {
		int rc = range_renew(c, i);
		if (rc < 0)
			return range_failed(c, i, -rc, "new DMA address", err);
	}
	return 0;
}
