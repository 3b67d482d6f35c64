/* SPDX-License-Identifier: MIT */
/* A tap with several pairs of queues: the driver's commands, hostile ones too, which queues of the tap are attached,
 * who serves them, and updates. */
#include <linux/if_tun.h>
#include <sys/socket.h>

#include "devices/virtio/net.h"
#include "tests/unit/fake_vhost.h"

#define PAIRS	3u
#define CONTROL (2 * PAIRS)
#define RING(q) (0x10000ull * ((q) + 1))
#define SIZE	128u
#define MRG	(1ull << VIRTIO_NET_F_MRG_RXBUF)
#define MANY	(1ull << VIRTIO_NET_F_MQ | 1ull << VIRTIO_NET_F_CTRL_VQ)
#define ARG	"tap=t,mac=52:54:00:12:34:56,queues=3"
#define ANSWER	0x300000ull

static struct net *net;
static int peer[PAIRS]; /* the other ends of what is taken for queues of a tap */
static bool detached[PAIRS];
static unsigned order;	 /* the pairs that were attached, one digit each, last first */
static int attach_fails; /* errno value, of the last one */

static long tap_ioctl(int fd, unsigned long request, void *arg)
{
	const struct ifreq *req = arg;
	if (request != TUNSETQUEUE)
		return vhost_ioctl(fd, request, arg);
	for (unsigned i = 0; i < PAIRS; i++) {
		bool off = req->ifr_flags == IFF_DETACH_QUEUE;
		if (net->pair[i].fd != fd)
			continue;
		if (!off && i == PAIRS - 1 && attach_fails)
			return -attach_fails;
		assert_true(off || req->ifr_flags == IFF_ATTACH_QUEUE);
		assert_true(off != detached[i]); /* EINVAL */
		detached[i] = off;
		order = off ? order / 10 : order * 10 + i;
		return 0;
	}
	fail_msg("no queue of the tap");
	return -EBADF;
}

static void net_new(bool fresh, const char *arg, uint8_t *hva)
{
	m = virtio_machine(fresh, &net_class, arg, hva);
	net = (struct net *)m->devices[1];
	fake.ioctl = tap_ioctl;
}

static int begin_with(const char *arg)
{
	memset(&fake, 0, sizeof(fake));
	memset(&vhost_fake, 0, sizeof(vhost_fake));
	order = 0;
	attach_fails = 0;
	net_new(true, arg, NULL);
	for (unsigned i = 0; i < PAIRS; i++) {
		char name[FDSET_NAME_LEN];
		int end[2];
		snprintf(name, sizeof(name), i ? "net@0:link:%u" : "net@0:link", i);
		assert_int_equal(
			socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, end), 0);
		peer[i] = end[1];
		detached[i] = i;
		assert_int_equal(fdset_keep(&m->fds, name, end[0], NULL), 0);
	}
	virtio_run();
	return 0;
}

static int by_molt(void **state)
{
	return begin_with(ARG ",vhost=off");
}

static int by_vhost(void **state)
{
	return begin_with(ARG);
}

static int end(void **state)
{
	virtio_free();
	for (unsigned i = 0; i < PAIRS; i++)
		close(peer[i]);
	return 0;
}

/* ---- the driver ---- */

static struct vring_avail *avail(unsigned q)
{
	return (struct vring_avail *)mem(RING(q) + PAGE_LEN);
}

static struct vring_used *used(unsigned q)
{
	return (struct vring_used *)mem(RING(q) + 2 * PAGE_LEN);
}

static void put(unsigned q, unsigned i, uint64_t gpa, uint32_t len, uint16_t flags)
{
	((struct vring_desc *)mem(RING(q)))[i] =
		(struct vring_desc){gpa, len, flags, (uint16_t)(i + 1)};
}

static void offer_in(unsigned q, uint16_t head)
{
	avail(q)->ring[avail(q)->idx % SIZE] = head;
	avail(q)->idx++;
	ring_bell(&net->virtio, q);
	serve_loop();
}

