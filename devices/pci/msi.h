/* SPDX-License-Identifier: MIT */
/* MSI capability (PCI Express base specification 7.7.1). All its registers live in the device's
 * config space. */
#pragma once

#include "cpr/state/fields.h"

struct pci_vectors {
	struct device *owner;
	struct irq *irq;
	unsigned n;
	uint32_t *gsi;		/* state of the owner, one per vector; 0: none yet */
	struct irq_source *src; /* @n of them */
	/* Called when the guest wants vector @i, which has no eventfd yet: may give it one. NULL: nothing to do. */
	void (*use)(struct pci_vectors *v, unsigned i);
	unsigned complaints;
};

int pci_vectors_init(struct pci_vectors *v, struct device *owner, unsigned n, uint32_t *gsi,
		     struct error *err);
void pci_vectors_free(struct pci_vectors *v);
int pci_vectors_load(struct pci_vectors *v, struct error *err);

/* Gives vector @i its eventfd (stays the caller's), or takes it away: -1. */
void pci_vector_set_fd(struct pci_vectors *v, unsigned i, int fd);
/* Notes what the guest wants of vector @i. pci_vectors_apply does it, for all that have changed at once. */
void pci_vector_want(struct pci_vectors *v, unsigned i, bool want, uint64_t addr, uint32_t data);
void pci_vectors_apply(struct pci_vectors *v);
bool pci_vector_pending(const struct pci_vectors *v, unsigned i);
void pci_vectors_release(struct pci_vectors *v);

#define MSI_MAX_VECTORS 32

struct msi_state {
	uint32_t vectors; /* counts @gsi */
	uint32_t gsi[MSI_MAX_VECTORS];
};

#define MSI_STATE_FIELDS(S, m) FIELD_ARRAY_LEN(S, m.gsi, m.vectors)

struct msi {
	struct pci_dev *pci;
	struct msi_state *state; /* the owner's */
	struct pci_vectors vec;	 /* as many as the device can have */
	unsigned cap, len;	 /* of the capability, in bytes */
	unsigned data_reg;	 /* offsets in config space */
	unsigned mask_reg;	 /* 0: vectors cannot be masked */
	bool wide;		 /* 64-bit address */
	bool enabled;
	/* As in struct msix. */
	int (*changed)(struct msi *msi, bool enabled);
};

/* Takes the capability that the shadow of @pci has at @cap into service, disabled. */
int msi_init(struct msi *msi, struct pci_dev *pci, unsigned cap, struct msi_state *state,
	     struct error *err);
int msi_load(struct msi *msi, struct error *err);

/* How many vectors the guest has asked for: 1 to msi->vec.n. */
unsigned msi_vectors_used(const struct msi *msi);

void msi_update(struct msi *msi);

/* config.c calls these around accesses to config space. */
void msi_config_reading(struct msi *msi, unsigned off, unsigned len);
void msi_config_written(struct msi *msi, unsigned off, unsigned len);

/* ---- MSI-X (7.7.2): the control word lives in config space, the table here, in the layout the
 * guest sees ---- */

#define MSIX_MAX_VECTORS 2048
#define MSIX_ENTRY_WORDS 4 /* address low, address high, data, control */
#define MSIX_ENTRY_LEN	 16
#define MSIX_CAP_LEN	 12

struct bus_access;

struct msix_state {
	uint32_t vectors; /* counts @gsi */
	uint32_t words;	  /* counts @table: 4 times vectors */
	uint32_t gsi[MSIX_MAX_VECTORS];
	uint32_t table[MSIX_MAX_VECTORS * MSIX_ENTRY_WORDS];
};

#define MSIX_STATE_FIELDS(S, m)                                                                    \
	FIELD_ARRAY_LEN(S, m.gsi, m.vectors), FIELD_ARRAY_LEN(S, m.table, m.words)

struct msix {
	struct pci_dev *pci;
	struct msix_state *state; /* the owner's */
	struct pci_vectors vec;
	unsigned cap;
	unsigned table_bar, pba_bar;
	uint64_t table_off, pba_off; /* in those BARs */
	uint64_t table_len, pba_len;
	bool enabled;
	/* Called when the guest has set or cleared the enable bit, before the vectors follow: may give them
	 * eventfds. -errno: there are none, and the enable bit is cleared again. May be NULL. */
	int (*changed)(struct msix *msix, bool enabled);
};

/* Writes a capability for @n vectors into the shadow at @cap (pointer chain: the caller's). */
void msix_cap_write(struct pci_dev *pci, unsigned cap, unsigned n, unsigned bar, uint32_t table_off,
		    uint32_t pba_off);

/* Takes the capability that the shadow of @pci has at @cap into service: disabled, every vector
 * masked. */
int msix_init(struct msix *msix, struct pci_dev *pci, unsigned cap, struct msix_state *state,
	      struct error *err);

/* After the state was loaded. Eventfds come after it (pci_vector_set_fd), then msix_update. */
int msix_load(struct msix *msix, struct error *err);

/* Serves an access to the table or the pending bits. Writes other than of 4 or 8 aligned bytes
 * vanish. */
bool msix_access(struct msix *msix, unsigned bar, uint64_t off, struct bus_access *access);
void msix_update(struct msix *msix);

/* config.c calls this after each write to config space. */
void msix_config_written(struct msix *msix, unsigned off, unsigned len);
