/* SPDX-License-Identifier: MIT */
/* Guest memory in the IOMMU: one mapping for each region of memory, at the DMA address that equals the guest physical
 * address, so that the guest's driver programs its device as on a real machine. */
#include "devices/vfio/vfio.h"
#include "vmm/machine.h"

uint64_t vfio_dma_len(const struct vfio_container *c)
{
	uint64_t sum = 0;
	for (uint32_t i = 0; i < c->state.nranges; i++)
		sum += c->state.len[i];
	return sum;
}

void *vfio_dma_hva(const struct vfio_container *c, uint32_t i)
{
	return ram_at(&c->dev.m->ram, c->state.iova[i], c->state.len[i]);
}

int vfio_dma_failed(const struct vfio_container *c, uint32_t i, int code, const char *what,
		    struct error *err)
{
	/* Locked memory is the likely reason for ENOMEM, and the only one with a remedy. */
	if (code == ENOMEM && vfio_explain_memlock(vfio_dma_len(c), err))
		return -ENOMEM;
	return error_end(err, EXIT_HOST, code, "vfio-container: %s of guest memory 0x%lx+0x%lx: %m",
			 what, c->state.iova[i], c->state.len[i]);
}

#define MAX_RANGES 64

/* The host keeps addresses for itself: message interrupts, and what its firmware or processor reserves. */
static int range_allowed(const struct vfio_container *c, uint32_t i, struct error *err)
{
	struct vfio_iova_range r[MAX_RANGES];
	uint64_t first = c->state.iova[i], last = first + c->state.len[i] - 1, end = 0;
	unsigned n = c->iommu->ranges(c, r, MAX_RANGES);
	for (unsigned k = 0; k < n; k++) {
		if (first >= r[k].start && last <= r[k].end)
			return 0;
		if (first >= r[k].start && first <= r[k].end)
			end = r[k].end;
	}
	if (!n)
		return 0;
	error_end(
		err, EXIT_HOST, ERANGE,
		"vfio-container: guest memory 0x%lx to 0x%lx: this host's IOMMU reserves addresses "
		"from 0x%lx on",
		first, last, end ? end + 1 : first);
	if (first && end)
		return error_hint(err, "--mem %luM fits",
				  (c->state.offset[i] + end + 1 - first) / MIB);
	return error_hint(err, "/sys/kernel/iommu_groups/*/reserved_regions lists them");
}

int vfio_dma_map(struct vfio_container *c, struct error *err)
{
	const struct ram_state *r = &c->dev.m->ram.state;
	if (!c->nfiles) /* all devices are ejected */
		return 0;
	for (uint32_t i = 0; i < r->nregions; i++) {
		c->state.iova[i] = r->gpa[i];
		c->state.len[i] = r->len[i];
		c->state.offset[i] = r->offset[i];
	}
	c->state.nranges = r->nregions;
	for (uint32_t i = 0; i < c->state.nranges; i++) {
		int rc = range_allowed(c, i, err);
		if (rc)
			return rc;
		rc = c->iommu->map(c, i);
		if (rc < 0)
			return vfio_dma_failed(c, i, -rc, "DMA mapping", err);
	}
	return 0;
}

int vfio_dma_check(const struct vfio_container *c, struct error *err)
{
	const struct vfio_container_state *s = &c->state;
	const struct ram_state *r = &c->dev.m->ram.state;
	bool same = s->nranges == (c->nfiles ? r->nregions : 0) && s->nranges <= RAM_MAX_REGIONS;
	for (uint32_t i = 0; same && i < s->nranges; i++)
		same = s->iova[i] == r->gpa[i] && s->len[i] == r->len[i] &&
		       s->offset[i] == r->offset[i] && vfio_dma_hva(c, i);
	if (!same)
		return error_set(err, EBADMSG,
				 "vfio-container: the DMA ranges are not the guest's memory");
	return 0;
}