static void start(uint64_t features)
{
	assert_true(negotiate(MRG | features));
	for (unsigned q = 0; q <= CONTROL; q++)
		queue_set_up(q, RING(q), SIZE, VIRTIO_NO_VECTOR);
	driver_ok();
}

/* Of @len bytes, with room for an answer of @room bytes. Returns the answer; 0x55: none. */
static unsigned command_in(unsigned q, const void *said, uint32_t len, uint32_t room)
{
	memcpy(mem(ANSWER + 16), said, len);
	*mem(ANSWER) = 0x55;
	put(q, 0, ANSWER + 16, len, room ? VRING_DESC_F_NEXT : 0);
	put(q, 1, ANSWER, room, VRING_DESC_F_WRITE);
	offer_in(q, 0);
	return *mem(ANSWER);
}

static unsigned pairs_set(uint16_t n)
{
	const uint8_t said[] = {VIRTIO_NET_CTRL_MQ, VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET, (uint8_t)n,
				(uint8_t)(n >> 8)};
	return command_in(CONTROL, said, sizeof(said), 1);
}

static void give(unsigned pair)
{
	unsigned q = 2 * pair, i = avail(q)->idx % SIZE;
	put(q, i, 0x100000 + 0x40000 * pair + 0x800 * i, 2048, VRING_DESC_F_WRITE);
	offer_in(q, (uint16_t)i);
}

static void host_sends(unsigned pair, uint8_t byte)
{
	uint8_t frame[NET_HEADER_LEN + 60] = {0};
	memset(frame + NET_HEADER_LEN, byte, 60);
	assert_int_equal(send(peer[pair], frame, sizeof(frame), 0), sizeof(frame));
	serve_loop();
}

static uint8_t first_byte(unsigned pair, unsigned i)
{
	return *mem(0x100000 + 0x40000 * pair + 0x800 * i + NET_HEADER_LEN);
}

/* ---- what it is offered ---- */

static void the_driver_is_told_of_all_pairs(void **state)
{
	assert_int_equal(net->virtio.features & MANY, MANY);
	assert_int_equal(reg_get(VIRTIO_PCI_COMMON_NUMQ, 2), CONTROL + 1);
	assert_int_equal(
		reg_get(AT_CONFIG + offsetof(struct virtio_net_config, max_virtqueue_pairs), 2),
		PAIRS);
	/* Nothing of the configuration lies behind it. */
	assert_int_equal(reg_get(AT_CONFIG + offsetof(struct virtio_net_config, mtu), 2), 0xffff);
}

static void options(void **state)
{
	static const char *const bad[] = {"tap=t,queues=0", "tap=t,queues=9",  "tap=t,queues=10",
					  "tap=t,queues=",  "tap=t,queues=2x", "tap=t,queues=-1",
					  "user,queues=2",  "fd=99,queues=2"};
	struct error err = {0};
	for (unsigned i = 0; i < ARRAY_LEN(bad); i++) {
		assert_int_equal(machine_add_device(m, &net_class, bad[i], &err), -EINVAL);
		assert_non_null(strstr(err.hint, "from 1 to 8"));
	}
	assert_int_equal(machine_add_device(m, &net_class, "tap=t,queues=8", &err), 0);
	assert_int_equal(machine_add_device(m, &net_class, "user,queues=1", &err), 0);
}

/* ---- commands ---- */

static void the_driver_says_how_many_it_uses(void **state)
{
	start(MANY);
	assert_int_equal(net->state.pairs, 1);
	assert_int_equal(pairs_set(3), VIRTIO_NET_OK);
	assert_int_equal(used(CONTROL)->ring[0].len, 1);
	assert_int_equal(order, 12);
	assert_int_equal(pairs_set(2), VIRTIO_NET_OK);
	assert_int_equal(order, 1);
	assert_int_equal(pairs_set(2), VIRTIO_NET_OK);
	assert_int_equal(pairs_set(1), VIRTIO_NET_OK);
	assert_int_equal(order, 0);
	assert_int_equal(pairs_set(3), VIRTIO_NET_OK);
	/* A driver that begins anew has one. */
	reg_put(VIRTIO_PCI_COMMON_STATUS, 1, 0);
	assert_int_equal(net->state.pairs, 1);
	assert_true(detached[1] && detached[2]);
}

