/* SPDX-License-Identifier: MIT */
/*
 * The PCI bus: what a PCI device embeds and may call. In the life cycle of vmm/device.h:
 *
 *   init       pci_dev_init(): takes the next free slot, so slots follow the command line;
 *              pci_dev_join(): becomes a function of another one's slot
 *   realize    fills config space (pci_config_set, pci_config_allow), adds BARs, MSI, MSI-X
 *   reset      the host bridge, whose reset runs first, has done what firmware does
 *   post_load  pci_dev_load(); the host bridge then maps the BARs of all devices (loaded)
 *
 * Config space is an array of bytes (state) and one of writable bits (wmask). What a BAR decodes is
 * always computed from its registers there. Everything here runs with the device lock held.
 */
#pragma once

#include "cpr/state/fields.h"
#include "vmm/arch.h"
#include "vmm/device.h"

#define PCI_CONFIG_LEN 4096
#define PCI_SLOTS      32
#define PCI_MAX_DEVS   64 /* functions, the host bridge among them */
#define PCI_BARS       7  /* six and the expansion ROM */
#define PCI_BAR_ROM    6

/* No vendor: a range that nobody was given, for devices that exist only in molt. */
#define PCI_VENDOR_MOLT		0xfff0
#define PCI_DEVICE_MOLT_TESTDEV 0x0001
#define PCI_DEVICE_MOLT_HOST	0x0010

/* Kinds of BAR, flags. None: 32-bit memory, not prefetchable. */
#define PCI_BAR_IO   1u
#define PCI_BAR_64   2u
#define PCI_BAR_PREF 4u

struct pci_dev;
struct pci_host;

struct pci_state {
	uint64_t bar_len[PCI_BARS]; /* what the guest was given; 0: no such BAR */
	uint8_t config[PCI_CONFIG_LEN];
	uint32_t bar_flags[PCI_BARS];
	uint32_t devfn;	      /* where the guest finds it: slot << 3 | function */
	uint32_t bars_mapped; /* one bit per BAR: decoded now */
	uint32_t asleep;      /* 1: a power state that decodes nothing */
};

#define PCI_STATE_FIELDS(S, m)                                                                     \
	FIELD_ARRAY(S, m.bar_len), FIELD_RAW(S, m.config), FIELD_ARRAY(S, m.bar_flags),            \
		FIELD_U(S, m.devfn), FIELD_U(S, m.bars_mapped), FIELD_U(S, m.asleep)

struct pci_ops {
	/* Guest access to config space, naturally aligned. NULL: pci_config_read() and
	 * pci_config_write(). */
	uint32_t (*config_read)(struct pci_dev *dev, unsigned off, unsigned len);
	void (*config_write)(struct pci_dev *dev, unsigned off, unsigned len, uint32_t val);

	/* The BAR decodes at @addr from now on, which is inside the bridge's windows. Failing
	 * leaves nothing mapped; -EEXIST: something else is there. */
	int (*bar_map)(struct pci_dev *dev, unsigned bar, uint64_t addr, struct error *err);
	void (*bar_unmap)(struct pci_dev *dev, unsigned bar, uint64_t addr);

	/* Of a device that may go: the guest has given it up. False: nobody wants it, and it stays. */
	bool (*eject)(struct pci_dev *dev);
};

struct pci_bar {
	uint64_t len; /* power of two; 0: none */
	uint32_t flags;
	uint64_t addr; /* while mapped */
	bool mapped;   /* decoded now, in this process (state: bars_mapped) */
};

struct pci_dev {
	struct device *owner;
	struct pci_host *host;
	const struct pci_ops *ops;
	struct pci_state *state; /* the owner's */
	uint8_t wmask[PCI_CONFIG_LEN];
	struct pci_bar bars[PCI_BARS];
	bool may_go;	   /* the guest may be asked to give it up (slots.c) */
	bool line;	   /* asserts INTA (pci_intx_set), in this process's VM */
	struct msi *msi;   /* set by msi_init */
	struct msix *msix; /* set by msix_init */
	unsigned complaints;
};

/* Takes the next slot of the PCI bus. @state is the owner's. COMMAND, cache line size and interrupt
 * line are writable from here on. */
