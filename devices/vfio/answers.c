/* SPDX-License-Identifier: MIT */
/*
 * What VFIO says of a device: its regions, interrupts and capabilities. A device that is opened for a new guest is
 * asked here. One that is taken over is not asked again, as it may sleep or be busy: the answers are in its state, and
 * are checked like anything that comes from there.
 */
#include <linux/pci_regs.h>

#include "devices/vfio/vfio.h"
#include "vmm/machine.h"

#define REGION_FLAGS                                                                               \
	(VFIO_REGION_INFO_FLAG_READ | VFIO_REGION_INFO_FLAG_WRITE | VFIO_REGION_INFO_FLAG_MMAP)
#define CONFIG_STD_LEN 256 /* without extended capabilities */

/* Notes a part of a BAR that can be mapped. One that does not lie within the BAR is left out: it is trapped then. */
static void add_area(struct vfio_answers *a, unsigned bar,
		     const struct vfio_region_sparse_mmap_area *area)
{
	if (!range_fits(area->offset, area->size, a->region_len[bar]))
		return;
	a->sparse[a->sparse_words++] = area->offset;
	a->sparse[a->sparse_words++] = area->size;
	a->region_sparse[bar]++;
}

/* Notes the areas that the capability at @off of @info lists (@info has argsz bytes). Of a BAR the first such list
 * counts. */
static void take_areas(struct vfio_answers *a, unsigned bar, const struct vfio_region_info *info,
		       uint32_t off)
{
	const uint8_t *base = (const uint8_t *)info;
	struct vfio_region_info_cap_sparse_mmap sparse;
	uint64_t at = off + sizeof(sparse);

	memcpy(&sparse, base + off, sizeof(sparse));
	for (uint32_t i = 0; i < sparse.nr_areas && a->region_sparse[bar] < VFIO_MAX_SPARSE; i++) {
		struct vfio_region_sparse_mmap_area area;
		if (!range_fits(at, sizeof(area), info->argsz))
			break;
		memcpy(&area, base + at, sizeof(area));
		at += sizeof(area);
		add_area(a, bar, &area);
	}
	if (!a->region_sparse[bar]) /* nothing may be mapped */
		a->region_flags[bar] &= ~(uint32_t)VFIO_REGION_INFO_FLAG_MMAP;
}

/* Walks the capability chain that follows the structure in @info. */
static void take_sparse(struct vfio_answers *a, unsigned bar, const struct vfio_region_info *info)
{
	uint32_t off = info->flags & VFIO_REGION_INFO_FLAG_CAPS ? info->cap_offset : 0;

	for (unsigned guard = 0; off && guard < 16; guard++) {
		struct vfio_info_cap_header header;
		if (!range_fits(off, sizeof(header), info->argsz))
			return;
		memcpy(&header, (const uint8_t *)info + off, sizeof(header));
		if (header.id == VFIO_REGION_INFO_CAP_SPARSE_MMAP && !a->region_sparse[bar] &&
		    range_fits(off, sizeof(struct vfio_region_info_cap_sparse_mmap), info->argsz))
			take_areas(a, bar, info, off);
		off = header.next;
	}
}

union region_info {
	struct vfio_region_info info;
	uint64_t room[512]; /* with capabilities: some 16 bytes per mappable area */
};

static int ask_region(const struct vfio_dev *dev, unsigned index, union region_info *u,
		      struct error *err)
{
	*u = (union region_info){.info = {.argsz = sizeof(*u), .index = index}};
	return vm_call(dev->fd, VFIO_DEVICE_GET_REGION_INFO, &u->info, err, "%s: region %u",
		       dev->dev.name, index);
}

static int ask_bar(struct vfio_dev *dev, unsigned bar, struct error *err)
{
	struct vfio_answers *a = &dev->answers;
	union region_info u;
	int rc = ask_region(dev, bar, &u, err);
	if (rc)
		return rc;
	a->region_off[bar] = u.info.offset;
	a->region_len[bar] = u.info.size;
	a->region_flags[bar] = u.info.flags & REGION_FLAGS;
	if (u.info.argsz <= sizeof(u))
		take_sparse(a, bar, &u.info);
	else /* the areas did not fit: map nothing rather than too much */
		a->region_flags[bar] &= ~(uint32_t)VFIO_REGION_INFO_FLAG_MMAP;
	return 0;
}