static void hostile_commands(void **state)
{
	static const struct {
		uint8_t said[4];
		uint32_t len;
	} bad[] = {{{4, 0, 0, 0}, 4}, {{4, 0, 4, 0}, 4},
		   {{4, 0, 0, 1}, 4}, {{4, 0, 0xff, 0xff}, 4},
		   {{4, 0, 2}, 3},    {{4, 0}, 2},
		   {{4}, 1},	      {{4, 1, 2, 0}, 4},
		   {{0, 0, 1, 0}, 4}, {{0xff, 0xff, 2, 0}, 4}};
	start(MANY);
	for (unsigned i = 0; i < ARRAY_LEN(bad); i++)
		assert_int_equal(command_in(CONTROL, bad[i].said, bad[i].len, 1), VIRTIO_NET_ERR);
	assert_int_equal(net->state.pairs, 1);
	assert_false(needs_reset());
	assert_int_equal(command_in(CONTROL, bad[0].said, 4, 0), 0x55);
	assert_true(needs_reset());
	assert_int_equal(net->virtio.in_flight, 0);
}

/* Its queue of commands is the third one, which would be the second pair's (5.1.2). */
static void a_driver_that_does_not_know_pairs(void **state)
{
	const uint8_t said[] = {VIRTIO_NET_CTRL_MQ, VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET, 2, 0};
	start(1ull << VIRTIO_NET_F_CTRL_VQ);
	assert_int_equal(command_in(2, said, sizeof(said), 1), VIRTIO_NET_ERR);
	assert_int_equal(pairs_set(2), 0x55);
	start(1ull << VIRTIO_NET_F_MQ);
	assert_int_equal(pairs_set(2), 0x55);
	assert_int_equal(net->state.pairs, 1);
}

static void a_queue_that_is_not_attached(void **state)
{
	start(MANY);
	attach_fails = E2BIG;
	assert_int_equal(pairs_set(3), VIRTIO_NET_ERR);
	assert_int_equal(net->state.pairs, 1);
	assert_true(detached[1]);
	attach_fails = 0;
	assert_int_equal(pairs_set(3), VIRTIO_NET_OK);
}

/* ---- frames ---- */

/* Buffers that the driver has put there before it said that it uses them, as Linux does. */
static void frames_come_by_each_pair(void **state)
{
	start(MANY);
	for (unsigned i = 0; i < PAIRS; i++)
		give(i);
	assert_int_equal(pairs_set(3), VIRTIO_NET_OK);
	for (unsigned i = 0; i < PAIRS; i++) {
		host_sends(i, (uint8_t)(7 + i));
		assert_int_equal(used(2 * i)->idx, 1);
		assert_int_equal(first_byte(i, 0), 7 + i);
	}
	put(5, 0, 0x100000, NET_HEADER_LEN + 60, 0);
	offer_in(5, 0);
	uint8_t got[NET_HEADER_LEN + 60];
	assert_int_equal(recv(peer[2], got, sizeof(got), 0), sizeof(got));
	assert_int_equal(used(5)->idx, 1);
}

static void a_pair_that_is_not_used_is_left_alone(void **state)
{
	start(MANY);
	give(1);
	host_sends(1, 7);
	assert_int_equal(used(2)->idx, 0);
	put(3, 0, 0x100000, NET_HEADER_LEN + 60, 0);
	offer_in(3, 0);
	assert_int_equal(used(3)->idx, 0);
	assert_int_equal(serve_loop(), 0);
}

/* ---- updates ---- */

static void update(const char *arg)
{
	struct error err = {0};
	struct machine *old = m;
	assert_int_equal(net_class.still(&net->dev, &err), 0);
	assert_int_equal(net_class.pre_save ? net_class.pre_save(net, &err) : 0, 0);
	struct fake_blob b = fake_save(old);
	net_new(false, arg, old->ram.hva);
	if (fake_load(m, &b, &err))
		fail_msg("%s", err.text);
	free(b.data);
	virtio_leave(old);
	fake.ioctl = tap_ioctl;
	assert_int_equal(net_class.take(&net->dev, &err), 0);
	assert_int_equal(fake_start(m, &err), 0);
	assert_int_equal(net_class.serve(&net->dev, &err), 0);
	serve_loop();
}

