/* SPDX-License-Identifier: MIT */
/* A stream peer that hangs up: the guest gets the frames that were sent before, then its link goes. */
#include "tests/unit/fake_net.h"

#include <signal.h>

static void assert_down(void)
{
	assert_int_equal(net->config.status, 0);
	assert_int_equal(net->state.up, 0);
	assert_true(net->state.virtio.isr & VIRTIO_PCI_ISR_CONFIG);
	assert_non_null(net->dev.trouble);
	assert_int_equal(serve_loop(), 0);
}

/* The operator is told at once, and the loop has nothing to do meanwhile. */
static void assert_waits(void)
{
	assert_int_equal(net->config.status, VIRTIO_NET_S_LINK_UP);
	assert_non_null(net->dev.trouble);
	assert_int_equal(serve_loop(), 0);
}

static void frames_that_wait_for_buffers(void **state)
{
	start(MRG);
	give(1, 2048);
	for (uint8_t i = 0; i < 5; i++)
		host_sends(60, i);
	serve_loop();
	assert_int_equal(used(NET_RX)->idx, 1);
	shutdown(peer, SHUT_RDWR);
	serve_loop();
	assert_waits();
	give(2, 2048);
	assert_int_equal(used(NET_RX)->idx, 3);
	assert_waits();
	give(3, 2048);
	assert_int_equal(used(NET_RX)->idx, 5);
	assert_true(is_frame(buffer(NET_RX, 4) + NET_HEADER_LEN, 60, 4));
	assert_down();
}

/* More than one turn's, and the rest of one that never came. */
static void more_frames_than_a_turn(void **state)
{
	start(MRG);
	give(SIZE, 2048);
	for (unsigned i = 0; i < SIZE - 1; i++)
		host_sends(60, (uint8_t)i);
	assert_int_equal(send(peer, "\0\0\0\x3c half", 9, 0), 9);
	shutdown(peer, SHUT_RDWR);
	serve_loop();
	assert_int_equal(used(NET_RX)->idx, SIZE - 1);
	assert_down();
}

/* It learns from its own frame, which is dropped, that nobody is there. */
static void a_guest_that_sends_first(void **state)
{
	start(MRG);
	host_sends(60, 1);
	give(0, 0);
	shutdown(peer, SHUT_RDWR);
	send_frame(60, 9);
	send_frame(60, 9);
	assert_int_equal(used(NET_TX)->idx, 2);
	assert_false(net->pair[0].blocked);
	assert_waits();
	give(2, 2048);
	assert_int_equal(used(NET_RX)->idx, 1);
	assert_true(is_frame(buffer(NET_RX, 0) + NET_HEADER_LEN, 60, 1));
	assert_down();
}

/* Of one that only takes nothing more the rest is not waited for. */
static void a_peer_that_does_not_listen(void **state)
{
	start(MRG);
	give(4, 2048);
	host_sends(60, 1);
	shutdown(peer, SHUT_RD);
	send_frame(60, 9);
	assert_int_equal(used(NET_RX)->idx, 1);
	assert_down();
}

static void over_an_update(void **state)
{
	start(MRG);
	give(1, 2048);
	for (uint8_t i = 0; i < 3; i++)
		host_sends(60, i);
	serve_loop();
	shutdown(peer, SHUT_RDWR);
	serve_loop();
	update();
	serve_loop();
	assert_waits();
	give(3, 2048);
	assert_int_equal(used(NET_RX)->idx, 3);
	assert_true(is_frame(buffer(NET_RX, 2) + NET_HEADER_LEN, 60, 2));
	assert_down();
}

static void a_driver_that_has_not_started(void **state)
{
	host_sends(60, 1);
	shutdown(peer, SHUT_RDWR);
	serve_loop();
	assert_waits();
	start(MRG);
	assert_waits();
	give(2, 2048);
	assert_int_equal(used(NET_RX)->idx, 1);
	assert_down();
}

int main(void)
{
#define WITH(test) cmocka_unit_test_setup_teardown(test, stream, end)
	const struct CMUnitTest tests[] = {
		WITH(frames_that_wait_for_buffers),
		WITH(more_frames_than_a_turn),
		WITH(a_guest_that_sends_first),
		WITH(a_peer_that_does_not_listen),
		WITH(over_an_update),
		WITH(a_driver_that_has_not_started),
	};
	signal(SIGPIPE, SIG_IGN); /* as in a worker */
	return cmocka_run_group_tests(tests, NULL, NULL);
}
