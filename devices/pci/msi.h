/* SPDX-License-Identifier: MIT */
/*
 * MSI capability (PCI Express base specification 7.7.1), with 32- or 64-bit addresses, with or
 * without per-vector masking. All its registers live in the device's config space.
 */
#pragma once

#include "cpr/state/fields.h"
#include "devices/pci/vector.h"

#define MSI_MAX_VECTORS 32

struct pci_dev;

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
	void (*changed)(struct msi *msi, bool enabled);
};

/* Takes the capability that the shadow of @pci has at @cap into service, disabled. */
int msi_init(struct msi *msi, struct pci_dev *pci, unsigned cap, struct msi_state *state,
	     struct error *err);
void msi_free(struct msi *msi);
int msi_load(struct msi *msi, struct error *err);

/* How many vectors the guest has asked for: 1 to msi->vec.n. */
unsigned msi_vectors_used(const struct msi *msi);

void msi_update(struct msi *msi);

/* config.c calls these around accesses to config space. */
void msi_config_reading(struct msi *msi, unsigned off, unsigned len);
void msi_config_written(struct msi *msi, unsigned off, unsigned len);