/* Nobody attaches or detaches, and no pair's frame hides another's. */
static void frames_that_wait_are_kept(void **state)
{
	start(MANY);
	assert_int_equal(pairs_set(3), VIRTIO_NET_OK);
	for (unsigned i = PAIRS; i-- > 0;) {
		host_sends(i, (uint8_t)(7 + i));
		host_sends(i, (uint8_t)(17 + i));
	}
	assert_int_equal(net->state.rx_len, PAIRS * (NET_HEADER_LEN + 60));
	update(ARG ",vhost=off");
	assert_int_equal(net->state.pairs, 3);
	assert_int_equal(order, 12);
	for (unsigned i = 0; i < 2 * PAIRS; i++)
		give(i * 2 % PAIRS);
	for (unsigned i = 0; i < PAIRS; i++) {
		assert_int_equal(used(2 * i)->idx, 2);
		assert_int_equal(first_byte(i, 0), 7 + i);
		assert_int_equal(first_byte(i, 1), 17 + i);
	}
	assert_int_equal(net->state.rx_len, 0);
}

/* The frame that waits for it goes with the queue's own. */
static void a_pair_that_is_given_up(void **state)
{
	start(MANY);
	assert_int_equal(pairs_set(3), VIRTIO_NET_OK);
	host_sends(1, 8);
	host_sends(2, 9);
	assert_int_equal(pairs_set(2), VIRTIO_NET_OK);
	assert_int_equal(net->state.rx_len, NET_HEADER_LEN + 60);
	give(1);
	assert_int_equal(first_byte(1, 0), 8);
}

static void states_that_cannot_be_are_refused(void **state)
{
	static const struct {
		uint32_t pairs, len, more[2];
		bool good;
	} try[] = {{3, 0, {0, 0}, true},
		   {0, 0, {0, 0}, false},
		   {4, 0, {0, 0}, false},
		   {3, 100, {40, 60}, true},
		   {3, 100, {40, 61}, false},
		   {3, 100, {0xffffffff, 101}, false},
		   {2, 100, {0, 100}, false},
		   {3, 100, {NET_HEADER_LEN - 1, 0}, false},
		   {3, NET_STREAM_LEN + 1, {0, 0}, false},
		   {3, NET_STREAM_LEN + 1, {NET_STREAM_LEN + 1, 0}, false},
		   {3, 3 * NET_STREAM_LEN, {NET_STREAM_LEN, NET_STREAM_LEN}, true}};
	struct error err = {0};
	for (unsigned i = 0; i < ARRAY_LEN(try); i++) {
		net->state.pairs = try[i].pairs;
		net->state.rx_len = try[i].len;
		memcpy(net->state.rx_more, try[i].more, sizeof(try[i].more));
		assert_int_equal(net_class.post_load(net, &err), try[i].good ? 0 : -EBADMSG);
	}
}

/* ---- vhost ---- */

static bool served(unsigned at, unsigned pair)
{
	const struct fake_vhost *f = &vhost_fake.at[at + pair];
	return f->q[0].backend == net->pair[pair].fd && f->q[1].backend == net->pair[pair].fd;
}

