/* SPDX-License-Identifier: MIT */
/* A tap whose frames the kernel moves: what the kernel is told and when, over updates that succeed, fail, or change who
 * moves them. */
#include <sys/socket.h>

#include "devices/virtio/net.h"
#include "tests/unit/fake_vhost.h"

#define RING(q) (0x10000ull * ((q) + 1))
#define SIZE	128u
#define MRG	(1ull << VIRTIO_NET_F_MRG_RXBUF)
#define CSUM	(1ull << VIRTIO_NET_F_CSUM)
#define ARG	"fd=99,mac=52:54:00:12:34:56"

static struct net *net;
static int peer; /* the other end of what is taken for a tap */

static void net_new(bool fresh, const char *arg, uint8_t *hva)
{
	m = virtio_machine(fresh, &net_class, arg, hva);
	net = (struct net *)m->devices[1];
	fake.ioctl = vhost_ioctl;
}

static int begin(void **state)
{
	int end[2];
	memset(&fake, 0, sizeof(fake));
	memset(&vhost_fake, 0, sizeof(vhost_fake));
	assert_int_equal(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, end), 0);
	peer = end[1];
	net_new(true, ARG, NULL);
	assert_int_equal(fdset_keep(&m->fds, "net@0:link", end[0], NULL), 0);
	virtio_run();
	return 0;
}

static int end(void **state)
{
	virtio_free();
	close(peer);
	return 0;
}

static void start(uint16_t rx_vector)
{
	assert_true(negotiate(MRG | CSUM));
	queue_set_up(NET_RX, RING(NET_RX), SIZE, rx_vector);
	queue_set_up(NET_TX, RING(NET_TX), SIZE, VIRTIO_NO_VECTOR);
	driver_ok();
}

static struct vring_avail *avail(unsigned q)
{
	return (struct vring_avail *)mem(RING(q) + PAGE_LEN);
}

static struct vring_used *used(unsigned q)
{
	return (struct vring_used *)mem(RING(q) + 2 * PAGE_LEN);
}

static void give_buffer(void)
{
	uint16_t i = avail(NET_RX)->idx % SIZE;
	((struct vring_desc *)mem(RING(NET_RX)))[i] =
		(struct vring_desc){0x100000 + 0x1000u * i, 2048, VRING_DESC_F_WRITE, 0};
	avail(NET_RX)->ring[i] = i;
	avail(NET_RX)->idx++;
}

static void host_sends(void)
{
	uint8_t frame[NET_HEADER_LEN + 60] = {0};
	assert_int_equal(send(peer, frame, sizeof(frame), 0), sizeof(frame));
}

/* ---- start and stop ---- */

static void the_kernel_is_told_when_the_driver_starts(void **state)
{
	const struct fake_vhost *f = vhost_last();
	assert_said("A:owner A:memory2");
	assert_ptr_equal((void *)(uintptr_t)f->low.userspace_addr, m->ram.hva);
	assert_int_equal(f->low.memory_size, LOW_LEN);
	start(VIRTIO_NO_VECTOR);
	assert_said("A:features"
		    " A:num0=128 A:addr0 A:error0 A:kick0 A:call0 A:base0=0"
		    " A:num1=128 A:addr1 A:error1 A:kick1 A:call1 A:base1=0"
		    " A:backend0=on A:backend1=on");
	/* Of rings and buffers: the tap has been told the rest. */
	assert_int_equal(f->features, MRG | 1ull << VIRTIO_F_VERSION_1);
	assert_ptr_equal((void *)(uintptr_t)f->q[NET_TX].addr.used_user_addr, used(NET_TX));
	assert_int_equal(f->q[NET_RX].backend, net->pair[0].fd);
	assert_string_equal(net->dev.served_by, "vhost");
}

/* The kernel is kicked by the eventfds; nobody takes from them, nor from the tap. */
static void molt_leaves_queues_and_tap_alone(void **state)
{
	start(VIRTIO_NO_VECTOR);
	assert_true(is_signalled(net->virtio.kick[NET_RX].fd)); /* once at the start */
	counted("net@0:kick:0");
	give_buffer();
	host_sends();
	reg_put(AT_DOORBELLS, 2, 0); /* one that KVM has not taken */
	assert_int_equal(serve_loop(), 0);
	assert_true(is_signalled(net->virtio.kick[NET_RX].fd));
	assert_int_equal(used(NET_RX)->idx, 0);
}

