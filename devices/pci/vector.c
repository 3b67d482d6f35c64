/* SPDX-License-Identifier: MIT */
/* Vectors: an eventfd each, with an irqfd and a route while the guest wants them delivered. */
#include "devices/pci/vector.h"

#include "vmm/machine.h"

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
	struct error err = {0};

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
	if (irq_set_wanted(v->irq, src, want, &err) && log_guest_ok(&v->complaints, 5))
		log_warn("%s: vector %u: %s", v->owner->name, i, err.text);
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
