/* SPDX-License-Identifier: MIT */
/*
 * Config space of a passed-through device. vfio-pci virtualizes much of it. This file emulates what
 * depends on the guest's machine: BARs, interrupt line, MSI and MSI-X, the device's type on a root
 * bus, and capabilities that the guest must not use. Other accesses go to the device.
 */
#include <linux/pci_regs.h>

#include "devices/vfio/vfio.h"

#define EXP_TYPE_SHIFT	  4
#define HEADER_TYPE_MULTI 0x80 /* more functions in the slot */
#define CAP_ID_NULL	  0 /* a capability with nothing but its header (PCI code and ID assignment) */
#define EXT_CAP_VF_REBAR  0x24
#define STD_CAPS_START	  0x40
#define STD_CAPS_END	  0x100
#define EXT_CAPS_START	  0x100

/* Extended capabilities that act on more than the device, or on what is emulated here, with their lengths (PCI Express
 * 6.0, 7.8 and 7.9). The lengths matter: some devices have registers between capabilities, which drivers need. */
static const struct {
	uint16_t id;
	uint16_t len; /* 0: up to the next one */
	bool rebar;   /* and 8 bytes for each resizable BAR */
} hidden_ext[] = {
	{.id = PCI_EXT_CAP_ID_ARI, .len = PCI_EXT_CAP_ARI_SIZEOF},
	{.id = PCI_EXT_CAP_ID_ATS, .len = PCI_EXT_CAP_ATS_SIZEOF},
	{.id = PCI_EXT_CAP_ID_SRIOV, .len = PCI_EXT_CAP_SRIOV_SIZEOF},
	{.id = PCI_EXT_CAP_ID_MRIOV},
	{.id = PCI_EXT_CAP_ID_MCAST, .len = 0x30},
	{.id = PCI_EXT_CAP_ID_PRI, .len = PCI_EXT_CAP_PRI_SIZEOF},
	{.id = PCI_EXT_CAP_ID_REBAR, .len = 4, .rebar = true},
	{.id = EXT_CAP_VF_REBAR, .len = 4, .rebar = true},
	{.id = PCI_EXT_CAP_ID_PASID, .len = PCI_EXT_CAP_PASID_SIZEOF},
	{.id = PCI_EXT_CAP_ID_DPC},
	{.id = PCI_EXT_CAP_ID_L1SS, .len = 0x14},
	{.id = PCI_EXT_CAP_ID_PTM, .len = 0xc},
	{.id = PCI_EXT_CAP_ID_DOE, .len = 0x18},
};

static void emulate(struct vfio_dev *dev, unsigned off, unsigned len)
{
	memset(dev->emulated + off, 1, len);
}

static uint32_t hw_read(const struct vfio_dev *dev, unsigned off, unsigned len)
{
	uint32_t val = ~0u;
	if (!range_fits(off, len, dev->answers.config_len) ||
	    pread(dev->fd, &val, len, (off_t)(dev->answers.config_off + off)) != (ssize_t)len)
		return ~0u;
	return val;
}

static int hw_write(const struct vfio_dev *dev, unsigned off, unsigned len, uint32_t val)
{
	if (!range_fits(off, len, dev->answers.config_len))
		return 0;
	if (pwrite(dev->fd, &val, len, (off_t)(dev->answers.config_off + off)) != (ssize_t)len)
		return errno ? -errno : -EIO;
	return 0;
}

static int take_msi(struct vfio_dev *dev, unsigned cap, struct error *err)
{
	int rc = msi_init(&dev->msi, &dev->pci, cap, &dev->state.msi, err);
	if (rc)
		return rc;
	dev->answers.msi_cap = cap;
	emulate(dev, cap, dev->msi.len);
	return 0;
}

static int take_msix(struct vfio_dev *dev, unsigned cap, struct error *err)
{
	int rc = msix_init(&dev->msix, &dev->pci, cap, &dev->state.msix, err);
	if (rc)
		return rc;
	dev->msix.vec.use = vfio_msix_use;
	dev->answers.msix_cap = cap;
	emulate(dev, cap, MSIX_CAP_LEN);
	return 0;
}

