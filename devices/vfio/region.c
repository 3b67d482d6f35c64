/* SPDX-License-Identifier: MIT */
/*
 * BARs of a passed-through device. What can be mapped is a memory slot of the guest, which then accesses the device
 * without an exit. The rest is trapped, and read and written through VFIO: the MSI-X table and pending bits, I/O ports,
 * BARs smaller than a page, the expansion ROM.
 */
#include <linux/pci_regs.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/utsname.h>

#include "devices/vfio/vfio.h"
#include "vmm/machine.h"

static void part_access(void *opaque, struct bus_access *access)
{
	struct vfio_part *part = opaque;
	struct vfio_region *r = part->region;
	struct vfio_dev *dev = r->dev;
	uint64_t off = part->off + access->offset;

	if (dev->pci.msix && r->index < PCI_BAR_ROM &&
	    msix_access(&dev->msix, r->index, off, access))
		return;
	/* A device that fails an access does as one that is not there: all ones, or nothing. */
	if (access->write) {
		if (r->flags & VFIO_REGION_INFO_FLAG_WRITE &&
		    pwrite(dev->fd, &access->value, access->len, (off_t)(r->fd_off + off)) < 0)
			return;
	} else if (r->flags & VFIO_REGION_INFO_FLAG_READ) {
		uint64_t val = 0;
		if (pread(dev->fd, &val, access->len, (off_t)(r->fd_off + off)) == access->len)
			access->value = val;
	}
}

/* Is @pos inside [start, end)? Moves *stop down to where that answer changes. */
static bool within(uint64_t pos, uint64_t start, uint64_t end, uint64_t *stop)
{
	uint64_t edge = pos < start ? start : end;
	if (start < end && pos < end && edge < *stop)
		*stop = edge;
	return pos >= start && pos < end;
}

/* May the page at @pos be mapped into the guest? *stop: where the answer may change. */
static bool mappable(const struct vfio_region *r, uint64_t pos, uint64_t *stop)
{
	const struct msix *msix = r->dev->pci.msix;
	uint64_t pages = align_down(r->len, PAGE_LEN);
	bool yes = false;

	if (r->flags & VFIO_REGION_INFO_FLAG_MMAP) {
		for (unsigned i = 0; i < r->nsparse; i++) {
			uint64_t start = r->sparse[i].off, len = r->sparse[i].len;
			if (start & (PAGE_LEN - 1) || !range_fits(start, len, r->len))
				continue;
			yes |= within(pos, start, start + align_down(len, PAGE_LEN), stop);
		}
		if (!r->nsparse)
			yes = within(pos, 0, pages, stop);
	}
	if (msix && msix->table_bar == r->index &&
	    within(pos, align_down(msix->table_off, PAGE_LEN),
		   align_up(msix->table_off + msix->table_len, PAGE_LEN), stop))
		yes = false;
	if (msix && msix->pba_bar == r->index &&
	    within(pos, align_down(msix->pba_off, PAGE_LEN),
		   align_up(msix->pba_off + msix->pba_len, PAGE_LEN), stop))
		yes = false;
	return yes;
}

static uint64_t bar_len(const struct vfio_region *r, uint32_t flags)
{
	uint64_t len = r->index == PCI_BAR_ROM ? 2048 : flags & PCI_BAR_IO ? 4 : 16;
	while (len < r->len && len << 1)
		len <<= 1;
	return len;
}

/* A BAR is at a multiple of its length in the guest, wherever that moves it. So it is in the host, up to the largest
 * huge page: KVM and vfio-pci map huge pages only where host and guest address agree modulo their size
 * (docs/kernel-facts.md). */
static uint64_t bar_align(const struct vfio_region *r)
{
	uint64_t len = bar_len(r, r->dev->state.pci.bar_flags[r->index]);
	return len < GIB ? len : GIB;
}

