/* SPDX-License-Identifier: MIT */
/*
 * load: starts all virtio disks, network interfaces and sources of random bytes that there are. busy=1: each disk
 * always has reads in flight, each interface frames to send. Host: 'r' reports "LOAD devices requests", 'q' ends.
 */
#include "guest.h"
#include "virtio.h"

#define MAC	    (1ull << 5)
#define VEC_DEVICE  0x40
#define MAX_DEVICES 8u
#define DEPTH	    8u /* requests in flight at each */
#define DATA_LEN    4096u
#define FRAME_LEN   1500u
#define LOOK_US	    2000

enum { NET = 1, DISK = 2, RANDOM = 4 }; /* types of devices */
enum { RX = 0, TX = 1 };

static struct load {
	unsigned type;
	struct virtio v;
	struct virtq queues[2], *queue; /* the one that has the requests */
	uint64_t done;
} loads[MAX_DEVICES];

static struct virtq_rings rings[MAX_DEVICES][2];
static uint8_t data[MAX_DEVICES][DEPTH][DATA_LEN] __attribute__((aligned(4096)));
static volatile uint8_t status[MAX_DEVICES][DEPTH];
static const struct {
	uint32_t type, reserved;
	uint64_t sector;
} head_of_read;
static unsigned devices;
static bool failed;

static void on_device(struct trap_frame *frame)
{
	(void)frame;
	apic_eoi();
}

/* Request @i of device @d, which begins at descriptor 3 * @i. */
static void request_make(unsigned d, unsigned i)
{
	struct virtq_desc *at = &loads[d].queue->rings->desc[3 * i];
	uint16_t next = (uint16_t)(3 * i + 1);

	if (loads[d].type == NET) {
		at[0] = (struct virtq_desc){(uintptr_t)data[d][i], FRAME_LEN, 0, 0};
		return;
	}
	at[0] = (struct virtq_desc){(uintptr_t)&head_of_read, sizeof(head_of_read), VIRTQ_NEXT,
				    next};
	at[1] = (struct virtq_desc){(uintptr_t)data[d][i], DATA_LEN, VIRTQ_NEXT | VIRTQ_WRITE,
				    (uint16_t)(next + 1)};
	at[2] = (struct virtq_desc){(uintptr_t)&status[d][i], 1, VIRTQ_WRITE, 0};
}

static void device_start(unsigned d, unsigned type, unsigned dev)
{
	struct load *l = &loads[d];

	l->type = type;
	l->queue = &l->queues[type == NET ? TX : 0];
	l->queues[0].rings = &rings[d][0];
	l->queues[1].rings = &rings[d][1];
	virtio_open_at(&l->v, dev);
	virtio_start(&l->v, MAC, l->queues, type == NET ? 2 : 1, VEC_DEVICE);
}

static void devices_start(void)
{
	static const unsigned types[] = {NET, DISK, RANDOM};

	for (unsigned dev = 0; dev < 256; dev += 8)
		for (unsigned i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
			if (pci_read(dev, 0) != virtio_id(types[i]))
				continue;
			if (devices == MAX_DEVICES)
				guest_fail("more than %u devices", MAX_DEVICES);
			device_start(devices++, types[i], dev);
		}
}

/* What has come back is asked for again. */
static void device_feed(unsigned d)
{
	struct load *l = &loads[d];
	uint16_t from = l->queue->rings->avail.idx;
	int head;

	for (; (head = virtq_take(l->queue, NULL)) >= 0; l->done++) {
		failed = failed || status[d][head / 3];
		virtq_offer(l->queue, (uint16_t)head);
	}
	virtq_kick(l->queue, from);
}

static uint64_t feed(void *until)
{
	while (rdtsc() < *(const uint64_t *)until && !failed)
		for (unsigned d = 0; d < devices; d++)
			if (loads[d].type != RANDOM)
				device_feed(d);
	return 0;
}

static void requests_begin(void)
{
	for (unsigned d = 0; d < devices; d++) {
		if (loads[d].type == RANDOM)
			continue;
		for (unsigned i = 0; i < DEPTH; i++) {
			request_make(d, i);
			virtq_offer(loads[d].queue, (uint16_t)(3 * i));
		}
		virtq_kick(loads[d].queue, 0);
	}
}

static uint64_t requests_done(void)
{
	uint64_t sum = 0;

	for (unsigned d = 0; d < devices; d++)
		sum += loads[d].done;
	return sum;
}

void guest_main(void)
{
	static volatile uint64_t never;
	bool busy = option_number("busy", 0);

	trap_set(VEC_DEVICE, on_device);
	devices_start();
	if (busy)
		requests_begin();
	guest_printf("READY\n");
	for (int c = serial_poll(); c != 'q'; c = serial_poll()) {
		uint64_t until = rdtsc() + us_to_tsc(LOOK_US);
		if (c == 'r')
			guest_printf("LOAD %u %lu\n", devices, requests_done());
		if (busy)
			user_call(feed, &until);
		else
			wait_flag(&never, LOOK_US);
		if (failed)
			guest_fail("a read has failed");
	}
	guest_pass("load devices=%u requests=%lu", devices, requests_done());
}
