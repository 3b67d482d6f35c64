/* SPDX-License-Identifier: MIT */
/* PCI host bridge of bus 0: config access through memory (ECAM, PCI Express base specification
 * 7.2.2) and through two ports (PCI local bus specification 3.2.2.3.2). */
#include <linux/pci_regs.h>

#include "devices/pci/pci.h"
#include "vmm/machine.h"

#define CF8_ENABLE (1u << 31)

static const struct field host_fields[] = {
	PCI_STATE_FIELDS(struct pci_host_state, pci), FIELD_U(struct pci_host_state, ecam_base),
	FIELD_U(struct pci_host_state, ecam_len),     FIELD_U(struct pci_host_state, mmio32_base),
	FIELD_U(struct pci_host_state, mmio32_len),   FIELD_U(struct pci_host_state, mmio64_base),
	FIELD_U(struct pci_host_state, mmio64_len),   FIELD_U(struct pci_host_state, pio_base),
	FIELD_U(struct pci_host_state, pio_len),      FIELD_ARRAY(struct pci_host_state, intx_gsi),
	FIELD_U(struct pci_host_state, cf8),	      FIELD_U(struct pci_host_state, reserved),
};
static STATE_CLASS(pci_host_state_class, "pci-host", 1, struct pci_host_state, host_fields);

/* One naturally aligned access of 1, 2 or 4 bytes. Devices that are not there read all ones. */
static void config_access(struct pci_host *host, unsigned devfn, unsigned reg, unsigned len,
			  bool write, uint64_t *value)
{
	struct pci_dev *dev = pci_dev_at(host, devfn);
	if (!dev || reg & (len - 1) || pci_slot_gone(dev))
		return;
	if (write && dev->ops->config_write)
		dev->ops->config_write(dev, reg, len, (uint32_t)*value);
	else if (write)
		pci_config_write(dev, reg, len, (uint32_t)*value);
	else if (dev->ops->config_read)
		*value = dev->ops->config_read(dev, reg, len);
	else
		*value = pci_config_read(dev, reg, len);
}

static void ecam_access(void *opaque, struct bus_access *access)
{
	struct pci_host *host = opaque;
	unsigned devfn = (unsigned)(access->offset >> 12) & 0xff, reg = access->offset & 0xfff;

	if (access->len != 8) {
		config_access(host, devfn, reg, access->len, access->write, &access->value);
		return;
	}
	if (reg & 7)
		return;
	uint64_t lo = (uint32_t)access->value, hi = access->value >> 32;
	config_access(host, devfn, reg, 4, access->write, &lo);
	config_access(host, devfn, reg + 4, 4, access->write, &hi);
	access->value = lo | hi << 32;
}

/* Only a 4-byte access reaches the address register; narrower ones belong to other devices. */
static void cf8_access(void *opaque, struct bus_access *access)
{
	struct pci_host *host = opaque;
	if (access->len != 4 || access->offset)
		return;
	if (access->write)
		host->state.cf8 = (uint32_t)access->value & 0x80fffffcu;
	else
		access->value = host->state.cf8;
}

static void cfc_access(void *opaque, struct bus_access *access)
{
	struct pci_host *host = opaque;
	uint32_t cf8 = host->state.cf8;
	if (!(cf8 & CF8_ENABLE) || (cf8 >> 16 & 0xff) || access->len > 4)
		return;
	config_access(host, cf8 >> 8 & 0xff, (cf8 & 0xfc) + (unsigned)access->offset, access->len,
		      access->write, &access->value);
}

/* It has no BARs, and its config space is plain. */
static const struct pci_ops host_pci_ops = {0};

static int host_init(struct device *dev, const char *arg, struct error *err)
{
	struct pci_host *host = (struct pci_host *)dev;
	host->pci = (struct pci_dev){
		.owner = &host->dev, .host = host, .ops = &host_pci_ops, .state = &host->state.pci};
	host->devs[host->ndevs++] = &host->pci;
	return 0;
}

static int ecam_add(struct pci_host *host, struct error *err)
{
	struct bus_region ecam = {.base = host->state.ecam_base,
				  .len = host->state.ecam_len,
				  .name = "pci-ecam",
				  .handler = ecam_access,
				  .opaque = host};
	int rc = bus_add(&host->dev.m->mmio, &ecam, err);
	host->ecam_live = !rc;
	host->ecam_at = ecam.base;
	return rc;
}

