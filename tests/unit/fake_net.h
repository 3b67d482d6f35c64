/* SPDX-License-Identifier: MIT */
/* For tests of a network interface without vhost: its driver, and the other end of its link, one pair of sockets. */
#ifndef MOLT_TEST_FAKE_NET_H
#define MOLT_TEST_FAKE_NET_H

#include "tests/unit/fake_virtio.h"

#include <arpa/inet.h>
#include <sys/socket.h>

#include "devices/virtio/net.h"

#define RING(q)	     (0x10000ull * ((q) + 1))
#define BUFFER(q, i) (0x100000ull * ((q) + 1) + 0x2000ull * (i))
#define SIZE	     128u
#define MRG	     (1ull << VIRTIO_NET_F_MRG_RXBUF)
#define ARG	     "fd=99,mac=52:54:00:12:34:56"

static struct net *net;
static int peer; /* the other end of the link */

static inline void begin(int type)
{
	int end[2];
	memset(&fake, 0, sizeof(fake));
	assert_int_equal(socketpair(AF_UNIX, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, end), 0);
	peer = end[1];
	m = virtio_machine(true, &net_class, ARG, NULL);
	assert_int_equal(fdset_keep(&m->fds, "net@0:link", end[0], NULL), 0);
	net = (struct net *)m->devices[1];
	virtio_run();
}

static inline int stream(void **state)
{
	begin(SOCK_STREAM);
	return 0;
}

/* A socket of datagrams behaves as a tap does: one frame a read. */
static inline int datagrams(void **state)
{
	begin(SOCK_DGRAM);
	return 0;
}

static inline int end(void **state)
{
	virtio_free();
	close(peer);
	return 0;
}

/* ---- the driver ---- */

static inline void start(uint64_t features)
{
	assert_true(negotiate(features));
	queue_set_up(NET_RX, RING(NET_RX), SIZE, VIRTIO_NO_VECTOR);
	queue_set_up(NET_TX, RING(NET_TX), SIZE, VIRTIO_NO_VECTOR);
	driver_ok();
}

static inline struct vring_avail *avail(unsigned q)
{
	return (struct vring_avail *)mem(RING(q) + PAGE_LEN);
}

static inline struct vring_used *used(unsigned q)
{
	return (struct vring_used *)mem(RING(q) + 2 * PAGE_LEN);
}

/* One buffer of the queue, as its next chain. */
static inline void add(unsigned q, uint32_t len, uint16_t flags)
{
	uint16_t i = avail(q)->idx % SIZE;
	((struct vring_desc *)mem(RING(q)))[i] =
		(struct vring_desc){BUFFER(q, i), len, flags, (uint16_t)(i + 1)};
	avail(q)->ring[i] = i;
	avail(q)->idx++;
}

static inline void give(unsigned n, uint32_t len)
{
	while (n--)
		add(NET_RX, len, VRING_DESC_F_WRITE);
	net_kick(&net->virtio, NET_RX);
}

static inline uint8_t *buffer(unsigned q, unsigned i)
{
	return mem(BUFFER(q, i));
}

static inline void fill_frame(uint8_t *to, size_t len, uint8_t seed)
{
	for (size_t i = 0; i < len; i++)
		to[i] = (uint8_t)(seed + i * 7);
}

static inline bool is_frame(const uint8_t *at, size_t len, uint8_t seed)
{
	for (size_t i = 0; i < len; i++)
		if (at[i] != (uint8_t)(seed + i * 7))
			return false;
	return true;
}

static inline void send_frame(uint32_t len, uint8_t seed)
{
	uint8_t *to = buffer(NET_TX, avail(NET_TX)->idx % SIZE);
	memset(to, 0, NET_HEADER_LEN);
	fill_frame(to + NET_HEADER_LEN, len, seed);
	add(NET_TX, NET_HEADER_LEN + len, 0);
	net_kick(&net->virtio, NET_TX);
}

/* ---- the link ---- */

static inline void host_sends(uint32_t len, uint8_t seed)
{
	static uint8_t frame[NET_STREAM_LEN];
	*(uint32_t *)frame = htonl(len);
	fill_frame(frame + 4, len, seed);
	assert_int_equal(send(peer, frame, len + 4, 0), len + 4);
}

static inline void host_gets(uint32_t len, uint8_t seed)
{
	static uint8_t frame[NET_STREAM_LEN];
	for (size_t at = 0; at < len + 4;) {
		ssize_t n = recv(peer, frame + at, len + 4 - at, 0);
		assert_true(n > 0 || net->pair[0].blocked);
		at += n > 0 ? (size_t)n : 0;
		serve_loop();
	}
	assert_int_equal(ntohl(*(uint32_t *)frame), len);
	assert_true(is_frame(frame + 4, len, seed));
}

static inline uint32_t buffers_of(unsigned i)
{
	return ((struct virtio_net_hdr_v1 *)buffer(NET_RX, i))->num_buffers;
}

/* ---- updates ---- */

/* The machine's state goes to a new one, with the same descriptors; the old one does nothing more. */
static inline void take_over(void)
{
	struct error err = {0};
	struct machine *old = m;
	struct fake_blob b = fake_save(old);
	m = virtio_machine(false, &net_class, ARG, old->ram.hva);
	net = (struct net *)m->devices[1];
	if (fake_load(m, &b, &err))
		fail_msg("%s", err.text);
	free(b.data);
	virtio_leave(old);
	assert_int_equal(fake_start(m, &err), 0);
}

static inline void update(void)
{
	take_over();
	assert_int_equal(net_class.serve(&net->dev, NULL), 0);
}

#endif
