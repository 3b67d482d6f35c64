/* SPDX-License-Identifier: MIT */
#include "virtio.h"

#define VENDOR	     0x1af4u
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
	else if (kind == NOTIFY)
		v->doorbell = (volatile uint32_t *)register_at(v, at);
}

void virtio_open(struct virtio *v, unsigned type)
{
	int dev = pci_find((0x1040 + type) << 16 | VENDOR);

	if (dev < 0)
		guest_fail("no virtio device of type %u", type);
	*v = (struct virtio){.dev = (unsigned)dev};
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
	if (!v->common || !v->isr || !v->config || !v->doorbell)
		guest_fail("virtio: a capability is missing");
}

static void msix_enable(struct virtio *v, uint8_t vector)
{
	uint32_t where = pci_read(v->dev, v->cap_msix + 4);
	volatile uint32_t *table =
		(volatile uint32_t *)(uintptr_t)((pci_read(v->dev, BAR0 + 4 * (where & 7)) &
						  ~0xfu) +
						 (where & ~7u));

	for (unsigned i = 0; i < 2; i++) {
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

void virtio_start(struct virtio *v, uint64_t features, struct virtq_rings *rings, uint8_t vector)
{
	status_put(v, 0);
	while (virtio_status(v))
		;
	status_put(v, 3);
	features_agree(v, features);
	status_put(v, 11);
	if (!(virtio_status(v) & 8))
		guest_fail("virtio: the device refuses its own features");
	memset(rings, 0, sizeof(*rings));
	v->rings = rings;
	v->seen = 0;
	if (vector)
		msix_enable(v, vector);
	put16(v, CONFIG_VECTOR, 0);
	put16(v, QUEUE_SELECT, 0);
	put16(v, QUEUE_SIZE, VIRTIO_QUEUE_LEN);
	put16(v, QUEUE_VECTOR, 1);
	address_put(v, QUEUE_DESC, rings->desc);
	address_put(v, QUEUE_AVAIL, &rings->avail);
	address_put(v, QUEUE_USED, &rings->used);
	put16(v, QUEUE_ENABLE, 1);
	status_put(v, 15);
}

void virtq_offer(struct virtio *v, uint16_t head)
{
	uint16_t idx = v->rings->avail.idx;

	v->rings->avail.ring[idx % VIRTIO_QUEUE_LEN] = head;
	__asm__ volatile("" : : : "memory");
	v->rings->avail.idx = (uint16_t)(idx + 1);
}

/* @from: the available index before what was offered since the last kick (2.7.10). */
void virtq_kick(struct virtio *v, uint16_t from)
{
	uint16_t now = v->rings->avail.idx;

	__asm__ volatile("lock addl $0, (%%rsp)" : : : "memory");
	uint16_t event = v->rings->used.avail_event;
	if (!(v->features & VIRTIO_F_EVENT_IDX) ||
	    (uint16_t)(now - event - 1) < (uint16_t)(now - from))
		*v->doorbell = 0;
}

int virtq_take(struct virtio *v)
{
	if (v->rings->used.idx == v->seen)
		return -1;
	int head = (int)v->rings->used.ring[v->seen++ % VIRTIO_QUEUE_LEN].id;
	/* The next interrupt is due with the next chain (2.7.7.1). */
	v->rings->avail.used_event = v->seen;
	__asm__ volatile("lock addl $0, (%%rsp)" : : : "memory");
	return head;
}
