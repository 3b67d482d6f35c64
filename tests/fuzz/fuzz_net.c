/* SPDX-License-Identifier: MIT */
/*
 * A network interface between a guest that writes anything into registers, rings and descriptors, and a link that sends
 * anything; updates in between. Whatever they do, nothing is in flight between two handlers, and the state loads.
 */
#include "tests/fuzz/fuzz.h"
#include "tests/unit/fake_virtio.h"

#include <arpa/inet.h>
#include <sys/socket.h>

#include "devices/virtio/net.h"

#define MAX_OPS	    64
#define MAX_UPDATES 3
#define QUEUE	    16u
#define RING(q)	    (RING_GPA + 0x4000ull * (q))
#define FRAME	    2048

static struct net *net;
static int peer;
static uint8_t bytes[FRAME + 4];

void machine_stop(struct machine *stopped, int code, const char *reason)
{
}

static void begin(bool frames_whole)
{
	int end[2];
	memset(&fake, 0, sizeof(fake));
	/* Whole frames, as a tap gives them; or a stream of them. */
	fuzz_expect(!socketpair(AF_UNIX,
				(frames_whole ? SOCK_DGRAM : SOCK_STREAM) | SOCK_NONBLOCK |
					SOCK_CLOEXEC,
				0, end),
		    "socketpair");
	peer = end[1];
	m = virtio_machine(true, &net_class, "fd=99,mac=52:54:00:12:34:56", NULL);
	fuzz_expect(!fdset_keep(&m->fds, "net@0:link", end[0], NULL), "fdset");
	net = (struct net *)m->devices[1];
	virtio_run();
}

static void update(void)
{
	struct error err = {0};
	struct machine *old = m;
	serve_loop(); /* what comes before the loop parks */
	struct fake_blob b = fake_save(old);
	m = virtio_machine(false, &net_class, "fd=99", old->ram.hva);
	net = (struct net *)m->devices[1];
	int rc = fake_load(m, &b, &err);
	fuzz_expect(!rc, "%s", err.text);
	free(b.data);
	virtio_leave(old);
	rc = fake_start(m, &err) ?: net_class.serve(&net->dev, &err);
	fuzz_expect(!rc, "%s", err.text);
}

/* A driver that keeps the rules so far. */
static void driver(struct input *in)
{
	uint64_t features = input_num(in, 4) | (uint64_t)(input_u8(in) & 1)
						       << VIRTIO_RING_F_EVENT_IDX;
	negotiate(features & net->virtio.features);
	for (unsigned q = 0; q < NET_QUEUES; q++)
		queue_set_up(q, RING(q), QUEUE, (uint16_t)(q + 1));
	driver_ok();
}

static void descriptor(struct input *in, unsigned q)
{
	static const uint64_t where[] = {DATA_GPA, DATA_GPA + 0x8000, RING_GPA, LOW_LEN - 64,
					 HIGH_GPA, ~0ull - 63,	      0,	LOW_LEN};
	unsigned kind = input_u8(in);
	struct vring_desc *d = (struct vring_desc *)mem(RING(q)) + input_below(in, QUEUE);
	*d = (struct vring_desc){.addr = where[kind % ARRAY_LEN(where)] + (kind >> 3) * 64,
				 .len = (uint32_t)input_num(in, kind & 64 ? 4 : 2),
				 .flags = (uint16_t)(input_u8(in) & 7),
				 .next = (uint16_t)input_below(in, QUEUE + 1)};
}

static void offer_chains(struct input *in, unsigned q)
{
	struct vring_avail *a = (struct vring_avail *)mem(RING(q) + PAGE_LEN);
	unsigned n = 1 + input_below(in, QUEUE), head = input_below(in, QUEUE + 1);
	for (unsigned i = 0; i < n; i++)
		a->ring[a->idx++ % QUEUE] = (uint16_t)((head + i) % (QUEUE + 1));
}

/* As the link sends it; whatever the guest has put there, a frame of any length, or what is none. */
static void link_sends(struct input *in)
{
	size_t len = input_num(in, 2) % FRAME, head = 0;
	bool whole = net->link == &net_stream && input_u8(in) % 8;
	if (whole) {
		*(uint32_t *)bytes = htonl((uint32_t)len);
		head = 4;
	}
	input_bytes(in, bytes + head, len < 24 ? len : 24);
	if (send(peer, bytes, len + head, MSG_NOSIGNAL) < 0)
		return;
}

static void link_takes(void)
{
	static uint8_t sink[65536];
	while (recv(peer, sink, sizeof(sink), 0) > 0)
		;
}

static void act(struct input *in, unsigned *updates)
{
	unsigned op = input_u8(in), q = op >> 7;
	uint64_t value;
	fuzz_guest_acts();
	switch (op % 12) {
	case 0:
		value = input_num(in, 4);
		virtio_common_access(&net->virtio, input_below(in, 64), 1u << input_below(in, 4),
				     true, &value);
		break;
	case 1:
		driver(in);
		break;
	case 2:
	case 3:
		descriptor(in, q);
		break;
	case 4:
		offer_chains(in, q);
		break;
	case 5:
		ring_bell(&net->virtio, q);
		break;
	case 6:
	case 7:
		link_sends(in);
		break;
	case 8:
		link_takes();
		break;
	case 9:
		*(uint16_t *)mem(RING(q) + PAGE_LEN * (1 + (op >> 6 & 1)) +
				 2 * input_below(in, 48)) = (uint16_t)input_num(in, 2);
		break;
	case 10:
		guest_write(&m->mmio, bar() + input_num(in, 2) % 0x8000, 1u << input_below(in, 4),
			    input_num(in, 4));
		break;
	default:
		if (op > 240)
			shutdown(peer, SHUT_RDWR);
		else if (++*updates <= MAX_UPDATES)
			update();
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct input in = {data, len};
	unsigned updates = 0;
	fuzz_log.guest = false;
	begin(input_u8(&in) & 1);
	if (input_u8(&in) & 3)
		driver(&in);
	for (unsigned i = 0; i < MAX_OPS && in.n; i++) {
		act(&in, &updates);
		fuzz_guest_acts();
		serve_loop();
		fuzz_expect(!net->virtio.in_flight, "%u chains in flight", net->virtio.in_flight);
		fuzz_expect(!net->rx_at && net->state.rx_len <= sizeof(net->state.rx), "%u of %u",
			    net->rx_at, net->state.rx_len);
	}
	fuzz_log.guest = false;
	update();
	virtio_free();
	close(peer);
	return 0;
}
