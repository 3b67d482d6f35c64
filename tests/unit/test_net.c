/* SPDX-License-Identifier: MIT */
/* The network interface: a driver that keeps the rules or breaks them, a link that is slow or ends, updates between. */
#include "tests/unit/fake_net.h"

/* ---- frames ---- */

static void frames_pass_both_ways(void **state)
{
	start(MRG);
	give(2, 2048);
	host_sends(60, 1);
	host_sends(1514, 2);
	serve_loop();
	assert_int_equal(used(NET_RX)->idx, 2);
	assert_int_equal(used(NET_RX)->ring[0].len, NET_HEADER_LEN + 60);
	assert_int_equal(used(NET_RX)->ring[1].len, NET_HEADER_LEN + 1514);
	assert_true(is_frame(buffer(NET_RX, 0) + NET_HEADER_LEN, 60, 1));
	assert_true(is_frame(buffer(NET_RX, 1) + NET_HEADER_LEN, 1514, 2));
	assert_int_equal(buffers_of(0), 1);
	send_frame(42, 3);
	assert_int_equal(used(NET_TX)->idx, 1);
	host_gets(42, 3);
}

static void a_long_frame_takes_many_buffers(void **state)
{
	start(MRG);
	give(SIZE, 1526);
	host_sends(9000, 5);
	serve_loop();
	assert_int_equal(used(NET_RX)->idx, 6);
	assert_int_equal(buffers_of(0), 6);
	assert_true(is_frame(buffer(NET_RX, 0) + NET_HEADER_LEN, 1526 - NET_HEADER_LEN, 5));
	assert_int_equal(buffer(NET_RX, 1)[0], (uint8_t)(5 + (1526 - NET_HEADER_LEN) * 7));
	assert_int_equal(used(NET_RX)->ring[5].len, NET_HEADER_LEN + 9000 - 5 * 1526);
}

/* It is not in flight meanwhile, and the loop has nothing to do. */
static void a_frame_waits_for_buffers(void **state)
{
	start(MRG);
	host_sends(3000, 7);
	give(1, 1526);
	assert_int_equal(used(NET_RX)->idx, 0);
	assert_int_equal(net->virtio.in_flight, 0);
	assert_int_equal(net->pair[0].watched, 0);
	give(1, 1526);
	assert_int_equal(used(NET_RX)->idx, 2);
	assert_int_equal(net->pair[0].watched, EPOLLIN);
}

static void a_frame_longer_than_the_driver_wants_is_dropped(void **state)
{
	start(0);
	give(2, 1526);
	host_sends(3000, 7);
	host_sends(100, 8);
	serve_loop();
	assert_int_equal(used(NET_RX)->idx, 1);
	assert_int_equal(used(NET_RX)->ring[0].len, NET_HEADER_LEN + 100);
	assert_int_equal(buffers_of(0), 1);
	assert_false(needs_reset());
}

/* A queue of which not all buffers together can hold it. */
static void a_frame_that_never_fits_is_dropped(void **state)
{
	start(MRG);
	give(SIZE, 100);
	host_sends(13000, 7);
	host_sends(100, 8);
	serve_loop();
	assert_int_equal(used(NET_RX)->idx, 2);
	assert_false(needs_reset());
}

static void a_full_link_keeps_order(void **state)
{
	unsigned sent = 0;
	start(MRG);
	while (!net->pair[0].blocked) {
		send_frame(7000, (uint8_t)sent++);
		assert_true(sent < SIZE);
	}
	assert_in_range(used(NET_TX)->idx, sent - 1, sent);
	assert_true(net->pair[0].watched & EPOLLOUT);
	for (unsigned i = 0; i < sent; i++)
		host_gets(7000, (uint8_t)i);
	assert_int_equal(used(NET_TX)->idx, sent);
	assert_false(net->pair[0].blocked);
}

static void a_turn_ends(void **state)
{
	start(MRG);
	give(SIZE, 2048);
	for (unsigned i = 0; i < SIZE; i++)
		add(NET_TX, NET_HEADER_LEN + 60, 0);
	net_kick(&net->virtio, NET_TX);
	add(NET_TX, NET_HEADER_LEN + 60, 0); /* as a guest that does not stop */
	serve_loop();
	assert_int_equal(used(NET_TX)->idx, SIZE + 1);
	for (unsigned i = 0; i < SIZE; i++)
		host_sends(60, (uint8_t)i); /* which one read takes: the socket is empty then */
	serve_loop();
	assert_int_equal(used(NET_RX)->idx, SIZE);
}

