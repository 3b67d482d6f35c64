/* SPDX-License-Identifier: MIT */
/* The MSI capability: what the guest writes into it, and its vectors. */
#include "devices/pci/msi.h"

#include <linux/pci_regs.h>

#include "devices/pci/pci.h"

#define FLAGS_QMASK_SHIFT 1
#define FLAGS_QSIZE_SHIFT 4

static uint32_t msi_flags(const struct msi *msi)
{
	return pci_config_get(msi->pci, msi->cap + PCI_MSI_FLAGS, 2);
}

int msi_init(struct msi *msi, struct pci_dev *pci, unsigned cap, struct msi_state *state,
	     struct error *err)
{
	uint32_t flags = pci_config_get(pci, cap + PCI_MSI_FLAGS, 2);
	unsigned log2n = (flags & PCI_MSI_FLAGS_QMASK) >> FLAGS_QMASK_SHIFT;
	unsigned n = 1u << (log2n <= 5 ? log2n : 5); /* 6 and 7 are reserved */

	msi->pci = pci;
	msi->state = state;
	msi->cap = cap;
	msi->wide = flags & PCI_MSI_FLAGS_64BIT;
	msi->data_reg = cap + (msi->wide ? PCI_MSI_DATA_64 : PCI_MSI_DATA_32);
	msi->mask_reg = 0;
	msi->len = msi->data_reg + 2 - cap;
	if (flags & PCI_MSI_FLAGS_MASKBIT) {
		msi->mask_reg = cap + (msi->wide ? PCI_MSI_MASK_64 : PCI_MSI_MASK_32);
		msi->len = msi->mask_reg + 8 - cap; /* the pending bits come last */
	}
	if (cap + msi->len > 256)
		return error_set(err, EINVAL, "%s: MSI capability at 0x%x is too long",
				 pci->owner->name, cap);
	int rc = pci_vectors_init(&msi->vec, pci->owner, n, state->gsi, err);
	if (rc)
		return rc;
	state->vectors = n;
	for (unsigned off = cap + PCI_MSI_ADDRESS_LO; off < cap + msi->len; off++)
		pci_config_set(pci, off, 1, 0);
	pci_config_set(pci, cap + PCI_MSI_FLAGS, 2,
		       flags & (PCI_MSI_FLAGS_QMASK | PCI_MSI_FLAGS_64BIT | PCI_MSI_FLAGS_MASKBIT));
	pci_config_allow(pci, cap + PCI_MSI_FLAGS, 2, PCI_MSI_FLAGS_ENABLE | PCI_MSI_FLAGS_QSIZE);
	pci_config_allow(pci, cap + PCI_MSI_ADDRESS_LO, 4, ~3u);
	if (msi->wide)
		pci_config_allow(pci, cap + PCI_MSI_ADDRESS_HI, 4, ~0u);
	pci_config_allow(pci, msi->data_reg, 2, 0xffff);
	if (msi->mask_reg)
		pci_config_allow(pci, msi->mask_reg, 4, (uint32_t)(((uint64_t)1 << n) - 1));
	pci->msi = msi;
	return 0;
}

int msi_load(struct msi *msi, struct error *err)
{
	if (msi->state->vectors != msi->vec.n)
		return error_set(err, EBADMSG, "%s: MSI state of %u vectors, it has %u",
				 msi->pci->owner->name, msi->state->vectors, msi->vec.n);
	msi->enabled = msi_flags(msi) & PCI_MSI_FLAGS_ENABLE;
	return pci_vectors_load(&msi->vec, err);
}

unsigned msi_vectors_used(const struct msi *msi)
{
	unsigned n = 1u << ((msi_flags(msi) & PCI_MSI_FLAGS_QSIZE) >> FLAGS_QSIZE_SHIFT);
	return n < msi->vec.n ? n : msi->vec.n;
}

void msi_update(struct msi *msi)
{
	struct pci_dev *pci = msi->pci;
	uint64_t addr = pci_config_get(pci, msi->cap + PCI_MSI_ADDRESS_LO, 4);
	uint32_t data = pci_config_get(pci, msi->data_reg, 2);
	uint32_t masked = msi->mask_reg ? pci_config_get(pci, msi->mask_reg, 4) : 0;
	unsigned used = msi_vectors_used(msi);

	if (msi->wide)
		addr |= (uint64_t)pci_config_get(pci, msi->cap + PCI_MSI_ADDRESS_HI, 4) << 32;
	/* The device puts the vector's number into the low bits of the message. */
	for (unsigned i = 0; i < msi->vec.n; i++)
		pci_vector_want(&msi->vec, i,
				msi->enabled && i < used && !(masked & ((uint32_t)1 << i)), addr,
				(data & ~(used - 1)) | i);
}

void msi_config_written(struct msi *msi, unsigned off, unsigned len)
{
	if (!ranges_overlap(off, len, msi->cap, msi->len))
		return;
	bool on = msi_flags(msi) & PCI_MSI_FLAGS_ENABLE;
	bool was = msi->enabled;
	msi->enabled = on;
	if (on != was && msi->changed)
		msi->changed(msi, on);
	msi_update(msi);
}

void msi_config_reading(struct msi *msi, unsigned off, unsigned len)
{
	unsigned pending_reg = msi->mask_reg + 4;
	if (!msi->mask_reg || !ranges_overlap(off, len, pending_reg, 4))
		return;
	uint32_t bits = 0;
	for (unsigned i = 0; i < msi->vec.n; i++)
		bits |= (uint32_t)pci_vector_pending(&msi->vec, i) << i;
	pci_config_set(msi->pci, pending_reg, 4, bits);
}