static int ask_config(struct vfio_dev *dev, struct error *err)
{
	union region_info u;
	int rc = ask_region(dev, VFIO_PCI_CONFIG_REGION_INDEX, &u, err);
	if (rc)
		return rc;
	if (u.info.size < PCI_STD_HEADER_SIZEOF)
		return error_set(err, ENOTSUP, "%s: config space of %llu bytes", dev->dev.name,
				 u.info.size);
	dev->answers.config_off = u.info.offset;
	/* Words as the guest reads them: the kernel's sample mtty has 255 bytes. */
	dev->answers.config_len =
		u.info.size < PCI_CONFIG_LEN ? (uint32_t)u.info.size & ~3u : PCI_CONFIG_LEN;
	return 0;
}

static int ask_irqs(struct vfio_dev *dev, struct error *err)
{
	for (unsigned i = 0; i <= VFIO_PCI_MSIX_IRQ_INDEX; i++) {
		struct vfio_irq_info irq = {.argsz = sizeof(irq), .index = i};
		long rc = vm_ioctl(dev->fd, VFIO_DEVICE_GET_IRQ_INFO, &irq);
		/* So mediated devices say that they have no interrupts of that kind. */
		if (rc == -EINVAL)
			irq.flags = 0;
		else if (rc < 0)
			return error_errno(err, (int)-rc, "%s: interrupts of kind %u",
					   dev->dev.name, i);
		if (i == VFIO_PCI_MSIX_IRQ_INDEX)
			dev->answers.traits |=
				irq.flags & VFIO_IRQ_INFO_NORESIZE ? 0 : VFIO_TRAIT_ONE_BY_ONE;
		dev->answers.irq_count[i] = irq.flags & VFIO_IRQ_INFO_EVENTFD ? irq.count : 0;
	}
	return 0;
}

static int ask(struct vfio_dev *dev, struct error *err)
{
	struct vfio_device_info info = {.argsz = sizeof(info)};
	int rc = vm_call(dev->fd, VFIO_DEVICE_GET_INFO, &info, err, "%s: VFIO_DEVICE_GET_INFO",
			 dev->dev.name);
	if (rc < 0)
		return rc;
	if (!(info.flags & VFIO_DEVICE_FLAGS_PCI) ||
	    info.num_regions <= VFIO_PCI_CONFIG_REGION_INDEX ||
	    info.num_irqs <= VFIO_PCI_MSIX_IRQ_INDEX)
		return error_set(err, ENOTSUP, "%s: not a PCI device", dev->dev.name);
	dev->answers = (struct vfio_answers){.known = 1};
	dev->answers.traits = info.flags & VFIO_DEVICE_FLAGS_RESET ? VFIO_TRAIT_RESET : 0;
	rc = ask_config(dev, err);
	/* With rom=off the ROM's region is not even asked for: that alone turns on decoding in the device. */
	for (unsigned i = 0; !rc && i < PCI_BARS; i++)
		rc = i != PCI_BAR_ROM || dev->rom ? ask_bar(dev, i, err) : 0;
	return rc ? rc : ask_irqs(dev, err);
}

/* ---- from the state ---- */

static bool cap_fits(uint32_t cap, uint32_t len)
{
	return !cap || (cap >= PCI_STD_HEADER_SIZEOF && range_fits(cap, len, CONFIG_STD_LEN));
}

static const char *regions_flaw(const struct vfio_answers *a)
{
	uint32_t at = 0;
	for (unsigned i = 0; i < PCI_BARS; i++) {
		uint64_t len = a->region_len[i];
		if (len > INT64_MAX || a->region_off[i] > INT64_MAX - len)
			return "place of a region";
		if (a->region_flags[i] & ~REGION_FLAGS)
			return "flags of a region";
		if (a->region_sparse[i] > VFIO_MAX_SPARSE)
			return "number of a region's areas";
		for (unsigned k = 0; k < a->region_sparse[i]; k++, at += 2)
			if (!range_fits(at, 2, a->sparse_words) ||
			    !range_fits(a->sparse[at], a->sparse[at + 1], len))
				return "area of a region";
	}
	return at == a->sparse_words ? NULL : "number of areas";
}