/* One of the kernel's for each pair, from when the driver uses it. */
static void the_kernel_serves_what_is_used(void **state)
{
	start(MANY);
	give(1);
	assert_true(served(0, 0) && !net->pair[1].vhost.running);
	counted("net@0:kick:2");
	assert_int_equal(pairs_set(2), VIRTIO_NET_OK);
	assert_true(served(0, 1) && !net->pair[2].vhost.running);
	/* The buffers that are there already. */
	assert_true(is_signalled(net->virtio.kick[2].fd));
	assert_true(is_signalled(net->virtio.kick[3].fd));
	assert_string_equal(net->dev.served_by, "vhost");
	assert_int_equal(vhost_fake.at[1].q[0].kick, net->virtio.kick[2].fd);
	vhost_serves(&vhost_fake.at[1], 0, 5);
	update(ARG);
	assert_true(served(PAIRS, 0) && served(PAIRS, 1) && !net->pair[2].vhost.running);
	assert_int_equal(vhost_fake.at[PAIRS + 1].q[0].base, 5);
	assert_true(is_signalled(net->virtio.kick[2].fd));
	assert_true(is_signalled(net->virtio.kick[3].fd));
	assert_int_equal(pairs_set(1), VIRTIO_NET_OK);
	assert_int_equal(vhost_fake.at[PAIRS + 1].q[0].backend, VHOST_FILE_UNBIND);
	assert_true(detached[1]);
	assert_int_equal(pairs_set(2), VIRTIO_NET_OK);
	assert_int_equal(vhost_fake.at[PAIRS + 1].q[0].base, 5);
}

/* A frame that molt has read before goes first, and the other pairs do not wait for it. */
static void a_frame_that_waits_is_its_pairs_alone(void **state)
{
	start(MANY);
	assert_int_equal(pairs_set(2), VIRTIO_NET_OK);
	host_sends(1, 7);
	update(ARG);
	assert_true(served(0, 0) && !net->pair[1].vhost.running);
	assert_string_equal(net->dev.served_by, "molt");
	give(1);
	assert_int_equal(first_byte(1, 0), 7);
	assert_true(served(0, 1));
	assert_string_equal(net->dev.served_by, "vhost");
}

static void a_broken_pair_stops_all(void **state)
{
	start(MANY);
	assert_int_equal(pairs_set(3), VIRTIO_NET_OK);
	fd_write_all(vhost_fake.at[1].q[1].error, &(const uint64_t){1}, sizeof(uint64_t));
	serve_loop();
	assert_true(needs_reset());
	for (unsigned i = 0; i < PAIRS; i++)
		assert_false(net->pair[i].vhost.running);
	start(MANY);
	assert_true(net->pair[0].vhost.running && !net->pair[1].vhost.running);
}

static void for_all_pairs_or_none(void **state)
{
	struct error err = {0};
	struct net other = *net;
	for (unsigned i = 0; i < PAIRS; i++)
		other.pair[i].vhost.fd = -1;
	vhost_fake.fails.request = VHOST_SET_MEM_TABLE;
	vhost_fake.fails.code = ENOMEM;
	assert_int_equal(net_vhost_open(&other, &err), 0);
	assert_string_equal(other.dev.served_by, "molt");
	other.wants_vhost = NET_VHOST_ON;
	assert_int_equal(net_vhost_open(&other, &err), -ENOMEM);
	for (unsigned i = 0; i < PAIRS; i++)
		assert_int_equal(other.pair[i].vhost.fd, -1);
}

int main(void)
{
#define WITH(how, test) cmocka_unit_test_setup_teardown(test, how, end)
	const struct CMUnitTest tests[] = {
		WITH(by_molt, the_driver_is_told_of_all_pairs),
		WITH(by_molt, options),
		WITH(by_molt, the_driver_says_how_many_it_uses),
		WITH(by_vhost, the_driver_says_how_many_it_uses),
		WITH(by_molt, hostile_commands),
		WITH(by_vhost, hostile_commands),
		WITH(by_molt, a_driver_that_does_not_know_pairs),
		WITH(by_molt, a_queue_that_is_not_attached),
		WITH(by_molt, frames_come_by_each_pair),
		WITH(by_molt, a_pair_that_is_not_used_is_left_alone),
		WITH(by_molt, frames_that_wait_are_kept),
		WITH(by_molt, a_pair_that_is_given_up),
		WITH(by_molt, states_that_cannot_be_are_refused),
		WITH(by_vhost, the_kernel_serves_what_is_used),
		WITH(by_molt, a_frame_that_waits_is_its_pairs_alone),
		WITH(by_vhost, a_broken_pair_stops_all),
		WITH(by_vhost, for_all_pairs_or_none),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