static void an_offload_that_the_driver_does_not_want(void **state)
{
	static uint8_t frame[NET_HEADER_LEN + 100];
	struct virtio_net_hdr_v1 *h = (void *)frame;
	start(1ull << VIRTIO_NET_F_GUEST_CSUM);
	give(4, 2048);
	h->gso_type = VIRTIO_NET_HDR_GSO_TCPV4;
	send(peer, frame, sizeof(frame), 0);
	h->gso_type = VIRTIO_NET_HDR_GSO_NONE;
	h->flags = VIRTIO_NET_HDR_F_NEEDS_CSUM;
	send(peer, frame, sizeof(frame), 0);
	serve_loop();
	assert_int_equal(used(NET_RX)->idx, 1);
	assert_int_equal(buffer(NET_RX, 0)[0], VIRTIO_NET_HDR_F_NEEDS_CSUM);
	start(0);
	give(4, 2048);
	send(peer, frame, sizeof(frame), 0);
	serve_loop();
	assert_int_equal(used(NET_RX)->idx, 0);
}

/* ---- drivers that break the rules ---- */

static void hostile_chains(void **state)
{
	static const struct {
		unsigned q;
		uint32_t len;
		uint16_t flags;
	} bad[] = {{NET_RX, NET_HEADER_LEN - 1, VRING_DESC_F_WRITE},
		   {NET_RX, 2048, 0},
		   {NET_TX, NET_HEADER_LEN - 1, 0},
		   {NET_TX, 100, VRING_DESC_F_WRITE}};
	for (unsigned i = 0; i < ARRAY_LEN(bad); i++) {
		start(MRG);
		host_sends(60, 9);
		add(bad[i].q, bad[i].len, bad[i].flags);
		net_kick(&net->virtio, bad[i].q);
		serve_loop();
		assert_true(needs_reset());
		assert_int_equal(net->virtio.in_flight, 0);
		assert_int_equal(used(bad[i].q)->idx, 0);
	}
	/* A driver that resets it gets what has waited. */
	start(MRG);
	give(8, 2048);
	serve_loop();
	assert_int_equal(used(NET_RX)->idx, ARRAY_LEN(bad));
}

static void frames_that_are_none_are_taken(void **state)
{
	start(MRG);
	add(NET_TX, NET_HEADER_LEN, 0);
	add(NET_TX, NET_FRAME_MAX + 1, 0);
	net_kick(&net->virtio, NET_TX);
	assert_int_equal(used(NET_TX)->idx, 2);
	assert_false(needs_reset());
	send_frame(60, 1);
	host_gets(60, 1);
}

/* ---- the link's end ---- */

static void a_link_that_ends_is_told(void **state)
{
	start(MRG);
	give(2, 2048);
	host_sends(60, 1);
	shutdown(peer, SHUT_RDWR);
	serve_loop();
	assert_int_equal(used(NET_RX)->idx, 1); /* what it has sent before */
	serve_loop();
	assert_int_equal(net->config.status, 0);
	assert_true(net->state.virtio.isr & VIRTIO_PCI_ISR_CONFIG);
	assert_non_null(net->dev.trouble);
	send_frame(60, 1);
	assert_int_equal(used(NET_TX)->idx, 1);
	assert_int_equal(serve_loop(), 0);
}

static void what_is_no_frame_ends_the_link(void **state)
{
	start(MRG);
	give(2, 2048);
	send(peer, "GET / HTTP/1.1", 14, 0);
	serve_loop();
	assert_int_equal(net->state.up, 0);
}

/* ---- updates ---- */

static void updates_lose_nothing(void **state)
{
	uint8_t half[4 + 30];
	start(MRG);
	update();
	give(3, 2048);
	host_sends(60, 1);
	*(uint32_t *)half = htonl(60);
	fill_frame(half + 4, 30, 2);
	send(peer, half, sizeof(half), 0);
	serve_loop();
	assert_int_equal(used(NET_RX)->idx, 1);
	assert_int_equal(net->state.rx_len, sizeof(half));
	update();
	fill_frame(half, 30, 2 + 30 * 7);
	send(peer, half, 30, 0);
	serve_loop();
	assert_int_equal(used(NET_RX)->idx, 2);
	assert_true(is_frame(buffer(NET_RX, 1) + NET_HEADER_LEN, 60, 2));
	assert_memory_equal(net->config.mac, "\x52\x54\x00\x12\x34\x56", 6);
}