static void a_reset_stops_it(void **state)
{
	start(VIRTIO_NO_VECTOR);
	vhost_serves(vhost_last(), NET_TX, 5);
	said_clear();
	reg_put(VIRTIO_PCI_COMMON_STATUS, 1, 0);
	assert_said("A:backend0=off A:backend1=off");
	start(VIRTIO_NO_VECTOR);
	assert_said("A:base0=0 A:base1=0 A:backend0=on A:backend1=on");
	assert_int_equal(vhost_last()->q[NET_TX].base, 0);
}

static void without_it_molt_serves(void **state)
{
	struct error err = {0};
	static const struct {
		int code;
		const char *remedy;
	} none[] = {{ENOENT, "modprobe vhost_net"}, {EACCES, "setfacl -m u:"}};
	for (unsigned i = 0; i < ARRAY_LEN(none); i++) {
		vhost_fake.open_error = none[i].code;
		struct net other = *net;
		other.pair[0].vhost.fd = -1;
		other.wants_vhost = NET_VHOST_ON;
		assert_int_equal(net_vhost_open(&other, &err), -none[i].code);
		assert_int_equal(err.exit, EXIT_HOST);
		assert_non_null(strstr(err.text, "/dev/vhost-net"));
		assert_non_null(strstr(err.hint, none[i].remedy));
		other.wants_vhost = NET_VHOST_AUTO;
		assert_int_equal(net_vhost_open(&other, &err), 0);
		assert_string_equal(other.dev.served_by, "molt");
		other.wants_vhost = NET_VHOST_OFF;
		assert_int_equal(net_vhost_open(&other, &err), 0);
	}
}

static void options(void **state)
{
	static const char *const bad[] = {"tap=t,vhost=auto", "tap=t,vhost", "tap=t,vhost=on,"};
	struct error err = {0};
	for (unsigned i = 0; i < ARRAY_LEN(bad); i++)
		assert_int_equal(machine_add_device(m, &net_class, bad[i], &err), -EINVAL);
	assert_int_equal(machine_add_device(m, &net_class, "tap=t,vhost=off", &err), 0);
	assert_int_equal(machine_add_device(m, &net_class, "user,vhost=on", &err), 0);
	struct net *user = (struct net *)m->devices[m->ndevices - 1];
	user->link = &net_stream;
	assert_int_equal(net_vhost_open(user, &err), -EINVAL);
	assert_int_equal(err.exit, EXIT_USAGE);
}

/* A kernel that does not want to. The driver's next start tries again. */
static void where_it_fails_molt_serves(void **state)
{
	vhost_fake.fails.request = VHOST_NET_SET_BACKEND;
	vhost_fake.fails.code = EFAULT;
	start(VIRTIO_NO_VECTOR);
	give_buffer();
	host_sends();
	ring_bell(&net->virtio, NET_RX);
	serve_loop();
	assert_int_equal(used(NET_RX)->idx, 1);
	assert_string_equal(net->dev.served_by, "molt");
	vhost_fake.fails.request = 0;
	start(VIRTIO_NO_VECTOR);
	assert_string_equal(net->dev.served_by, "vhost");
}

static void the_taps_end_is_seen(void **state)
{
	start(VIRTIO_NO_VECTOR);
	said_clear();
	close(peer);
	net_ready(&net->pair[0], EPOLLERR); /* as a tap says it */
	assert_said("A:backend0=off A:backend1=off A:base0? A:base1?");
	assert_int_equal(net->config.status, 0);
}

/* ---- interrupts ---- */

static void vectors_are_signalled_by_the_kernel(void **state)
{
	const struct fake_vhost *f = vhost_last();
	msix_on(3);
	start(1);
	assert_int_equal(f->q[NET_RX].call, fdset_get(&m->fds, "net@0:msix:1"));
	assert_int_equal(f->q[NET_TX].call, VHOST_FILE_UNBIND); /* it wants none */
	said_clear();
	reg_put(VIRTIO_PCI_COMMON_Q_SELECT, 2, NET_TX);
	reg_put(VIRTIO_PCI_COMMON_Q_MSIX, 2, 2);
	assert_said("A:call1");
	assert_int_equal(f->q[NET_TX].call, fdset_get(&m->fds, "net@0:msix:2"));
}

