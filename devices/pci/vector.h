/* SPDX-License-Identifier: MIT */
/*
 * What MSI and MSI-X have in common: vectors, each an eventfd of the owner. Delivered, it has an
 * irqfd; masked, it has none, and then the eventfd itself is the pending bit.
 */
#pragma once

#include "vmm/base/base.h"

struct device;
struct irq;
struct irq_source;

struct pci_vectors {
	struct device *owner;
	struct irq *irq;
	unsigned n;
	uint32_t *gsi;		/* state of the owner, one per vector; 0: none yet */
	struct irq_source *src; /* @n of them */
	unsigned complaints;
};

int pci_vectors_init(struct pci_vectors *v, struct device *owner, unsigned n, uint32_t *gsi,
		     struct error *err);
void pci_vectors_free(struct pci_vectors *v);

/* After the state was loaded: claims the GSIs the guest's vectors had. */
int pci_vectors_load(struct pci_vectors *v, struct error *err);

/* Gives vector @i its eventfd (stays the caller's), or takes it away: -1. */
void pci_vector_set_fd(struct pci_vectors *v, unsigned i, int fd);

/* Delivers vector @i as this message, or holds it back. */
void pci_vector_want(struct pci_vectors *v, unsigned i, bool want, uint64_t addr, uint32_t data);

/* Is there a signal that vector @i holds back? */
bool pci_vector_pending(const struct pci_vectors *v, unsigned i);

/* Takes all eventfds away and gives the GSIs back. */
void pci_vectors_release(struct pci_vectors *v);
