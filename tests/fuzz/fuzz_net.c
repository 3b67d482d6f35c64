/* SPDX-License-Identifier: MIT */
/*
 * A network interface between a guest that writes anything into registers, rings and descriptors, and a link that sends
 * anything; updates in between. Whatever they do, nothing is in flight between two handlers, and the state loads.
 */
#include "tests/fuzz/fuzz.h"
#include "tests/unit/fake_virtio.h"

#include <arpa/inet.h>
#include <linux/if_tun.h>
#include <sys/socket.h>

#include "devices/virtio/net.h"

#define MAX_OPS	    64
#define MAX_UPDATES 3
#define QUEUE	    16u
#define PAIRS	    2u
#define RING(q)	    (RING_GPA + 0x4000ull * (q))
#define FRAME	    2048

static struct net *net;
static const char *arg;
static int peer[PAIRS];
static uint8_t bytes[FRAME + 4];

void machine_stop(struct machine *stopped, int code, const char *reason)
{
}

static long tap_ioctl(int fd, unsigned long request, void *about)
{
	return request == TUNSETQUEUE ? 0 : virtio_ioctl(fd, request, about);
}

static void machine_new(bool fresh, uint8_t *hva)
{
	m = virtio_machine(fresh, &net_class, arg, hva);
	net = (struct net *)m->devices[1];
	fake.ioctl = tap_ioctl;
}

/* Whole frames, as a tap gives them, of which one has several queues; or a stream of them. */
static void begin(unsigned kind)
{
	const int type = (kind ? SOCK_DGRAM : SOCK_STREAM) | SOCK_NONBLOCK | SOCK_CLOEXEC;
	memset(&fake, 0, sizeof(fake));
	arg = kind == 2 ? "tap=t,mac=52:54:00:12:34:56,queues=2,vhost=off"
			: "fd=99,mac=52:54:00:12:34:56,vhost=off";
	machine_new(true, NULL);
	for (unsigned i = 0; i < net->pairs; i++) {
		int end[2];
		fuzz_expect(!socketpair(AF_UNIX, type, 0, end), "socketpair");
		peer[i] = end[1];
		fuzz_expect(!fdset_keep(&m->fds, i ? "net@0:link:1" : "net@0:link", end[0], NULL),
			    "fdset");
	}
	virtio_run();
}

static void update(void)
{
	struct error err = {0};
	struct machine *old = m;
	serve_loop(); /* what comes before the loop parks */
	struct fake_blob b = fake_save(old);
	machine_new(false, old->ram.hva);
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
	for (unsigned q = 0; q < net->virtio.queues; q++)
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
static void link_sends(struct input *in, unsigned pair)
{
	size_t len = input_num(in, 2) % FRAME, head = 0;
	bool whole = net->link == &net_stream && input_u8(in) % 8;
	if (whole) {
		*(uint32_t *)bytes = htonl((uint32_t)len);
		head = 4;
	}
	input_bytes(in, bytes + head, len < 24 ? len : 24);
	if (send(peer[pair], bytes, len + head, MSG_NOSIGNAL) < 0)
		return;
}

static void link_takes(unsigned pair)
{
	static uint8_t sink[65536];
	while (recv(peer[pair], sink, sizeof(sink), 0) > 0)
		;
}

/* A command that keeps the rules, but for its number, and asks for that many pairs. */
static void command(struct input *in, unsigned q)
{
	struct vring_desc *d = (struct vring_desc *)mem(RING(q));
	struct vring_avail *a = (struct vring_avail *)mem(RING(q) + PAGE_LEN);
	memcpy(mem(DATA_GPA), (const uint8_t[]){VIRTIO_NET_CTRL_MQ, 0, input_u8(in), 0}, 4);
	d[0] = (struct vring_desc){DATA_GPA, 4, VRING_DESC_F_NEXT, 1};
	d[1] = (struct vring_desc){DATA_GPA + 8, 1, VRING_DESC_F_WRITE, 0};
	a->ring[a->idx++ % QUEUE] = 0;
	ring_bell(&net->virtio, q);
}

static void act(struct input *in, unsigned *updates)
{
	unsigned op = input_u8(in), q = op >> 7, pair = 0;
	uint64_t value;
	fuzz_guest_acts();
	if (net->pairs > 1) {
		q = input_below(in, net->virtio.queues);
		pair = q / 2 % PAIRS;
	}
	switch (op % 13) {
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
		link_sends(in, pair);
		break;
	case 8:
		link_takes(pair);
		break;
	case 9:
		*(uint16_t *)mem(RING(q) + PAGE_LEN * (1 + (op >> 6 & 1)) +
				 2 * input_below(in, 48)) = (uint16_t)input_num(in, 2);
		break;
	case 10:
		guest_write(&m->mmio, bar() + input_num(in, 2) % 0x8000, 1u << input_below(in, 4),
			    input_num(in, 4));
		break;
	case 12:
		command(in, q);
		break;
	default:
		if (op > 240)
			shutdown(peer[pair], SHUT_RDWR);
		else if (++*updates <= MAX_UPDATES)
			update();
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct input in = {data, len};
	unsigned updates = 0;
	fuzz_log.guest = false;
	begin(input_u8(&in) % 3);
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
	unsigned pairs = net->pairs;
	virtio_free();
	while (pairs)
		close(peer[--pairs]);
	return 0;
}