/* A masked one waits in its eventfd, and is its pending bit. */
static void a_masked_vector_is_pending(void **state)
{
	msix_on(3);
	start(1);
	guest_write(&m->mmio, bar() + AT_TABLE + 16 + 12, 4, PCI_MSIX_ENTRY_CTRL_MASKBIT);
	vhost_serves(vhost_last(), NET_RX, 1);
	assert_int_equal(guest_read(&m->mmio, bar() + 0x5000, 8), 1 << 1);
	guest_write(&m->mmio, bar() + AT_TABLE + 16 + 12, 4, 0);
	assert_int_equal(fake.fds[fdset_get(&m->fds, "net@0:msix:1")] != 0, 1);
}

static void without_vectors_the_line_rises(void **state)
{
	const struct fake_vhost *f = vhost_last();
	start(VIRTIO_NO_VECTOR);
	assert_int_equal(f->q[NET_RX].call, net->pair[0].vhost.line_fd);
	vhost_serves(vhost_last(), NET_RX, 1);
	serve_loop();
	assert_int_equal(reg_get(AT_ISR, 1), VIRTIO_ISR_QUEUE);
	said_clear();
	msix_on(3);
	assert_said("A:call0 A:call1");
	assert_int_equal(f->q[NET_RX].call, VHOST_FILE_UNBIND);
}

static void broken_rings_stop_it(void **state)
{
	start(VIRTIO_NO_VECTOR);
	fd_write_all(vhost_last()->q[NET_TX].error, &(const uint64_t){1}, sizeof(uint64_t));
	serve_loop();
	assert_true(needs_reset());
	assert_int_equal(vhost_last()->q[NET_TX].backend, VHOST_FILE_UNBIND);
	start(VIRTIO_NO_VECTOR);
	assert_false(needs_reset());
	assert_true(net->pair[0].vhost.running);
}

/* ---- updates ---- */

static struct machine *old;
static struct net *old_net;

static struct fake_blob pause_old(void)
{
	struct error err = {0};
	if (net_class.still(&old_net->dev, &err))
		fail_msg("%s", err.text);
	return fake_save(old);
}

/* The new program, while the guest runs. */
static void prepare(const char *arg)
{
	struct error err = {0};
	old = m;
	old_net = net;
	struct fake_blob offer = fake_save(old);
	net_new(false, arg, old->ram.hva);
	if (fake_load(m, &offer, &err))
		fail_msg("%s", err.text);
	free(offer.data);
}

static void load(struct fake_blob b)
{
	struct error err = {0};
	if (fake_load_again(m, &b, &err))
		fail_msg("%s", err.text);
	free(b.data);
}

static void commit(void)
{
	struct error err = {0};
	virtio_leave(old);
	fake.ioctl = vhost_ioctl;
	assert_int_equal(net_class.take(&net->dev, &err), 0);
	assert_int_equal(fake_start(m, &err), 0);
	assert_int_equal(net_class.serve(&net->dev, &err), 0);
}

static void update(const char *arg)
{
	prepare(arg);
	load(pause_old());
	commit();
}

/* All that can be is said before the pause, and before commit nothing that the incumbent's guest sees. */
static void the_pause_has_what_depends_on_it(void **state)
{
	start(VIRTIO_NO_VECTOR);
	vhost_serves(vhost_last(), NET_RX, 3);
	said_clear();
	prepare(ARG);
	assert_said("B:owner B:memory2 B:features"
		    " B:num0=128 B:addr0 B:error0 B:kick0 B:call0 B:base0=0"
		    " B:num1=128 B:addr1 B:error1 B:kick1 B:call1 B:base1=0");
	vhost_serves(&vhost_fake.at[0], NET_TX, 0xffff);
	struct fake_blob b = pause_old();
	assert_said("A:backend0=off A:backend1=off A:base0? A:base1?");
	load(b);
	assert_said("B:base0=3 B:base1=65535");
	counted("net@0:kick:0");
	counted("net@0:kick:1");
	commit();
	assert_said("B:backend0=on B:backend1=on");
	/* Each queue is looked at once. */
	assert_true(is_signalled(net->virtio.kick[NET_RX].fd));
	assert_true(is_signalled(net->virtio.kick[NET_TX].fd));
	assert_int_equal(serve_loop(), 0);
}

