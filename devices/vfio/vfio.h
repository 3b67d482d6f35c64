/* SPDX-License-Identifier: MIT */
/*
 * VFIO passthrough (linux/vfio.h). Kept over an update: the IOMMU's "container0" with groups "vfio-group:N", or
 * "iommufd0"; devices "vfio:ID" and their eventfds "vfio:ID:intx", ":intx-unmask", ":msi:N", ":msix:N", ":err", ":req".
 * ID is the device's name in sysfs: a PCI address, or the UUID of a mediated device.
 *
 * Taking over an open device means touching nothing of it: no reset, no VFIO_DEVICE_SET_IRQS, no
 * access to config space or BARs, and no queries (struct vfio_answers). Only mmap() and new DMA
 * addresses.
 */
#pragma once

#include <linux/vfio.h>

#include "devices/pci/msi.h"
#include "devices/pci/pci.h"
#include "devices/vfio/iommu.h"
#include "vmm/device.h"
#include "vmm/irq.h"
#include "vmm/ram.h"

#define VFIO_MAX_PARTS	16
#define VFIO_MAX_SPARSE 8
#define VFIO_ID_LEN	40
#define VFIO_NODE_LEN	64
#define VFIO_SPARE_FDS	32 /* that eventfds leave, where they are short: for clients and an update */

/* ---- device.c: one device ---- */

/* A stretch of a region, page-aligned if it is mapped into the guest. */
struct vfio_part {
	struct vfio_region *region;
	uint64_t off, len;
	void *hva;	/* NULL: accesses are trapped and forwarded */
	bool reachable; /* by other devices, at @iova (p2p=on) */
	uint64_t iova;
};

struct vfio_region {
	struct vfio_dev *dev;
	unsigned index;	 /* VFIO_PCI_BAR0_REGION_INDEX ... = BAR number */
	uint64_t fd_off; /* on the device's descriptor */
	uint64_t len;
	uint32_t flags; /* VFIO_REGION_INFO_FLAG_* */
	unsigned nsparse;
	struct {
		uint64_t off, len;
	} sparse[VFIO_MAX_SPARSE]; /* what may be mmap()ed; none: all of it, if the flag says so */
	uint8_t *room; /* address space reserved for the mapped parts; NULL: there are none */
	uint64_t room_len;
	unsigned nparts;
	struct vfio_part parts[VFIO_MAX_PARTS];
};

#define VFIO_TRAIT_RESET 0x1u /* it can be reset */
#define VFIO_TRAIT_ONE_BY_ONE                                                                      \
	0x2u /* the host may be asked for one vector of MSI-X at a time (Linux 6.5) */
#define VFIO_TRAITS 0x3u

/* What the device was asked when it was first opened. One that is taken over is not asked again:
 * the ROM's region info alone turns on decoding in it, and one that sleeps or is dead answers
 * something else. */
struct vfio_answers {
	uint64_t config_off; /* of config space on the device's descriptor */
	uint64_t region_off[PCI_BARS], region_len[PCI_BARS]; /* of the BARs; no length: none */
	/* Offset and length of each area of a BAR that may be mmap()ed, those of BAR 0 first. */
	uint64_t sparse[2 * PCI_BARS * VFIO_MAX_SPARSE];
	uint32_t region_flags[PCI_BARS];  /* VFIO_REGION_INFO_FLAG_READ, _WRITE, _MMAP */
	uint32_t region_sparse[PCI_BARS]; /* areas of each; 0: all of it, if the flag says so */
	uint32_t sparse_words;
	uint32_t known; /* 0: a state of 0.1.0, which has none of this */
	uint32_t config_len;
	uint32_t traits; /* VFIO_TRAIT_ */
	uint32_t irq_count[VFIO_PCI_MSIX_IRQ_INDEX + 1];
	uint32_t pm_cap, msi_cap, msix_cap;   /* in config space; 0: none */
	uint8_t emulated[PCI_CONFIG_LEN / 8]; /* one bit per byte of config space: the shadow's */
};