int pci_dev_init(struct pci_dev *dev, struct device *owner, const struct pci_ops *ops,
		 struct pci_state *state, struct error *err);

/* Right after that: becomes function @fn (1 to 7) of the slot that @first is function 0 of. */
void pci_dev_join(struct pci_dev *dev, const struct pci_dev *first, unsigned fn);

/* Are there other functions in the device's slot? */
bool pci_shares_slot(const struct pci_dev *dev);

/* After the state was loaded, which says where the guest finds the device: refuses no place, other BARs, and BARs
 * that are mapped but do not decode. */
int pci_dev_load(struct pci_dev *dev, struct error *err);

/* slots.c. may_go, at init: the guest may be asked to give up the device, which has its slot for itself. ask: it is
 * now, or again; returns the seconds since the first time. gone: it has given it up, and nobody is there. */
int pci_slot_may_go(struct pci_dev *dev, struct error *err);
uint64_t pci_slot_ask(struct pci_dev *dev);
bool pci_slot_gone(const struct pci_dev *dev);

/* Who answers there, or NULL. */
struct pci_dev *pci_dev_at(const struct pci_host *host, unsigned devfn);

/* GSI of the device's interrupt pin: 1 for INTA to 4 for INTD (PCI Interrupt Pin register). */
uint32_t pci_intx_gsi(const struct pci_dev *dev, unsigned pin);

/* Sets INTA of a device whose line has no eventfd. A line that several devices share is asserted as long as one of
 * them asserts it. */
void pci_intx_set(struct pci_dev *dev, bool level);

/* config.c: the owner reads and writes the shadow, and says which bits the guest may write. */
uint32_t pci_config_get(const struct pci_dev *dev, unsigned off, unsigned len);
void pci_config_set(struct pci_dev *dev, unsigned off, unsigned len, uint32_t val);
void pci_config_allow(struct pci_dev *dev, unsigned off, unsigned len, uint32_t mask);

/* Guest access to the shadow. Writing changes what wmask allows; BARs, MSI and MSI-X follow. */
uint32_t pci_config_read(struct pci_dev *dev, unsigned off, unsigned len);
void pci_config_write(struct pci_dev *dev, unsigned off, unsigned len, uint32_t val);

/* bar.c: declares a BAR; @len a power of two. A 64-bit one takes @bar + 1 as well. -EINVAL: it
 * cannot be. */
int pci_bar_add(struct pci_dev *dev, unsigned bar, uint32_t flags, uint64_t len, struct error *err);
uint64_t pci_bar_addr(const struct pci_dev *dev, unsigned bar);

/* Maps and unmaps the BARs of the whole bus as the registers say now. */
void pci_bars_update(struct pci_host *host);

/* All devices are loaded: refuses two in one place, unmaps what an earlier state had elsewhere, and maps what this one
 * has. */
int pci_bars_load(struct pci_host *host, struct error *err);
/* The addresses that BARs start with. -ENOSPC: a 64-bit one has no room in the windows. */
int pci_bars_assign(struct pci_host *host, struct error *err);

struct pci_host_state {
	struct pci_state pci;
	uint64_t ecam_base, ecam_len;
	uint64_t mmio32_base, mmio32_len;
	uint64_t mmio64_base, mmio64_len;
	uint64_t pio_base, pio_len;
	uint32_t intx_gsi[4];
	uint32_t cf8; /* address register of the port mechanism */
	uint32_t reserved;
};

struct pci_host {
	struct device dev;
	struct pci_dev pci;
	struct pci_dev *devs[PCI_MAX_DEVS]; /* itself first, then as they came */
	unsigned ndevs;
	bool ecam_live;	  /* the config window is on the bus, */
	uint64_t ecam_at; /* and there */
	struct pci_host_state state;
};

struct pci_slots {
	struct device dev;
	struct pci_slots_state {
		uint32_t ask, gone;
		/* When the host first wanted it, CLOCK_BOOTTIME; 0: it has not. */
		uint64_t asked_s[PCI_SLOTS];
	} state;
};

extern const struct device_class pci_host_class, pci_slots_class;