/* Of two frames that were read at once the guest has room for one. */
static void updates_keep_a_frame_that_waits(void **state)
{
	start(MRG);
	give(1, 2048);
	host_sends(60, 1);
	host_sends(70, 2);
	serve_loop();
	assert_int_equal(used(NET_RX)->idx, 1);
	update();
	give(2, 2048);
	host_sends(80, 3);
	serve_loop();
	assert_int_equal(used(NET_RX)->idx, 3);
	assert_true(is_frame(buffer(NET_RX, 1) + NET_HEADER_LEN, 70, 2));
	assert_true(is_frame(buffer(NET_RX, 2) + NET_HEADER_LEN, 80, 3));
}

/* A small socket takes a part of a frame. */
static void updates_keep_half_a_frame_that_was_sent(void **state)
{
	start(MRG);
	assert_int_equal(
		setsockopt(net->pair[0].fd, SOL_SOCKET, SO_SNDBUF, &(int){4096}, sizeof(int)), 0);
	send_frame(20000, 1);
	assert_in_range(net->state.tx_len, 1, 20000);
	send_frame(7000, 2);
	assert_int_equal(used(NET_TX)->idx, 1);
	update();
	serve_loop();
	host_gets(20000, 1);
	host_gets(7000, 2);
	assert_int_equal(used(NET_TX)->idx, 2);
}

/* In the pause's last part the guest runs in the new program already. */
static void a_successor_leaves_frames_alone_until_it_serves(void **state)
{
	start(MRG);
	give(4, 2048);
	take_over();
	host_sends(60, 1);
	add(NET_TX, NET_HEADER_LEN + 60, 0);
	virtio_look(&net->virtio, NET_TX);
	assert_int_equal(used(NET_RX)->idx + used(NET_TX)->idx, 0);
	assert_int_equal(net_class.serve(&net->dev, NULL), 0);
	serve_loop();
	assert_int_equal(used(NET_RX)->idx, 1);
	assert_int_equal(used(NET_TX)->idx, 1);
}

/* A disk may take long to finish. What comes while the loop is parked waits, whether the update happens or not. */
static void a_network_goes_on_while_others_finish(void **state)
{
	start(MRG);
	give(4, 2048);
	assert_false(net_class.quiesce && net_class.quiesce(&net->dev, NULL));
	host_sends(60, 1);
	send_frame(60, 2);
	serve_loop();
	host_gets(60, 2);
	assert_int_equal(used(NET_RX)->idx, 1);
	host_sends(60, 3);
	add(NET_TX, NET_HEADER_LEN + 60, 0);
	ring_bell(&net->virtio, NET_TX);
	serve_loop();
	assert_int_equal(used(NET_RX)->idx, 2);
	assert_int_equal(used(NET_TX)->idx, 2);
}

static void a_link_that_is_gone_stays_so(void **state)
{
	start(MRG);
	give(2, 2048);
	shutdown(peer, SHUT_RDWR);
	serve_loop();
	update();
	serve_loop();
	assert_int_equal(net->config.status, 0);
	assert_int_equal(serve_loop(), 0);
}

static void states_that_cannot_be_are_refused(void **state)
{
	struct error err = {0};
	net->state.mac[0] = 1;
	assert_int_equal(net_class.post_load(net, &err), -EBADMSG);
	net->state.mac[0] = 2;
	net->state.up = 2;
	assert_int_equal(net_class.post_load(net, &err), -EBADMSG);
	net->state.up = 1;
	net->state.rx_len = net->state.tx_len = 3;
	assert_int_equal(net_class.post_load(net, &err), 0);
}

/* It takes a frame as a whole, and gives it so, behind its header. */
static void states_that_a_tap_cannot_have_are_refused(void **state)
{
	struct error err = {0};
	net->state.tx_len = 1;
	assert_int_equal(net_class.post_load(net, &err), -EBADMSG);
	net->state.tx_len = 0;
	net->state.rx_len = NET_HEADER_LEN - 1;
	assert_int_equal(net_class.post_load(net, &err), -EBADMSG);
	net->state.rx_len = NET_HEADER_LEN;
	assert_int_equal(net_class.post_load(net, &err), 0);
}