static const char *answers_flaw(const struct vfio_answers *a)
{
	if (a->known != 1 || a->traits & ~VFIO_TRAITS)
		return "value of a flag";
	if (a->config_len < PCI_STD_HEADER_SIZEOF || a->config_len > PCI_CONFIG_LEN ||
	    a->config_off > INT64_MAX - PCI_CONFIG_LEN)
		return "place of config space";
	/* The lengths of MSI and MSI-X depend on what stands in them: msi_init, msix_init. */
	if (!cap_fits(a->pm_cap, PCI_PM_SIZEOF) || !cap_fits(a->msi_cap, PCI_MSI_MASK_32) ||
	    !cap_fits(a->msix_cap, MSIX_CAP_LEN))
		return "place of a capability";
	return regions_flaw(a);
}

/* Makes config space and BARs from the answers in the state. The device itself is neither asked nor accessed. */
static int answers_take(struct vfio_dev *dev, struct error *err)
{
	const char *flaw = answers_flaw(&dev->state.answers);
	if (flaw)
		return error_set(err, EBADMSG, "%s: state: wrong %s", dev->dev.name, flaw);
	for (unsigned i = 0; i < PCI_BARS; i++)
		if (dev->state.pci.bar_flags[i] & ~(PCI_BAR_IO | PCI_BAR_64 | PCI_BAR_PREF))
			return error_set(err, EBADMSG, "%s: state: BAR %u of kind %u",
					 dev->dev.name, i, dev->state.pci.bar_flags[i]);
	dev->answers = dev->state.answers;
	return vfio_config_resume(dev, err) ?: vfio_regions_init(dev, err);
}

int vfio_answers_ask(struct vfio_dev *dev, struct error *err)
{
	int rc = ask(dev, err) ?: vfio_config_init(dev, err) ?: vfio_regions_init(dev, err);
	dev->state.answers = dev->answers;
	dev->ready = !rc;
	return rc;
}

static int another(const struct vfio_dev *dev, struct error *err)
{
	return error_set(err, EBADMSG, "%s: the guest has device %04x:%04x, this is another",
			 dev->dev.name, dev->state.ident & 0xffff, dev->state.ident >> 16);
}

/* Makes the device's parts when its state is loaded for the first time. That writes a fresh device's values into
 * dev->state, so the loaded state is put aside meanwhile. */
static int first_load(struct vfio_dev *dev, struct error *err)
{
	struct vfio_state *loaded = malloc(sizeof(*loaded));
	if (!loaded)
		return error_errno(err, ENOMEM, "%s: state", dev->dev.name);
	*loaded = dev->state;
	bool asked = !loaded->answers.known; /* 0.1.0 saved none */
	int rc = asked ? vfio_answers_ask(dev, err) : answers_take(dev, err);
	uint32_t ident = dev->state.ident;
	loaded->answers = dev->answers;
	dev->state = *loaded;
	free(loaded);
	if (!rc && ident != dev->state.ident)
		rc = another(dev, err);
	dev->ready = !rc;
	return rc;
}

static int later_load(struct vfio_dev *dev, struct error *err)
{
	struct vfio_answers *a = &dev->state.answers;
	if (!a->known)
		*a = dev->answers;
	/* Both were zeroed, and areas are loaded to the same number: what is not used is equal as well. */
	if (memcmp(a, &dev->answers, sizeof(*a)))
		return error_set(err, EBADMSG, "%s: not the device that was loaded before",
				 dev->dev.name);
	return 0;
}

int vfio_answers_load(struct vfio_dev *dev, struct error *err)
{
	int rc = dev->ready ? later_load(dev, err) : first_load(dev, err);
	if (!rc && pci_config_get(&dev->pci, PCI_VENDOR_ID, 4) != dev->state.ident)
		rc = another(dev, err);
	return rc;
}