static int region_reserve(struct vfio_region *r, struct error *err)
{
	uint64_t len = bar_len(r, r->dev->state.pci.bar_flags[r->index]) + bar_align(r);
	void *room = mmap(NULL, len, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (room == MAP_FAILED) {
		error_end(err, EXIT_HOST, errno, "%s: %lu MiB of address space for BAR %u: %m",
			  r->dev->dev.name, len / MIB, r->index);
		return error_hint(err, "raise the limit of address space (ulimit -v)");
	}
	r->room = room;
	r->room_len = len;
	return 0;
}

/* How much of a BAR is one mapping. Linux before 6.12 fills the page tables of a whole mapping, in pages of 4 KiB, when
 * any of it is first accessed. After an update it is the guest that waits for that, since the mapping is new and molt
 * does not access devices. Later kernels fill one page, which may have up to 1 GiB (docs/kernel-facts.md). */
static uint64_t map_len(void)
{
	struct utsname uts;
	unsigned major, minor;
	bool known = !uname(&uts) && sscanf(uts.release, "%u.%u", &major, &minor) == 2;
	return !known || major > 6 || (major == 6 && minor >= 12) ? UINT64_MAX : 64 * MIB;
}

/* Maps a part of a BAR over the address range that was reserved for the whole BAR, and is unmapped with it. */
static int part_mmap(struct vfio_dev *dev, struct vfio_part *part, struct error *err)
{
	struct vfio_region *r = part->region;
	int prot = (r->flags & VFIO_REGION_INFO_FLAG_READ ? PROT_READ : 0) |
		   (r->flags & VFIO_REGION_INFO_FLAG_WRITE ? PROT_WRITE : 0);
	int rc = r->room ? 0 : region_reserve(r, err);
	if (rc)
		return rc;
	uint8_t *hva = (uint8_t *)align_up((uintptr_t)r->room, bar_align(r)) + part->off;
	const uint64_t most = map_len();
	for (uint64_t at = 0, len; at < part->len; at += len) {
		len = part->len - at < most ? part->len - at : most;
		if (mmap(hva + at, len, prot, MAP_SHARED | MAP_FIXED, dev->fd,
			 (off_t)(r->fd_off + part->off + at)) != MAP_FAILED)
			continue;
		rc = error_errno(err, errno, "%s: mapping 0x%lx bytes of BAR %u", dev->dev.name,
				 len, r->index);
		return rc == -ENOMEM ? error_hint(err, "raise vm.max_map_count") : rc;
	}
	part->hva = hva;
	return 0;
}

/* The MSI-X structures must lie inside their BARs: vfio-pci takes the device's word for it. */
static int check_msix(const struct vfio_dev *dev, struct error *err)
{
	const struct msix *msix = dev->pci.msix;
	if (!msix)
		return 0;
	if (range_fits(msix->table_off, msix->table_len, dev->regions[msix->table_bar].len) &&
	    range_fits(msix->pba_off, msix->pba_len, dev->regions[msix->pba_bar].len))
		return 0;
	return error_set(err, EINVAL, "%s: the MSI-X table does not fit BAR %u or %u",
			 dev->dev.name, msix->table_bar, msix->pba_bar);
}

static int region_cut(struct vfio_dev *dev, struct vfio_region *r, struct error *err)
{
	for (uint64_t pos = 0; pos < r->len;) {
		uint64_t stop = r->len;
		bool map = mappable(r, pos, &stop);
		struct vfio_part *last = r->nparts ? &r->parts[r->nparts - 1] : NULL;
		if (last && !map && !last->hva) { /* goes on being trapped */
			last->len += stop - pos;
			pos = stop;
			continue;
		}
		if (r->nparts == VFIO_MAX_PARTS)
			return error_set(err, ENOSPC, "%s: BAR %u has more than %d parts",
					 dev->dev.name, r->index, VFIO_MAX_PARTS);
		struct vfio_part *part = &r->parts[r->nparts++];
		*part = (struct vfio_part){.region = r, .off = pos, .len = stop - pos};
		int rc = map ? part_mmap(dev, part, err) : 0;
		if (rc)
			return rc;
		pos = stop;
	}
	return 0;
}

/* Fills in BAR @bar from the answers. All BARs' areas are one list there: *@at is where this BAR's begin, and is
 * moved to the next one's. */
static void region_fill(struct vfio_dev *dev, unsigned bar, uint32_t *at)
{
	const struct vfio_answers *a = &dev->answers;
	struct vfio_region *r = &dev->regions[bar];
	*r = (struct vfio_region){.dev = dev,
				  .index = bar,
				  .fd_off = a->region_off[bar],
				  .len = a->region_len[bar],
				  .flags = a->region_flags[bar],
				  .nsparse = a->region_sparse[bar]};
	for (unsigned i = 0; i < r->nsparse; i++) {
		r->sparse[i].off = a->sparse[(*at)++];
		r->sparse[i].len = a->sparse[(*at)++];
	}
	if (dev->state.pci.bar_flags[bar] & PCI_BAR_IO)
		r->flags &= ~(uint32_t)VFIO_REGION_INFO_FLAG_MMAP;
}

int vfio_regions_init(struct vfio_dev *dev, struct error *err)
{
	uint32_t at = 0;
	for (unsigned i = 0; i < PCI_BARS; i++)
		region_fill(dev, i, &at);
	int rc = check_msix(dev, err);
	for (unsigned i = 0; !rc && i < PCI_BARS; i++) {
		struct vfio_region *r = &dev->regions[i];
		uint32_t flags = dev->state.pci.bar_flags[i];
		if (!r->len)
			continue;
		rc = region_cut(dev, r, err)
			     ?: pci_bar_add(&dev->pci, i, flags, bar_len(r, flags), err);
	}
	return rc;
}

void vfio_regions_free(struct vfio_dev *dev)
{
	for (unsigned i = 0; i < PCI_BARS; i++)
		if (dev->regions[i].room)
			munmap(dev->regions[i].room, dev->regions[i].room_len);
	memset(dev->regions, 0, sizeof(dev->regions));
}

static struct bus *bar_bus(struct vfio_dev *dev, unsigned bar)
{
	struct machine *m = dev->dev.m;
	return dev->pci.bars[bar].flags & PCI_BAR_IO ? &m->pio : &m->mmio;
}

static void parts_unmap(struct vfio_dev *dev, unsigned bar, uint64_t addr, unsigned n)
{
	struct vfio_region *r = &dev->regions[bar];
	while (n-- > 0) {
		struct vfio_part *part = &r->parts[n];
		vfio_p2p_unmap(part);
		if (part->hva)
			vm_slot_remove(&dev->dev.m->vm, addr + part->off);
		else
			bus_remove(bar_bus(dev, bar), addr + part->off, part);
	}
}

int vfio_bar_map(struct pci_dev *pci, unsigned bar, uint64_t addr, struct error *err)
{
	struct vfio_dev *dev = (struct vfio_dev *)pci->owner;
	struct vfio_region *r = &dev->regions[bar];
	for (unsigned i = 0; i < r->nparts; i++) {
		struct vfio_part *part = &r->parts[i];
		struct bus_region trap = {addr + part->off, part->len, dev->dev.name, part_access,
					  part};
		int rc = part->hva ? vm_slot_add(&dev->dev.m->vm, trap.base, part->len, part->hva,
						 false, err)
				   : bus_add(bar_bus(dev, bar), &trap, err);
		if (rc) {
			parts_unmap(dev, bar, addr, i);
			return rc;
		}
		if (part->hva)
			vfio_p2p_map(part, addr);
	}
	return 0;
}

void vfio_bar_unmap(struct pci_dev *pci, unsigned bar, uint64_t addr)
{
	struct vfio_dev *dev = (struct vfio_dev *)pci->owner;
	parts_unmap(dev, bar, addr, dev->regions[bar].nparts);
}
