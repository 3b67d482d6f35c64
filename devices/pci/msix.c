/* SPDX-License-Identifier: MIT */
/* The MSI-X capability: table and pending bits in a BAR, and its vectors. */
#include "devices/pci/msi.h"

#include <linux/pci_regs.h>

#include "devices/pci/pci.h"
#include "vmm/bus.h"

#define WORD_DATA 2
#define WORD_CTRL 3

static uint32_t msix_control(const struct msix *msix)
{
	return pci_config_get(msix->pci, msix->cap + PCI_MSIX_FLAGS, 2);
}

void msix_cap_write(struct pci_dev *pci, unsigned cap, unsigned n, unsigned bar, uint32_t table_off,
		    uint32_t pba_off)
{
	pci_config_set(pci, cap, 1, PCI_CAP_ID_MSIX);
	pci_config_set(pci, cap + PCI_MSIX_FLAGS, 2, n - 1);
	pci_config_set(pci, cap + PCI_MSIX_TABLE, 4, table_off | bar);
	pci_config_set(pci, cap + PCI_MSIX_PBA, 4, pba_off | bar);
}

int msix_init(struct msix *msix, struct pci_dev *pci, unsigned cap, struct msix_state *state,
	      struct error *err)
{
	uint32_t control = pci_config_get(pci, cap + PCI_MSIX_FLAGS, 2);
	uint32_t table = pci_config_get(pci, cap + PCI_MSIX_TABLE, 4);
	uint32_t pba = pci_config_get(pci, cap + PCI_MSIX_PBA, 4);
	unsigned n = (control & PCI_MSIX_FLAGS_QSIZE) + 1; /* 11 bits: at most MSIX_MAX_VECTORS */

	msix->pci = pci;
	msix->state = state;
	msix->cap = cap;
	msix->table_bar = table & PCI_MSIX_TABLE_BIR;
	msix->table_off = table & PCI_MSIX_TABLE_OFFSET;
	msix->table_len = (uint64_t)n * MSIX_ENTRY_LEN;
	msix->pba_bar = pba & PCI_MSIX_PBA_BIR;
	msix->pba_off = pba & PCI_MSIX_PBA_OFFSET;
	msix->pba_len = align_up(n, 64) / 8;
	if (msix->table_bar >= PCI_BAR_ROM || msix->pba_bar >= PCI_BAR_ROM)
		return error_set(err, EINVAL, "%s: MSI-X table in BAR %u, pending bits in BAR %u",
				 pci->owner->name, msix->table_bar, msix->pba_bar);
	int rc = pci_vectors_init(&msix->vec, pci->owner, n, state->gsi, err);
	if (rc)
		return rc;
	state->vectors = n;
	state->words = n * MSIX_ENTRY_WORDS;
	for (unsigned i = 0; i < n; i++)
		state->table[i * MSIX_ENTRY_WORDS + WORD_CTRL] = PCI_MSIX_ENTRY_CTRL_MASKBIT;
	pci_config_set(pci, cap + PCI_MSIX_FLAGS, 2,
		       control & ~(PCI_MSIX_FLAGS_ENABLE | PCI_MSIX_FLAGS_MASKALL));
	pci_config_allow(pci, cap + PCI_MSIX_FLAGS, 2,
			 PCI_MSIX_FLAGS_ENABLE | PCI_MSIX_FLAGS_MASKALL);
	pci->msix = msix;
	return 0;
}

int msix_load(struct msix *msix, struct error *err)
{
	const struct msix_state *s = msix->state;
	if (s->vectors != msix->vec.n || s->words != msix->vec.n * MSIX_ENTRY_WORDS)
		return error_set(err, EBADMSG,
				 "%s: MSI-X state of %u vectors (%u words), it has %u",
				 msix->pci->owner->name, s->vectors, s->words, msix->vec.n);
	msix->enabled = msix_control(msix) & PCI_MSIX_FLAGS_ENABLE;
	return pci_vectors_load(&msix->vec, err);
}

static void vector_update(struct msix *msix, unsigned i)
{
	const uint32_t *e = &msix->state->table[i * MSIX_ENTRY_WORDS];
	bool want = msix->enabled && !(msix_control(msix) & PCI_MSIX_FLAGS_MASKALL) &&
		    !(e[WORD_CTRL] & PCI_MSIX_ENTRY_CTRL_MASKBIT);
	pci_vector_want(&msix->vec, i, want, e[0] | (uint64_t)e[1] << 32, e[WORD_DATA]);
}

void msix_update(struct msix *msix)
{
	for (unsigned i = 0; i < msix->vec.n; i++)
		vector_update(msix, i);
}

void msix_config_written(struct msix *msix, unsigned off, unsigned len)
{
	if (!ranges_overlap(off, len, msix->cap + PCI_MSIX_FLAGS, 2))
		return;
	bool on = msix_control(msix) & PCI_MSIX_FLAGS_ENABLE;
	bool was = msix->enabled;
	msix->enabled = on;
	if (on != was && msix->changed)
		msix->changed(msix, on);
	msix_update(msix);
}

/* @off from the table's start, the whole access inside it. */
static void table_access(struct msix *msix, uint64_t off, struct bus_access *access)
{
	uint8_t *bytes = (uint8_t *)msix->state->table + off;
	if (!access->write) {
		access->value = load_le(bytes, access->len);
		return;
	}
	if (access->len < 4 || off % access->len)
		return;
	store_le(bytes, access->value, access->len);
	unsigned i = (unsigned)(off / MSIX_ENTRY_LEN);
	/* The other bits of the control word are reserved: they read as zero. */
	msix->state->table[i * MSIX_ENTRY_WORDS + WORD_CTRL] &= PCI_MSIX_ENTRY_CTRL_MASKBIT;
	vector_update(msix, i);
}

static void pba_access(struct msix *msix, uint64_t off, struct bus_access *access)
{
	if (access->write)
		return;
	uint64_t bits = 0;
	for (unsigned i = 0; i < access->len * 8; i++) {
		uint64_t vector = off * 8 + i;
		if (vector < msix->vec.n && pci_vector_pending(&msix->vec, (unsigned)vector))
			bits |= (uint64_t)1 << i;
	}
	access->value = bits;
}

bool msix_access(struct msix *msix, unsigned bar, uint64_t off, struct bus_access *access)
{
	if (bar == msix->table_bar &&
	    ranges_overlap(off, access->len, msix->table_off, msix->table_len)) {
		if (off >= msix->table_off &&
		    range_fits(off - msix->table_off, access->len, msix->table_len))
			table_access(msix, off - msix->table_off, access);
		return true;
	}
	if (bar == msix->pba_bar &&
	    ranges_overlap(off, access->len, msix->pba_off, msix->pba_len)) {
		if (off >= msix->pba_off &&
		    range_fits(off - msix->pba_off, access->len, msix->pba_len))
			pba_access(msix, off - msix->pba_off, access);
		return true;
	}
	return false;
}
