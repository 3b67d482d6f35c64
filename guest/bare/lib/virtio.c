/* SPDX-License-Identifier: MIT */
#include "virtio.h"

#define COMMAND	     0x04
#define BAR0	     0x10
#define INTR_LINE    0x3c
#define CAP_MSIX     0x11
#define CAP_VENDOR   0x09
#define MSIX_ENABLE  (1u << 31)
#define MSI_TO_CPU_0 0xfee00000u

/* Kinds of capabilities, and registers of the common configuration. */
enum { COMMON = 1, NOTIFY, ISR, DEVICE };
#define DEVICE_FEATURE_SELECT 0
#define DEVICE_FEATURE	      4
#define DRIVER_FEATURE_SELECT 8
#define DRIVER_FEATURE	      12
#define CONFIG_VECTOR	      16
#define STATUS		      20
#define QUEUE_SELECT	      22
#define QUEUE_SIZE	      24
#define QUEUE_VECTOR	      26
#define QUEUE_ENABLE	      28
#define QUEUE_NOTIFY	      30
#define QUEUE_DESC	      32
#define QUEUE_AVAIL	      40
#define QUEUE_USED	      48

static void put16(struct virtio *v, unsigned reg, uint16_t val)
{
	*(volatile uint16_t *)(v->common + reg) = val;
}

static void put32(struct virtio *v, unsigned reg, uint32_t val)
{
	*(volatile uint32_t *)(v->common + reg) = val;
}

static uint32_t get32(const struct virtio *v, unsigned reg)
{
	return *(volatile uint32_t *)(v->common + reg);
}

static volatile uint8_t *register_at(const struct virtio *v, unsigned cap)
{
	unsigned bar = BAR0 + 4 * (pci_read(v->dev, cap + 4) & 0xff);

	return (volatile uint8_t *)(uintptr_t)((pci_read(v->dev, bar) & ~0xfu) +
					       pci_read(v->dev, cap + 8));
}

static void capability_take(struct virtio *v, unsigned at, unsigned kind)
{
	if (kind == COMMON)
		v->common = register_at(v, at);
	else if (kind == ISR)
		v->isr = register_at(v, at);
	else if (kind == DEVICE)
		v->config = register_at(v, at);
	else if (kind == NOTIFY) {
		v->doorbells = register_at(v, at);
		v->doorbell_len = pci_read(v->dev, at + 16);
	}
}

void virtio_open(struct virtio *v, unsigned type)
{
	int dev = pci_find(virtio_id(type));

	if (dev < 0)
		guest_fail("no virtio device of type %u", type);
	virtio_open_at(v, (unsigned)dev);
}

void virtio_open_at(struct virtio *v, unsigned dev)
{
	*v = (struct virtio){.dev = dev};
	pci_write(v->dev, COMMAND, 6); /* memory, bus master */
	v->pin = pci_read(v->dev, INTR_LINE) & 0xff;
	v->cap_msix = pci_capability(v->dev, CAP_MSIX);
	unsigned at = pci_read(v->dev, 0x34) & 0xfc;
	for (unsigned n = 0; at && n < 48; n++) {
		uint32_t head = pci_read(v->dev, at);
		if ((head & 0xff) == CAP_VENDOR)
			capability_take(v, at, head >> 24);
		at = head >> 8 & 0xfc;
	}
	/* A source of random bytes has no configuration. */
	if (!v->common || !v->isr || !v->doorbells)
		guest_fail("virtio: a capability is missing");
}

static void msix_enable(struct virtio *v, uint8_t vector)
{
	uint32_t where = pci_read(v->dev, v->cap_msix + 4);
	unsigned vectors = (pci_read(v->dev, v->cap_msix) >> 16 & 0x7ff) + 1;
	volatile uint32_t *table =
		(volatile uint32_t *)(uintptr_t)((pci_read(v->dev, BAR0 + 4 * (where & 7)) &
						  ~0xfu) +
						 (where & ~7u));

	for (unsigned i = 0; i < vectors; i++) {
		table[4 * i] = MSI_TO_CPU_0;
		table[4 * i + 1] = 0;
		table[4 * i + 2] = vector;
		table[4 * i + 3] = 0;
	}
	pci_write(v->dev, v->cap_msix, pci_read(v->dev, v->cap_msix) | MSIX_ENABLE);
}