static int take_std_cap(struct vfio_dev *dev, unsigned id, unsigned cap, struct error *err)
{
	struct pci_dev *pci = &dev->pci;
	uint8_t *config = dev->state.pci.config;
	int rc = 0;

	vfio_p2p_find_reset(dev, id, cap);
	if (id == PCI_CAP_ID_MSI && !pci->msi && dev->answers.irq_count[VFIO_PCI_MSI_IRQ_INDEX]) {
		rc = take_msi(dev, cap, err);
	} else if (id == PCI_CAP_ID_MSIX && !pci->msix && cap + MSIX_CAP_LEN <= STD_CAPS_END &&
		   dev->answers.irq_count[VFIO_PCI_MSIX_IRQ_INDEX]) {
		rc = take_msix(dev, cap, err);
	} else if (id == PCI_CAP_ID_PM && cap + PCI_PM_SIZEOF <= STD_CAPS_END) {
		dev->answers.pm_cap = cap;
	} else if (id == PCI_CAP_ID_EXP && cap + 4 <= STD_CAPS_END) {
		/* An endpoint needs a port above it; on a root bus it is an integrated one. */
		unsigned type =
			(config[cap + PCI_EXP_FLAGS] & PCI_EXP_FLAGS_TYPE) >> EXP_TYPE_SHIFT;
		if (type == PCI_EXP_TYPE_ENDPOINT || type == PCI_EXP_TYPE_LEG_END) {
			config[cap + PCI_EXP_FLAGS] &= (uint8_t)~PCI_EXP_FLAGS_TYPE;
			config[cap + PCI_EXP_FLAGS] |= PCI_EXP_TYPE_RC_END << EXP_TYPE_SHIFT;
			emulate(dev, cap + PCI_EXP_FLAGS, 1);
		}
	} else if (id == PCI_CAP_ID_EA || id == PCI_CAP_ID_MSI || id == PCI_CAP_ID_MSIX) {
		/* These give access to BARs by other means, or use interrupts that vfio does not offer. */
		config[cap] = CAP_ID_NULL;
		emulate(dev, cap, 1);
	}
	return rc;
}

static int walk_std_caps(struct vfio_dev *dev, struct error *err)
{
	const uint8_t *config = dev->state.pci.config;
	if (!(config[PCI_STATUS] & PCI_STATUS_CAP_LIST))
		return 0;
	unsigned cap = config[PCI_CAPABILITY_LIST] & ~3u;
	for (unsigned guard = 0; cap >= STD_CAPS_START && guard < 48; guard++) {
		int rc = take_std_cap(dev, config[cap], cap, err);
		if (rc)
			return rc;
		cap = config[cap + 1] & ~3u;
	}
	return 0;
}

/* The end of the extended capability at @cap can only be bounded: by the next one above it, or by the end of config
 * space. */
static unsigned ext_cap_limit(const struct vfio_dev *dev, unsigned cap)
{
	unsigned end = dev->answers.config_len, at = EXT_CAPS_START;
	for (unsigned guard = 0; at >= EXT_CAPS_START && guard < 1024; guard++) {
		if (at > cap && at < end)
			end = at;
		at = pci_config_get(&dev->pci, at, 4) >> 20 & 0xffc;
	}
	return end;
}

/* How many bytes of the extended capability at @cap the guest must not see; 0: it may see all of it. */
static unsigned ext_cap_hidden(const struct vfio_dev *dev, unsigned cap)
{
	unsigned id = pci_config_get(&dev->pci, cap, 2), i = 0;
	while (i < ARRAY_LEN(hidden_ext) && hidden_ext[i].id != id)
		i++;
	if (i == ARRAY_LEN(hidden_ext))
		return 0;
	unsigned len = hidden_ext[i].len, room = ext_cap_limit(dev, cap) - cap;
	if (hidden_ext[i].rebar && room >= 12)
		len += 8 * (pci_config_get(&dev->pci, cap + PCI_REBAR_CTRL, 4) >>
				    PCI_REBAR_CTRL_NBAR_SHIFT &
			    7);
	return len && len < room ? len : room;
}

