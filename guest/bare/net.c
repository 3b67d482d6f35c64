/* SPDX-License-Identifier: MIT */
/*
 * net: sends each frame back that comes to its virtio network interface, from the buffer that it came in. An interrupt
 * says when; one that does not come fails the guest. Host: 'q' ends.
 */
#include "guest.h"

/* ---- a driver of a device with several split queues (VIRTIO 1.2, 2.7 and 4.1) ---- */

#define VIRTQ_SIZE 64
struct virtq_desc {
	uint64_t addr;
	uint32_t len;
	uint16_t flags, next;
};
struct virtq {
	struct virtq_desc desc[VIRTQ_SIZE] __attribute__((aligned(16)));
	struct {
		uint16_t flags;
		volatile uint16_t idx;
		volatile uint16_t ring[VIRTQ_SIZE + 1];
	} avail;
	struct {
		uint16_t flags;
		volatile uint16_t idx;
		volatile struct {
			uint32_t id, len;
		} ring[VIRTQ_SIZE];
		uint16_t event;
	} used __attribute__((aligned(4)));
	volatile uint8_t *bell;
	uint16_t index, seen; /* of the queue; how much of used[] was taken */
};
struct virtio {
	unsigned dev; /* PCI */
	volatile uint8_t *common, *config, *doorbells;
	uint32_t doorbell_len;
};
#define VENDOR	   0x1af4u
#define DEVICE_IDS 0x1040u /* plus the type */
#define CAP_VENDOR 0x09
#define BAR0	   0x10
#define COMMAND	   0x04

/* Kinds of capabilities (4.1.4), and registers of the common configuration (4.1.4.3). */
#define CFG_COMMON	  1
#define CFG_NOTIFY	  2
#define CFG_DEVICE	  4
#define DRIVER_SELECT	  8
#define DRIVER_FEATURES	  12
#define STATUS		  20
#define QUEUE_SELECT	  22
#define QUEUE_SIZE	  24
#define QUEUE_VECTOR	  26
#define QUEUE_ENABLE	  28
#define QUEUE_NOTIFY	  30
#define QUEUE_ADDRESSES	  32
#define STATUS_DRIVER	  3
#define STATUS_FEATURES	  8
#define STATUS_DRIVER_OK  4
#define FEATURE_VERSION_1 (1ull << 32)

static uint32_t get8(const struct virtio *v, unsigned reg)
{
	return *(volatile uint8_t *)(v->common + reg);
}

static void put8(const struct virtio *v, unsigned reg, uint8_t value)
{
	*(volatile uint8_t *)(v->common + reg) = value;
}

static void put16(const struct virtio *v, unsigned reg, uint16_t value)
{
	*(volatile uint16_t *)(v->common + reg) = value;
}

static void put32(const struct virtio *v, unsigned reg, uint32_t value)
{
	*(volatile uint32_t *)(v->common + reg) = value;
}

static void capabilities(struct virtio *v)
{
	volatile uint8_t *bar = (volatile uint8_t *)(uintptr_t)(pci_read(v->dev, BAR0) & ~0xfu);
	unsigned at = pci_read(v->dev, 0x34) & 0xfc;

	for (int n = 0; at && n < 48; n++) {
		uint32_t head = pci_read(v->dev, at);
		volatile uint8_t *where = bar + pci_read(v->dev, at + 8);
		if ((head & 0xff) == CAP_VENDOR && head >> 24 == CFG_COMMON)
			v->common = where;
		if ((head & 0xff) == CAP_VENDOR && head >> 24 == CFG_DEVICE)
			v->config = where;
		if ((head & 0xff) == CAP_VENDOR && head >> 24 == CFG_NOTIFY) {
			v->doorbells = where;
			v->doorbell_len = pci_read(v->dev, at + 16);
		}
		at = head >> 8 & 0xfc;
	}
}

static void virtio_find(struct virtio *v, unsigned type, uint64_t features)
{
	int dev = pci_find((DEVICE_IDS + type) << 16 | VENDOR);

	if (dev < 0)
		guest_fail("no virtio device of type %u", type);
	*v = (struct virtio){.dev = (unsigned)dev};
	pci_write(v->dev, COMMAND, 6); /* memory, bus master: MSIs are writes */
	capabilities(v);
	if (!v->common || !v->doorbells)
		guest_fail("virtio device of type %u: a capability is missing", type);
	features |= FEATURE_VERSION_1;
	put8(v, STATUS, 0);
	put8(v, STATUS, STATUS_DRIVER);
	for (unsigned i = 0; i < 2; i++) {
		put32(v, DRIVER_SELECT, i);
		put32(v, DRIVER_FEATURES, (uint32_t)(features >> 32 * i));
	}
	put8(v, STATUS, STATUS_DRIVER | STATUS_FEATURES);
	if (!(get8(v, STATUS) & STATUS_FEATURES))
		guest_fail("virtio device of type %u does not take features 0x%lx", type, features);
}

