/* SPDX-License-Identifier: MIT */
/* Message vectors; the MSI capability; the MSI-X capability with its table and pending bits in a
 * BAR. */
#include "devices/pci/msi.h"

#include <linux/pci_regs.h>

#include "devices/pci/pci.h"
#include "vmm/machine.h"

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
	pci_vectors_apply(&msi->vec);
}

void msi_config_written(struct msi *msi, unsigned off, unsigned len)
{
	if (!ranges_overlap(off, len, msi->cap, msi->len))
		return;
	bool on = msi_flags(msi) & PCI_MSI_FLAGS_ENABLE;
	bool was = msi->enabled;
	msi->enabled = on;
	if (on != was && msi->changed && msi->changed(msi, on) && on) {
		pci_config_set(msi->pci, msi->cap + PCI_MSI_FLAGS, 2,
			       msi_flags(msi) & ~PCI_MSI_FLAGS_ENABLE);
		msi->enabled = false;
	}
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

/* ---- MSI-X ---- */

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
	pci_vectors_apply(&msix->vec);
}

void msix_config_written(struct msix *msix, unsigned off, unsigned len)
{
	if (!ranges_overlap(off, len, msix->cap + PCI_MSIX_FLAGS, 2))
		return;
	bool on = msix_control(msix) & PCI_MSIX_FLAGS_ENABLE;
	bool was = msix->enabled;
	msix->enabled = on;
	if (on != was && msix->changed && msix->changed(msix, on) && on) {
		pci_config_set(msix->pci, msix->cap + PCI_MSIX_FLAGS, 2,
			       msix_control(msix) & ~PCI_MSIX_FLAGS_ENABLE);
		msix->enabled = false;
	}
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
	pci_vectors_apply(&msix->vec);
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
	const struct {
		unsigned bar;
		uint64_t off, len;
		void (*access)(struct msix *msix, uint64_t off, struct bus_access *access);
	} parts[] = {{msix->table_bar, msix->table_off, msix->table_len, table_access},
		     {msix->pba_bar, msix->pba_off, msix->pba_len, pba_access}};
	for (unsigned i = 0; i < ARRAY_LEN(parts); i++) {
		uint64_t start = parts[i].off, len = parts[i].len;
		if (bar != parts[i].bar || !ranges_overlap(off, access->len, start, len))
			continue;
		if (off >= start && range_fits(off - start, access->len, len))
			parts[i].access(msix, off - start, access);
		return true;
	}
	return false;
}

/* ---- vectors: an eventfd each, with an irqfd and a route while the guest wants them delivered
 * ---- */

int pci_vectors_init(struct pci_vectors *v, struct device *owner, unsigned n, uint32_t *gsi,
		     struct error *err)
{
	*v = (struct pci_vectors){.owner = owner, .irq = &owner->m->irq, .n = n, .gsi = gsi};
	v->src = pool_alloc(n ? n : 1, sizeof(*v->src));
	if (!v->src)
		return error_errno(err, ENOMEM, "%s: %u interrupt vectors", owner->name, n);
	for (unsigned i = 0; i < n; i++)
		v->src[i] = (struct irq_source){.kind = IRQ_MSI, .fd = -1, .unmask_fd = -1};
	return 0;
}

void pci_vectors_free(struct pci_vectors *v)
{
	for (unsigned i = 0; v->src && i < v->n; i++)
		pci_vector_set_fd(v, i, -1);
	pool_free(v->src);
	v->src = NULL;
}

int pci_vectors_load(struct pci_vectors *v, struct error *err)
{
	for (unsigned i = 0; i < v->n; i++) {
		uint32_t gsi = v->gsi[i];
		if (!gsi)
			continue;
		int rc = gsi < IRQ_PINS ? -EINVAL : irq_gsi_take(v->irq, gsi);
		if (rc)
			return error_errno(err, -rc, "%s: vector %u claims GSI %u", v->owner->name,
					   i, gsi);
	}
	return 0;
}

void pci_vector_set_fd(struct pci_vectors *v, unsigned i, int fd)
{
	struct irq_source *src = &v->src[i];
	if (src->fd == fd) { /* a state that is loaded again */
		src->gsi = v->gsi[i];
		return;
	}
	if (src->fd >= 0)
		irq_remove(v->irq, src);
	*src = (struct irq_source){.kind = IRQ_MSI, .fd = fd, .unmask_fd = -1, .gsi = v->gsi[i]};
	if (fd >= 0)
		irq_add(v->irq, src);
}

void pci_vector_want(struct pci_vectors *v, unsigned i, bool want, uint64_t addr, uint32_t data)
{
	struct irq_source *src = &v->src[i];

	if (want && src->fd < 0 && v->use)
		v->use(v, i);
	want = want && src->fd >= 0;
	if (!want && !src->wanted)
		return;
	if (want && !v->gsi[i]) {
		int gsi = irq_gsi_alloc(v->irq);
		if (gsi < 0) {
			if (log_guest_ok(&v->complaints, 5))
				log_warn("%s: no interrupt route left for vector %u: it stays "
					 "silent",
					 v->owner->name, i);
			return;
		}
		v->gsi[i] = (uint32_t)gsi;
	}
	if (want) {
		src->gsi = v->gsi[i];
		src->msi_addr = addr;
		src->msi_data = data;
	}
	irq_want(v->irq, src, want);
}

void pci_vectors_apply(struct pci_vectors *v)
{
	struct error err = {0};
	if (!irq_apply(v->irq, &err) || !log_guest_ok(&v->complaints, 5))
		return;
	error_prefix(&err, "%s: not all interrupt vectors are as the guest wants", v->owner->name);
	log_error(&err);
}

bool pci_vector_pending(const struct pci_vectors *v, unsigned i)
{
	const struct irq_source *src = &v->src[i];
	return src->fd >= 0 && !src->wanted && irq_pending(src);
}

void pci_vectors_release(struct pci_vectors *v)
{
	for (unsigned i = 0; i < v->n; i++) {
		pci_vector_set_fd(v, i, -1);
		if (v->gsi[i])
			irq_gsi_free(v->irq, v->gsi[i]);
		v->gsi[i] = 0;
	}
}