/* Whatever the guest does between offer and pause. */
static void the_last_state_counts(void **state)
{
	prepare(ARG);
	struct machine *next = m;
	m = old;
	msix_on(3);
	net = old_net;
	start(1);
	m = next;
	net = (struct net *)next->devices[1];
	said_clear();
	load(pause_old());
	commit();
	assert_int_equal(vhost_last()->q[NET_RX].call, fdset_get(&m->fds, "net@0:msix:1"));
	assert_true(net->pair[0].vhost.running);
	prepare(ARG);
	next = m;
	m = old;
	reg_put(VIRTIO_PCI_COMMON_STATUS, 1, 0);
	m = next;
	load(pause_old());
	commit();
	assert_false(net->pair[0].vhost.running);
}

static void a_failed_update_goes_on(void **state)
{
	start(VIRTIO_NO_VECTOR);
	vhost_serves(vhost_last(), NET_RX, 2);
	prepare(ARG);
	free(pause_old().data);
	virtio_leave(m); /* the successor */
	m = old;
	net = old_net;
	counted("net@0:kick:0");
	said_clear();
	net_class.resume(&net->dev);
	assert_said("A:backend0=on A:backend1=on");
	assert_true(is_signalled(net->virtio.kick[NET_RX].fd));
	assert_int_equal(vhost_fake.at[0].q[NET_RX].base, 2);
	assert_int_equal(serve_loop(), 0);
}

static void one_that_does_not_stop_refuses(void **state)
{
	struct error err = {0};
	start(VIRTIO_NO_VECTOR);
	vhost_fake.fails.request = VHOST_GET_VRING_BASE;
	vhost_fake.fails.code = EIO;
	assert_int_equal(net_class.still(&net->dev, &err), -EIO);
	assert_non_null(strstr(err.text, "stopping vhost"));
	vhost_fake.fails.request = 0;
	net_class.resume(&net->dev);
	assert_true(net->pair[0].vhost.running);
}

/* To a program or a host without vhost, and back. */
static void updates_change_who_serves(void **state)
{
	start(VIRTIO_NO_VECTOR);
	give_buffer();
	used(NET_RX)->idx = 1; /* as the kernel does it */
	vhost_serves(vhost_last(), NET_RX, 1);
	update(ARG ",vhost=off");
	assert_string_equal(net->dev.served_by, "molt");
	give_buffer();
	host_sends();
	ring_bell(&net->virtio, NET_RX);
	serve_loop();
	assert_int_equal(used(NET_RX)->idx, 2);
	assert_int_equal(used(NET_RX)->ring[1].id, 1);
	update(ARG);
	assert_int_equal(vhost_last()->q[NET_RX].base, 2);
	assert_string_equal(net->dev.served_by, "vhost");
}

/* It was read from the tap already, and goes to the guest first. */
static void a_frame_that_waits_comes_first(void **state)
{
	update(ARG ",vhost=off");
	start(VIRTIO_NO_VECTOR);
	host_sends();
	serve_loop();
	assert_int_equal(net->state.rx_len, NET_HEADER_LEN + 60);
	update(ARG);
	assert_false(net->pair[0].vhost.running);
	give_buffer();
	ring_bell(&net->virtio, NET_RX);
	serve_loop();
	assert_int_equal(used(NET_RX)->idx, 1);
	assert_true(net->pair[0].vhost.running);
	assert_int_equal(vhost_last()->q[NET_RX].base, 1);
}

/* A line that the kernel has asked for just before. */
static void the_line_is_not_lost(void **state)
{
	start(VIRTIO_NO_VECTOR);
	vhost_serves(vhost_last(), NET_RX, 1);
	update(ARG);
	assert_int_equal(reg_get(AT_ISR, 1), VIRTIO_ISR_QUEUE);
}

int main(void)
{
#define WITH(test) cmocka_unit_test_setup_teardown(test, begin, end)
	const struct CMUnitTest tests[] = {
		WITH(the_kernel_is_told_when_the_driver_starts),
		WITH(molt_leaves_queues_and_tap_alone),
		WITH(a_reset_stops_it),
		WITH(without_it_molt_serves),
		WITH(options),
		WITH(where_it_fails_molt_serves),
		WITH(the_taps_end_is_seen),
		WITH(vectors_are_signalled_by_the_kernel),
		WITH(a_masked_vector_is_pending),
		WITH(without_vectors_the_line_rises),
		WITH(broken_rings_stop_it),
		WITH(the_pause_has_what_depends_on_it),
		WITH(the_last_state_counts),
		WITH(a_failed_update_goes_on),
		WITH(one_that_does_not_stop_refuses),
		WITH(updates_change_who_serves),
		WITH(a_frame_that_waits_comes_first),
		WITH(the_line_is_not_lost),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