#define VFIO_ANSWERS_FIELDS(S, m, v)                                                               \
	FIELD_U_SINCE(S, m.known, v, 0), FIELD_U_SINCE(S, m.config_off, v, 0),                     \
		FIELD_U_SINCE(S, m.config_len, v, 0), FIELD_ARRAY_SINCE(S, m.region_off, v),       \
		FIELD_ARRAY_SINCE(S, m.region_len, v), FIELD_ARRAY_SINCE(S, m.region_flags, v),    \
		FIELD_ARRAY_SINCE(S, m.region_sparse, v),                                          \
		FIELD_ARRAY_LEN_SINCE(S, m.sparse, m.sparse_words, v),                             \
		FIELD_ARRAY_SINCE(S, m.irq_count, v), FIELD_U_SINCE(S, m.traits, v, 0),            \
		FIELD_U_SINCE(S, m.pm_cap, v, 0), FIELD_U_SINCE(S, m.msi_cap, v, 0),               \
		FIELD_U_SINCE(S, m.msix_cap, v, 0), FIELD_RAW_SINCE(S, m.emulated, v)

enum vfio_trouble { VFIO_TROUBLE_ERROR, VFIO_TROUBLE_REQUEST, VFIO_TROUBLES };

/* What is done when the host wants the device back, beside telling the operator: nothing; the guest is asked to power
 * off; or to give up the device alone. */
enum vfio_unbind { VFIO_UNBIND_WAIT, VFIO_UNBIND_POWEROFF, VFIO_UNBIND_EJECT };
#define VFIO_EJECTED "is ejected: the host has it back"

enum vfio_irq_mode { VFIO_IRQ_NONE, VFIO_IRQ_INTX, VFIO_IRQ_MSI, VFIO_IRQ_MSIX };

struct vfio_state {
	struct pci_state pci;
	struct msix_state msix;
	struct msi_state msi;
	uint32_t ident;	      /* device ID << 16 | vendor ID */
	uint32_t irq_mode;    /* enum vfio_irq_mode */
	uint32_t irq_vectors; /* that the host gives in modes MSI and MSIX */
	/* Of them, one bit each: those without an eventfd, as the guest has not unmasked them yet. */
	uint8_t irq_unused[MSIX_MAX_VECTORS / 8];
	/* Mode INTX: the device takes no eventfd to be unmasked by, as some mediated ones do not. */
	uint32_t unmask_by_call;
	uint32_t trouble; /* bits of enum vfio_trouble: what has come */
	struct vfio_answers answers;
};

struct vfio_dev {
	struct device dev;
	struct pci_dev pci;
	struct vfio_container *container;
	char id[VFIO_ID_LEN]; /* its name in sysfs */
	int iommu;	      /* enum vfio_iommu_kind that the option asks for; -1: any */
	bool rom, noreset, own_slot, p2p;
	enum vfio_unbind unbind;
	uint32_t unbind_timeout_s; /* unbind=eject; 0: none */
	bool has_token;
	uint8_t token
		[16]; /* a UUID that a virtual function and its physical one share (vf_token=) */
	unsigned exp_flr, af_flr; /* p2p=on: bytes of config space that reset it; 0: none */
	int fd;
	bool started;	/* this process has the guest: the device may be told something */
	bool was_reset; /* with another one, for a fresh guest */
	bool ready;	/* the answers are there, and what follows from them */
	struct vfio_answers answers;
	struct vfio_region regions[PCI_BARS]; /* by BAR number */
	uint8_t emulated[PCI_CONFIG_LEN];     /* 1: the byte is the shadow's */
	struct msix msix;
	struct msi msi;
	struct irq_source intx;
	/* Where it is unmasked by a call: what the device signals, watched by the event loop; -1: it is not so. And
	 * has the device signalled since the last EOI? */
	int intx_trigger;
	bool intx_fired;
	int trouble_fd
		[VFIO_TROUBLES]; /* watched; -1: none. Owned by the table of kept descriptors */
	struct vfio_state state;
	unsigned complaints;
};

extern const struct device_class vfio_class;

/* device.c: the machine's device of that name, or NULL. */
struct vfio_dev *vfio_find(struct machine *m, const char *id);

/* option.c */
int vfio_option(struct vfio_dev *dev, const char *arg, struct error *err);

/* hot_reset.c: a device without a reset of its own, by one of its bus; what has been reset with it is noted. -EPERM:
 * it would reach what must not be reset. The error is the reason only: the caller names the device. */
int vfio_hot_reset(struct vfio_dev *dev, struct error *err);

/* answers.c. ask: a fresh guest's device, and makes the shadow of config space, regions, BARs.
 * load: the same from the state, without a word to the device; a state that is loaded later must be
 * of the same one. */
int vfio_answers_ask(struct vfio_dev *dev, struct error *err);
int vfio_answers_load(struct vfio_dev *dev, struct error *err);