static void virtio_queue(const struct virtio *v, struct virtq *q, unsigned index, uint16_t vector)
{
	uint64_t at[] = {(uintptr_t)q->desc, (uintptr_t)&q->avail, (uintptr_t)&q->used};

	put16(v, QUEUE_SELECT, (uint16_t)index);
	put16(v, QUEUE_SIZE, VIRTQ_SIZE);
	put16(v, QUEUE_VECTOR, vector);
	for (unsigned i = 0; i < 3; i++) {
		put32(v, QUEUE_ADDRESSES + 8 * i, (uint32_t)at[i]);
		put32(v, QUEUE_ADDRESSES + 8 * i + 4, (uint32_t)(at[i] >> 32));
	}
	q->bell = v->doorbells + v->doorbell_len * *(volatile uint16_t *)(v->common + QUEUE_NOTIFY);
	q->index = (uint16_t)index;
	put16(v, QUEUE_ENABLE, 1);
}

static void virtio_start(const struct virtio *v)
{
	put8(v, STATUS, STATUS_DRIVER | STATUS_FEATURES | STATUS_DRIVER_OK);
	if (get8(v, STATUS) != (STATUS_DRIVER | STATUS_FEATURES | STATUS_DRIVER_OK))
		guest_fail("virtio device: status %x", get8(v, STATUS));
}

static void virtq_offer(struct virtq *q, uint16_t head)
{
	q->avail.ring[q->avail.idx % VIRTQ_SIZE] = head;
	q->avail.idx++; /* volatile, and stores stay in order */
}

static void virtq_kick(const struct virtq *q)
{
	*(volatile uint16_t *)q->bell = q->index;
}

static bool virtq_used(struct virtq *q, uint32_t *head, uint32_t *len)
{
	if (q->seen == q->used.idx)
		return false;
	*head = q->used.ring[q->seen % VIRTQ_SIZE].id;
	*len = q->used.ring[q->seen % VIRTQ_SIZE].len;
	q->seen++;
	return true;
}

/* ---- the guest ---- */

#define TYPE_NET    1
#define MAC	    (1ull << 5)
#define VEC_DEVICE  0x40
#define HEADER_LEN  12
#define BUFFER_LEN  2048
#define DESC_WRITE  2
#define INTERRUPT_S 20

static struct virtq rx, tx;
static uint8_t buffers[VIRTQ_SIZE][BUFFER_LEN] __attribute__((aligned(4096)));
static volatile uint64_t interrupts;

static void on_device(struct trap_frame *frame)
{
	(void)frame;
	interrupts++;
	apic_eoi();
}

static void receive_into(uint32_t i)
{
	rx.desc[i] = (struct virtq_desc){(uintptr_t)buffers[i], BUFFER_LEN, DESC_WRITE, 0};
	virtq_offer(&rx, (uint16_t)i);
}

static void send_back(uint32_t i, uint32_t len)
{
	if (i >= VIRTQ_SIZE || len <= HEADER_LEN || len > BUFFER_LEN)
		guest_fail("buffer %u with %u bytes", i, len);
	memset(buffers[i], 0, HEADER_LEN);
	tx.desc[i] = (struct virtq_desc){(uintptr_t)buffers[i], len, 0, 0};
	virtq_offer(&tx, (uint16_t)i);
}

/* Returns how many frames went back. */
static unsigned echo(void)
{
	uint32_t i, len;
	unsigned sent = 0, freed = 0;

	for (; virtq_used(&rx, &i, &len); sent++)
		send_back(i, len);
	if (sent)
		virtq_kick(&tx);
	for (; virtq_used(&tx, &i, &len); freed++)
		receive_into(i);
	if (freed)
		virtq_kick(&rx);
	return sent;
}

static bool waiting(void)
{
	return rx.seen != rx.used.idx || tx.seen != tx.used.idx;
}

void guest_main(void)
{
	static volatile uint64_t never;
	uint64_t frames = 0, seen = 0, late = 0;
	struct virtio v;

	trap_set(VEC_DEVICE, on_device);
	virtio_find(&v, TYPE_NET, MAC);
	msix_enable_all(3, VEC_DEVICE);
	virtio_queue(&v, &rx, 0, 1);
	virtio_queue(&v, &tx, 1, 2);
	virtio_start(&v);
	for (uint32_t i = 0; i < VIRTQ_SIZE; i++)
		receive_into(i);
	virtq_kick(&rx);
	guest_printf("READY\n");
	for (int c = serial_poll(); c != 'q'; c = serial_poll()) {
		/* Interrupts are taken here, at CPL3. */
		wait_flag(&never, 200);
		if (interrupts != seen) {
			seen = interrupts;
			late = 0;
			frames += echo();
		} else if (!waiting()) {
			late = 0;
		} else if (!late) {
			late = rdtsc();
		} else if (tsc_to_ns(rdtsc() - late) > INTERRUPT_S * 1000000000ull) {
			guest_fail("no interrupt within %u s for a frame that is there",
				   INTERRUPT_S);
		}
	}
	guest_pass("net frames=%lu interrupts=%lu", frames, interrupts);
}