static void status_put(struct virtio *v, uint8_t val)
{
	v->common[STATUS] = val;
}

static void features_agree(struct virtio *v, uint64_t want)
{
	uint64_t offered = 0;

	for (unsigned i = 0; i < 2; i++) {
		put32(v, DEVICE_FEATURE_SELECT, i);
		offered |= (uint64_t)get32(v, DEVICE_FEATURE) << 32 * i;
	}
	v->features = offered & (want | VIRTIO_F_VERSION_1);
	for (unsigned i = 0; i < 2; i++) {
		put32(v, DRIVER_FEATURE_SELECT, i);
		put32(v, DRIVER_FEATURE, (uint32_t)(v->features >> 32 * i));
	}
}

static void address_put(struct virtio *v, unsigned reg, const volatile void *at)
{
	put32(v, reg, (uint32_t)(uintptr_t)at);
	put32(v, reg + 4, (uint32_t)((uintptr_t)at >> 32));
}

static void queue_start(struct virtio *v, struct virtq *q, uint16_t index)
{
	struct virtq_rings *rings = q->rings;

	memset(rings, 0, sizeof(*rings));
	put16(v, QUEUE_SELECT, index);
	put16(v, QUEUE_SIZE, VIRTIO_QUEUE_LEN);
	put16(v, QUEUE_VECTOR, (uint16_t)(index + 1));
	address_put(v, QUEUE_DESC, rings->desc);
	address_put(v, QUEUE_AVAIL, &rings->avail);
	address_put(v, QUEUE_USED, &rings->used);
	put16(v, QUEUE_ENABLE, 1);
	q->index = index;
	q->seen = 0;
	q->event_idx = v->features & VIRTIO_F_EVENT_IDX;
	q->doorbell = (volatile uint16_t *)(v->doorbells +
					    v->doorbell_len * *(volatile uint16_t *)(v->common +
										     QUEUE_NOTIFY));
}

void virtio_start(struct virtio *v, uint64_t features, struct virtq *queues, unsigned n,
		  uint8_t vector)
{
	status_put(v, 0);
	while (virtio_status(v))
		;
	status_put(v, 3);
	features_agree(v, features);
	status_put(v, 11);
	if (!(virtio_status(v) & 8))
		guest_fail("virtio: the device refuses its own features");
	if (vector)
		msix_enable(v, vector);
	put16(v, CONFIG_VECTOR, 0);
	for (unsigned i = 0; i < n; i++)
		queue_start(v, &queues[i], (uint16_t)i);
	status_put(v, 15);
}

void virtq_offer(struct virtq *q, uint16_t head)
{
	uint16_t idx = q->rings->avail.idx;

	q->rings->avail.ring[idx % VIRTIO_QUEUE_LEN] = head;
	__asm__ volatile("" : : : "memory");
	q->rings->avail.idx = (uint16_t)(idx + 1);
}

/* @from: the available index before what was offered since the last kick (2.7.10). */
void virtq_kick(struct virtq *q, uint16_t from)
{
	uint16_t now = q->rings->avail.idx;

	__asm__ volatile("lock addl $0, (%%rsp)" : : : "memory");
	uint16_t event = q->rings->used.avail_event;
	if (q->event_idx ? (uint16_t)(now - event - 1) < (uint16_t)(now - from) : now != from)
		*q->doorbell = q->index;
}

int virtq_take(struct virtq *q, uint32_t *len)
{
	if (q->rings->used.idx == q->seen)
		return -1;
	int head = (int)q->rings->used.ring[q->seen % VIRTIO_QUEUE_LEN].id;
	if (len)
		*len = q->rings->used.ring[q->seen % VIRTIO_QUEUE_LEN].len;
	/* The next interrupt is due with the next chain (2.7.7.1). */
	q->rings->avail.used_event = ++q->seen;
	__asm__ volatile("lock addl $0, (%%rsp)" : : : "memory");
	return head;
}
