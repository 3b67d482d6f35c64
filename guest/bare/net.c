/* SPDX-License-Identifier: MIT */
/*
 * net: sends each frame back that comes to its virtio network interface, from the buffer that it came in. An interrupt
 * says when; one that does not come fails the guest. Host: 'q' ends. Option event=1: EVENT_IDX.
 */
#include "guest.h"
#include "virtio.h"

#define TYPE_NET    1
#define MAC	    (1ull << 5)
#define VEC_DEVICE  0x40
#define HEADER_LEN  12
#define BUFFER_LEN  2048
#define INTERRUPT_S 20

static struct virtq_rings rings[2];
static struct virtq queues[2] = {{.rings = &rings[0]}, {.rings = &rings[1]}};
static struct virtq *const rx = &queues[0], *const tx = &queues[1];
static uint8_t buffers[VIRTIO_QUEUE_LEN][BUFFER_LEN] __attribute__((aligned(4096)));
static volatile uint64_t interrupts;

static void on_device(struct trap_frame *frame)
{
	(void)frame;
	interrupts++;
	apic_eoi();
}

static void receive_into(uint16_t i)
{
	rx->rings->desc[i] = (struct virtq_desc){(uintptr_t)buffers[i], BUFFER_LEN, VIRTQ_WRITE, 0};
	virtq_offer(rx, i);
}

static void send_back(uint32_t i, uint32_t len)
{
	if (i >= VIRTIO_QUEUE_LEN || len <= HEADER_LEN || len > BUFFER_LEN)
		guest_fail("buffer %u with %u bytes", i, len);
	memset(buffers[i], 0, HEADER_LEN);
	tx->rings->desc[i] = (struct virtq_desc){(uintptr_t)buffers[i], len, 0, 0};
	virtq_offer(tx, (uint16_t)i);
}

/* Returns how many frames went back. */
static unsigned echo(void)
{
	uint16_t rx_from = rx->rings->avail.idx, tx_from = tx->rings->avail.idx;
	unsigned sent = 0;
	uint32_t len;
	int i;

	for (; (i = virtq_take(rx, &len)) >= 0; sent++)
		send_back((uint32_t)i, len);
	virtq_kick(tx, tx_from);
	while ((i = virtq_take(tx, NULL)) >= 0)
		receive_into((uint16_t)i);
	virtq_kick(rx, rx_from);
	return sent;
}

static bool waiting(void)
{
	return rx->seen != rx->rings->used.idx || tx->seen != tx->rings->used.idx;
}

void guest_main(void)
{
	static volatile uint64_t never;
	uint64_t frames = 0, seen = 0, late = 0;
	struct virtio v;

	trap_set(VEC_DEVICE, on_device);
	virtio_open(&v, TYPE_NET);
	virtio_start(&v, MAC | (option_number("event", 0) ? VIRTIO_F_EVENT_IDX : 0), queues, 2,
		     VEC_DEVICE);
	for (uint16_t i = 0; i < VIRTIO_QUEUE_LEN; i++)
		receive_into(i);
	virtq_kick(rx, 0);
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