/* Replaces each capability that must be hidden by a null capability at the same offset. So the guest cannot access it,
 * and still finds the ones behind it. */
static void walk_ext_caps(struct vfio_dev *dev)
{
	unsigned cap = EXT_CAPS_START;
	if (dev->answers.config_len < PCI_CONFIG_LEN)
		return;
	for (unsigned guard = 0; cap >= EXT_CAPS_START && guard < 1024; guard++) {
		unsigned next = pci_config_get(&dev->pci, cap, 4) >> 20 & 0xffc;
		unsigned len = ext_cap_hidden(dev, cap);
		if (len) {
			memset(dev->state.pci.config + cap, 0, len);
			pci_config_set(&dev->pci, cap, 4, (uint32_t)next << 20);
			emulate(dev, cap, len);
		}
		cap = next;
	}
}

static void emulate_header(struct vfio_dev *dev)
{
	emulate(dev, PCI_HEADER_TYPE, 1);
	emulate(dev, PCI_BASE_ADDRESS_0, 6 * 4);
	emulate(dev, PCI_ROM_ADDRESS, 4);
	emulate(dev, PCI_INTERRUPT_LINE, 1);
	/* If the device has less than the standard part, the rest is zero. */
	if (dev->answers.config_len < STD_CAPS_END)
		emulate(dev, dev->answers.config_len, STD_CAPS_END - dev->answers.config_len);
}

/* The low bits of a BAR's register are its kind. vfio-pci shows the hardware's. */
static uint32_t bar_flags(uint32_t reg)
{
	if (reg & PCI_BASE_ADDRESS_SPACE_IO)
		return PCI_BAR_IO;
	return ((reg & PCI_BASE_ADDRESS_MEM_TYPE_MASK) == PCI_BASE_ADDRESS_MEM_TYPE_64 ? PCI_BAR_64
										       : 0) |
	       (reg & PCI_BASE_ADDRESS_MEM_PREFETCH ? PCI_BAR_PREF : 0);
}

int vfio_config_init(struct vfio_dev *dev, struct error *err)
{
	uint8_t *config = dev->state.pci.config;
	int rc = fd_pread_all(dev->fd, config, dev->answers.config_len,
			      (off_t)dev->answers.config_off);
	if (rc)
		return error_errno(err, -rc, "%s: reading config space", dev->dev.name);
	dev->state.ident = pci_config_get(&dev->pci, PCI_VENDOR_ID, 4);
	if ((config[PCI_HEADER_TYPE] & 0x7f) != PCI_HEADER_TYPE_NORMAL)
		return error_end(err, EXIT_HOST, ENOTSUP, "%s: is a bridge", dev->dev.name);
	pci_config_set(&dev->pci, PCI_COMMAND, 2, 0);
	config[PCI_HEADER_TYPE] =
		PCI_HEADER_TYPE_NORMAL | (pci_shares_slot(&dev->pci) ? HEADER_TYPE_MULTI : 0);
	config[PCI_INTERRUPT_LINE] = 0;
	for (unsigned i = 0; i < PCI_BARS; i++)
		dev->state.pci.bar_flags[i] =
			i != PCI_BAR_ROM && dev->answers.region_len[i]
				? bar_flags(
					  pci_config_get(&dev->pci, PCI_BASE_ADDRESS_0 + 4 * i, 4))
				: 0;
	memset(config + PCI_BASE_ADDRESS_0, 0, 6 * 4);
	memset(config + PCI_ROM_ADDRESS, 0, 4);
	emulate_header(dev);
	rc = walk_std_caps(dev, err);
	if (rc)
		return rc;
	walk_ext_caps(dev);
	for (unsigned i = 0; i < PCI_CONFIG_LEN; i++)
		dev->answers.emulated[i / 8] |= (uint8_t)(dev->emulated[i] << i % 8);
	return 0;
}

