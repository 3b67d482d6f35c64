/* SPDX-License-Identifier: MIT */
/*
 * A driver of virtio devices (VIRTIO 1.2, 4.1 and 2.7). Registers and rings may be used at
 * CPL3; virtio_open and virtio_open_at may not.
 */
#ifndef GUEST_VIRTIO_H
#define GUEST_VIRTIO_H

#include "guest.h"

#define VIRTIO_QUEUE_LEN 64u

#define VIRTIO_F_VERSION_1 (1ull << 32)
#define VIRTIO_F_INDIRECT  (1ull << 28)
#define VIRTIO_F_EVENT_IDX (1ull << 29)

#define VIRTIO_NEEDS_RESET 0x40u

#define VIRTQ_NEXT  1u
#define VIRTQ_WRITE 2u

struct virtq_desc {
	uint64_t gpa;
	uint32_t len;
	uint16_t flags, next;
};

struct virtq_rings {
	struct virtq_desc desc[VIRTIO_QUEUE_LEN];
	struct {
		uint16_t flags;
		volatile uint16_t idx;
		uint16_t ring[VIRTIO_QUEUE_LEN];
		volatile uint16_t used_event;
	} avail;
	struct {
		uint16_t flags;
		volatile uint16_t idx;
		struct {
			uint32_t id, len;
		} ring[VIRTIO_QUEUE_LEN];
		volatile uint16_t avail_event;
	} used __attribute__((aligned(4)));
} __attribute__((aligned(16)));

struct virtio {
	unsigned dev;				 /* PCI */
	volatile uint8_t *common, *isr, *config; /* registers */
	volatile uint8_t *doorbells;
	uint32_t doorbell_len; /* from one queue's to the next */
	unsigned pin;	       /* of the IOAPIC, for INTA */
	unsigned cap_msix;
	uint64_t features; /* agreed on */
};

struct virtq {
	struct virtq_rings *rings;
	volatile uint16_t *doorbell;
	uint16_t index; /* of the queue */
	uint16_t seen;	/* used index up to which chains were taken back */
	bool event_idx;
};

/* What a device of that type has in the first word of its config space. */
static inline uint32_t virtio_id(unsigned type)
{
	return (0x1040 + type) << 16 | 0x1af4;
}

/* Finds the first device of that type; fails the guest where there is none. open_at: the one at PCI address @dev. */
void virtio_open(struct virtio *v, unsigned type);
void virtio_open_at(struct virtio *v, unsigned dev);
/* Reset, features (those that are offered, of @features), queues 0 to @n - 1 with their rings, DRIVER_OK. With @vector
 * MSI-X, to CPU 0, for queues and configuration; 0: INTA, whose pin is the caller's to set. */
void virtio_start(struct virtio *v, uint64_t features, struct virtq *queues, unsigned n,
		  uint8_t vector);

/* The chain that begins at descriptor @head is the device's. kick: it is told, if it wants that. */
void virtq_offer(struct virtq *q, uint16_t head);
void virtq_kick(struct virtq *q, uint16_t from);
/* The next chain that came back: its head, or -1. @len (may be NULL): bytes that the device has written. */
int virtq_take(struct virtq *q, uint32_t *len);

static inline uint8_t virtio_status(const struct virtio *v)
{
	return v->common[20];
}

/* Of the device's configuration. */
static inline uint8_t virtio_generation(const struct virtio *v)
{
	return v->common[21];
}

#endif