/* config.c: init reads config space and decides what is emulated; resume finds that in the
 * answers. */
int vfio_config_init(struct vfio_dev *dev, struct error *err);
int vfio_config_resume(struct vfio_dev *dev, struct error *err);
uint32_t vfio_config_read(struct pci_dev *pci, unsigned off, unsigned len);
void vfio_config_write(struct pci_dev *pci, unsigned off, unsigned len, uint32_t val);
int vfio_config_reset(struct vfio_dev *dev, struct error *err);

/* region.c: cuts each BAR into mapped and trapped parts, mmap()s them, declares the BARs. */
int vfio_regions_init(struct vfio_dev *dev, struct error *err);
void vfio_regions_free(struct vfio_dev *dev);
int vfio_bar_map(struct pci_dev *pci, unsigned bar, uint64_t addr, struct error *err);
void vfio_bar_unmap(struct pci_dev *pci, unsigned bar, uint64_t addr);

/* p2p.c: BARs that the guest's other devices reach (p2p=on). Nothing without that. init: can it be? check: may the
 * device be updated? find_reset, written: of the config space that the guest writes. */
int vfio_p2p_init(struct vfio_dev *dev, struct error *err);
int vfio_p2p_check(const struct vfio_dev *dev, struct error *err);
void vfio_p2p_map(struct vfio_part *part, uint64_t addr);
void vfio_p2p_unmap(struct vfio_part *part);
void vfio_p2p_find_reset(struct vfio_dev *dev, unsigned id, unsigned cap);
void vfio_p2p_written(struct vfio_dev *dev, unsigned off, unsigned len, uint32_t val);

/* irq.c. start gives a fresh device its INTx, and one that was taken over what the guest has asked for meanwhile;
 * load takes the eventfds that the state names. */
void vfio_irq_init(struct vfio_dev *dev);
int vfio_irq_start(struct vfio_dev *dev, struct error *err);
int vfio_irq_load(struct vfio_dev *dev, struct error *err);
void vfio_msix_use(struct pci_vectors *vec, unsigned i);
void vfio_irq_disable(struct vfio_dev *dev);
void vfio_intx_remove(struct vfio_dev *dev);

/* trouble.c. start asks a fresh guest's device to be told; load takes the eventfds that were handed over; end watches
 * them no longer; close closes them too. */
int vfio_trouble_start(struct vfio_dev *dev, struct error *err);
int vfio_trouble_load(struct vfio_dev *dev, struct error *err);
void vfio_trouble_end(struct vfio_dev *dev);
void vfio_trouble_close(struct vfio_dev *dev);

/* eject.c: the guest gives the device up; the leader closes it; a state in which that has been. */
bool vfio_eject(struct pci_dev *pci);
void vfio_release(struct device *base);
int vfio_gone_load(struct vfio_dev *dev, struct error *err);

/* ---- explain.c: what is wrong with the host, and the remedy. Exit code EXIT_HOST. ---- */

/* Where sysfs, procfs and /dev are: unit tests point them elsewhere. */
struct vfio_host {
	const char *sys, *proc, *dev;
};
extern struct vfio_host vfio_host;

/* Does the device exist, have an IOMMU group and a VFIO driver? Gives the group unless @group is NULL. */
int vfio_explain_device(const char *id, unsigned *group, struct error *err);
/* Does the device have an IOMMU group? Gives it. */
bool vfio_group_of(const char *id, unsigned *group);
/* Is it a virtual function of another device (SR-IOV)? */
bool vfio_is_virtual(const char *id);
/* The device's own node (Linux 6.6), which iommufd needs. False: it has none. */
bool vfio_node(const char *id, char *path, size_t size);
int vfio_explain_node(const char *id, const char *path, int code, struct error *err);
/* @code ENOTTY: no file mappings. */
int vfio_explain_iommufd(int code, struct error *err);
int vfio_explain_container(int code, struct error *err);
int vfio_explain_group(const char *id, unsigned group, int code, struct error *err);
int vfio_explain_open(const char *id, unsigned group, int code, struct error *err);
int vfio_explain_viable(const char *id, unsigned group, struct error *err);
int vfio_explain_iommu(const char *id, int code, struct error *err);
/* May this process lock @len bytes? -ENOMEM with the remedy if not. */
int vfio_explain_memlock(uint64_t len, struct error *err);
/* VFIO_UPDATE_VADDR is not there: a mediated device in one of the groups, or an old kernel. */
int vfio_explain_update(const struct vfio_container *c, struct error *err);