/* Config space after a take-over: emulated bytes come from the state. Those that molt decides are set again, whatever
 * the state says. */
int vfio_config_resume(struct vfio_dev *dev, struct error *err)
{
	const struct vfio_answers *a = &dev->answers;
	for (unsigned i = 0; i < PCI_CONFIG_LEN; i++)
		dev->emulated[i] = a->emulated[i / 8] >> i % 8 & 1;
	emulate_header(dev);
	int rc = a->msi_cap ? take_msi(dev, a->msi_cap, err) : 0;
	return !rc && a->msix_cap ? take_msix(dev, a->msix_cap, err) : rc;
}

int vfio_config_reset(struct vfio_dev *dev, struct error *err)
{
	int rc = hw_write(dev, PCI_COMMAND, 2, 0);
	return rc ? error_errno(err, -rc, "%s: writing COMMAND", dev->dev.name) : 0;
}

uint32_t vfio_config_read(struct pci_dev *pci, unsigned off, unsigned len)
{
	struct vfio_dev *dev = (struct vfio_dev *)pci->owner;
	uint32_t val = pci_config_read(pci, off, len);
	uint32_t hw = memchr(dev->emulated + off, 0, len) ? hw_read(dev, off, len) : 0;
	for (unsigned i = 0; i < len; i++)
		if (!dev->emulated[off + i])
			val = (val & ~(0xffu << 8 * i)) | (hw & 0xffu << 8 * i);
	return val;
}

/* Writes the bytes of an access that are not emulated to the device, one run after the other. */
static void write_through(struct vfio_dev *dev, unsigned off, unsigned len, uint32_t val)
{
	for (unsigned i = 0; i < len;) {
		unsigned run = 0;
		while (i + run < len && !dev->emulated[off + i + run])
			run++;
		if (run)
			hw_write(dev, off + i, run, val >> 8 * i);
		i += run ? run : 1;
	}
}

/* If the guest accesses a BAR that is mapped but that the device does not decode, KVM_RUN fails. So
 * decoding is turned off in the guest first, and turned on in the device first. */
static void write_command(struct vfio_dev *dev, unsigned off, unsigned len, uint32_t val)
{
	pci_config_write(&dev->pci, off, len, val & pci_config_get(&dev->pci, off, len));
	write_through(dev, off, len, val);
	pci_config_write(&dev->pci, off, len, val);
}

/* The same for power states: the device decodes in D0 only (PCI power management, 5.4). */
static void write_pmcsr(struct vfio_dev *dev, unsigned off, unsigned len, uint32_t val)
{
	struct pci_state *s = &dev->state.pci;
	unsigned reg = dev->answers.pm_cap + PCI_PM_CTRL;

	if (val >> 8 * (reg - off) & PCI_PM_CTRL_STATE_MASK)
		s->asleep = 1;
	pci_bars_update(dev->pci.host);
	write_through(dev, off, len, val);
	s->asleep = (hw_read(dev, reg, 2) & PCI_PM_CTRL_STATE_MASK) != 0;
	pci_bars_update(dev->pci.host);
}

void vfio_config_write(struct pci_dev *pci, unsigned off, unsigned len, uint32_t val)
{
	struct vfio_dev *dev = (struct vfio_dev *)pci->owner;
	if (ranges_overlap(off, len, PCI_COMMAND, 2)) {
		write_command(dev, off, len, val);
	} else if (dev->answers.pm_cap && off <= dev->answers.pm_cap + PCI_PM_CTRL &&
		   off + len > dev->answers.pm_cap + PCI_PM_CTRL) {
		write_pmcsr(dev, off, len, val);
	} else {
		write_through(dev, off, len, val);
		pci_config_write(pci, off, len, val);
		vfio_p2p_written(dev, off, len, val);
	}
}