/* Such a link ends, and the state of one that has ended loads. */
static void a_frame_without_its_header_is_not_kept(void **state)
{
	start(MRG);
	give(2, 2048);
	assert_int_equal(send(peer, "short", 5, 0), 5);
	serve_loop();
	assert_int_equal(net->state.up, 0);
	update();
	assert_int_equal(net->config.status, 0);
}

static void every_byte_is_state(void **state)
{
	assert_int_equal(unit_uncovered(net_class.state), net_class.state->size);
}

/* ---- options ---- */

static void options(void **state)
{
	static const char *const good[] = {"tap=tap0", "user", "user=/run/passt", "fd=5",
					   "tap=tap0,mac=02:00:00:00:00:01"};
	static const char *const bad[] = {"",
					  "tap=",
					  "tap0",
					  "fd=2",
					  "fd=x",
					  "fd=5x",
					  "user=",
					  "users",
					  "tap=sixteen_letters_",
					  "tap=t,mac=01:00:00:00:00:01",
					  "tap=t,mac=02:00:00:00:00",
					  "tap=t,mac=02:00:00:00:00:1",
					  "tap=t,mac=02:00:00:00:00:012",
					  "tap=t,"};
	struct error err;
	for (unsigned i = 0; i < ARRAY_LEN(good); i++) {
		assert_int_equal(machine_add_device(m, &net_class, good[i], &err), 0);
	}
	for (unsigned i = 0; i < ARRAY_LEN(bad); i++) {
		assert_int_equal(machine_add_device(m, &net_class, bad[i], &err), -EINVAL);
		assert_int_equal(err.exit, EXIT_USAGE);
	}
}

static void links_that_are_not_there(void **state)
{
	struct error err = {0};
	assert_int_equal(net_tap_open("no-such-tap", false, &err), -ENODEV);
	assert_non_null(strstr(err.hint, "molt-net-tap add no-such-tap"));
	assert_int_equal(net_stream_connect("/nonexistent/passt", &err), -ENOENT);
	assert_non_null(strstr(err.hint, "passt --socket /nonexistent/passt"));
	assert_int_equal(net_tap_check(peer, "net fd=9", &err), -ENOTTY);
}

/* After a reboot in place. The number may be anything by then; a tap is kept by its name. */
static void an_inherited_stream_is_not_looked_for_twice(void **state)
{
	struct state_blob left = {0};
	struct error err = {0};
	assert_int_equal(machine_add_device(m, &net_class, "fd=99", &err), 0);
	struct device *second = m->devices[m->ndevices - 1];
	assert_int_equal(dup2(peer, 99), 99);
	m->kept = &left;
	assert_int_equal(net_class.open(second, &err), -EBADF);
	assert_int_equal(err.exit, EXIT_CONFIG);
	assert_non_null(strstr(err.hint, "user=SOCKET"));
	close(99);
}

int main(void)
{
#define WITH(how, test) cmocka_unit_test_setup_teardown(test, how, end)
	const struct CMUnitTest tests[] = {
		WITH(stream, frames_pass_both_ways),
		WITH(stream, a_long_frame_takes_many_buffers),
		WITH(stream, a_frame_waits_for_buffers),
		WITH(stream, a_frame_longer_than_the_driver_wants_is_dropped),
		WITH(stream, a_frame_that_never_fits_is_dropped),
		WITH(stream, a_full_link_keeps_order),
		WITH(stream, a_turn_ends),
		WITH(datagrams, an_offload_that_the_driver_does_not_want),
		WITH(stream, hostile_chains),
		WITH(stream, frames_that_are_none_are_taken),
		WITH(stream, a_link_that_ends_is_told),
		WITH(stream, what_is_no_frame_ends_the_link),
		WITH(stream, updates_lose_nothing),
		WITH(stream, updates_keep_a_frame_that_waits),
		WITH(stream, updates_keep_half_a_frame_that_was_sent),
		WITH(stream, a_successor_leaves_frames_alone_until_it_serves),
		WITH(stream, a_network_goes_on_while_others_finish),
		WITH(stream, a_link_that_is_gone_stays_so),
		WITH(stream, states_that_cannot_be_are_refused),
		WITH(datagrams, states_that_a_tap_cannot_have_are_refused),
		WITH(datagrams, a_frame_without_its_header_is_not_kept),
		WITH(stream, every_byte_is_state),
		WITH(stream, options),
		WITH(stream, links_that_are_not_there),
		WITH(stream, an_inherited_stream_is_not_looked_for_twice),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