static int host_check_window(uint64_t base, uint64_t len, struct error *err)
{
	if (base + len < base)
		return error_set(err, EBADMSG, "pci-host: window 0x%lx+0x%lx wraps", base, len);
	return 0;
}

/* The guest keeps the windows it was given, whatever this program would give a new one. */
static int host_post_load(void *opaque, struct error *err)
{
	struct pci_host *host = opaque;
	const struct pci_host_state *s = &host->state;
	if (s->ecam_len != MIB || s->ecam_base & (MIB - 1))
		return error_set(err, EBADMSG, "pci-host: config window 0x%lx+0x%lx is not bus 0",
				 s->ecam_base, s->ecam_len);
	for (unsigned i = 0; i < 4; i++)
		if (s->intx_gsi[i] >= IRQ_PINS)
			return error_set(err, EBADMSG, "pci-host: INT%c is GSI %u", 'A' + i,
					 s->intx_gsi[i]);
	return host_check_window(s->mmio32_base, s->mmio32_len, err)
		       ?: host_check_window(s->mmio64_base, s->mmio64_len, err)
		       ?: host_check_window(s->pio_base, s->pio_len, err)
		       ?: pci_dev_load(&host->pci, err);
}

static int host_realize(struct device *dev, struct error *err)
{
	struct pci_host *host = (struct pci_host *)dev;
	struct pci_host_state *s = &host->state;
	struct arch_pci_layout l;

	arch_pci_layout(dev->m, &l);
	*s = (struct pci_host_state){
		.ecam_base = l.ecam_base,
		.ecam_len = l.ecam_len,
		.mmio32_base = l.mmio32_base,
		.mmio32_len = l.mmio32_len,
		.mmio64_base = l.mmio64_base,
		.mmio64_len = l.mmio64_len,
		.pio_base = l.pio_base,
		.pio_len = l.pio_len,
	};
	memcpy(s->intx_gsi, l.intx_gsi, sizeof(s->intx_gsi));
	pci_config_set(&host->pci, PCI_VENDOR_ID, 2, PCI_VENDOR_MOLT);
	pci_config_set(&host->pci, PCI_DEVICE_ID, 2, PCI_DEVICE_MOLT_HOST);
	pci_config_set(&host->pci, PCI_CLASS_DEVICE, 2, 0x0600); /* host bridge */

	struct bus_region cf8 = {l.config_port, 4, "pci-cf8", cf8_access, host};
	struct bus_region cfc = {l.config_port + 4, 4, "pci-cfc", cfc_access, host};
	return bus_add(&dev->m->pio, &cf8, err) ?: bus_add(&dev->m->pio, &cfc, err);
}

/* Runs before the reset of the devices behind it and after all of them were realized. */
static int host_reset(struct device *dev, struct error *err)
{
	struct pci_host *host = (struct pci_host *)dev;

	int rc = pci_bars_assign(host, err);
	if (rc)
		return rc;
	for (unsigned i = 0; i < host->ndevs; i++) {
		struct pci_dev *pci = host->devs[i];
		unsigned pin = pci_config_get(pci, PCI_INTERRUPT_PIN, 1);
		if (pin >= 1 && pin <= 4)
			pci_config_set(pci, PCI_INTERRUPT_LINE, 1, pci_intx_gsi(pci, pin));
	}
	return ecam_add(host, err);
}

/* The config window is where the state has it. A state that was loaded before may have had it elsewhere, and a
 * BAR where it is now: so it goes first and comes last. */
static int host_loaded(struct device *dev, struct error *err)
{
	struct pci_host *host = (struct pci_host *)dev;
	if (host->ecam_live && host->ecam_at != host->state.ecam_base) {
		bus_remove(&dev->m->mmio, host->ecam_at, host);
		host->ecam_live = false;
	}
	int rc = pci_bars_load(host, err);
	return rc || host->ecam_live ? rc : ecam_add(host, err);
}

const struct device_class pci_host_class = {
	.name = "pci-host",
	.state = &pci_host_state_class,
	.size = sizeof(struct pci_host),
	.state_offset = offsetof(struct pci_host, state),
	.init = host_init,
	.realize = host_realize,
	.reset = host_reset,
	.loaded = host_loaded,
	.post_load = host_post_load,
};
