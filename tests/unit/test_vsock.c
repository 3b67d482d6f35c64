/* SPDX-License-Identifier: MIT */
/* Sockets between guest and host: the context id, and what an update does to connections. */
#include "tests/unit/fake_vhost.h"

#include "devices/virtio/vsock.h"

#define RING(q) (0x10000ull * ((q) + 1))
#define SIZE	16u
#define QUEUES	3u
#define EVENTS	2u
#define ARG	"cid=42"

static struct vsock *vsock;

static bool leader;

/* What may wait for long is done without the device lock. */
static long leaders_ioctl(int fd, unsigned long request, void *arg)
{
	if (leader && request == VHOST_VSOCK_SET_GUEST_CID) {
		assert_int_equal(pthread_mutex_trylock(&m->lock), 0);
		pthread_mutex_unlock(&m->lock);
	}
	return vhost_ioctl(fd, request, arg);
}

static void vsock_new(bool fresh, uint8_t *hva)
{
	m = virtio_machine(fresh, &vsock_class, ARG, hva);
	vsock = (struct vsock *)m->devices[1];
	fake.ioctl = leaders_ioctl;
}

static int begin(void **state)
{
	memset(&fake, 0, sizeof(fake));
	memset(&vhost_fake, 0, sizeof(vhost_fake));
	vsock_new(true, NULL);
	virtio_run();
	return 0;
}

static int end(void **state)
{
	virtio_free();
	return 0;
}

static void start(void)
{
	assert_true(negotiate(0));
	for (unsigned q = 0; q < QUEUES; q++)
		queue_set_up(q, RING(q), SIZE, VIRTIO_NO_VECTOR);
	driver_ok();
}

static struct vring_used *events(void)
{
	return (struct vring_used *)mem(RING(EVENTS) + 2 * PAGE_LEN);
}

static void give_buffer(void)
{
	struct vring_avail *a = (struct vring_avail *)mem(RING(EVENTS) + PAGE_LEN);
	*(struct vring_desc *)mem(RING(EVENTS)) =
		(struct vring_desc){DATA_GPA + 0x80000, 4, VRING_DESC_F_WRITE, 0};
	memset(mem(DATA_GPA + 0x80000), 0xff, 4);
	a->ring[a->idx % SIZE] = 0;
	a->idx++;
	ring_bell(&vsock->virtio, EVENTS);
	serve_loop();
}

static int leader_inherits(void)
{
	struct error err = {0};
	leader = true;
	int rc = vsock_class.inherit(&vsock->dev, &err);
	leader = false;
	serve_loop();
	return rc;
}

/* @fails: the incumbent resumes. */
static void update(bool fails)
{
	struct error err = {0};
	struct machine *old = m;
	struct vsock *old_vsock = vsock;
	struct fake_blob offer = fake_save(old), b;
	vhost_fake.cid_taken = true;
	vsock_new(false, old->ram.hva);
	if (fake_load(m, &offer, &err))
		fail_msg("%s", err.text);
	assert_int_equal(vsock_class.still(&old_vsock->dev, &err), 0);
	b = fake_save(old);
	if (fake_load_again(m, &b, &err))
		fail_msg("%s", err.text);
	free(offer.data);
	free(b.data);
	if (fails) {
		virtio_leave(m);
		m = old;
		vsock = old_vsock;
		vsock_class.resume(&vsock->dev);
		return;
	}
	virtio_leave(old);
	assert_int_equal(fake_start(m, &err), 0);
	assert_int_equal(vsock_class.serve(&vsock->dev, &err), 0);
}

static void the_kernel_serves_two_queues(void **state)
{
	assert_said("A:owner A:memory2 A:cid=42");
	assert_int_equal(reg_get(AT_CONFIG, 4), 42);
	start();
	assert_said("A:features"
		    " A:num0=16 A:addr0 A:error0 A:kick0 A:call0 A:base0=0"
		    " A:num1=16 A:addr1 A:error1 A:kick1 A:call1 A:base1=0 A:run");
	give_buffer();
	assert_int_equal(events()->idx, 0);
	reg_put(VIRTIO_PCI_COMMON_STATUS, 1, 0);
	assert_said("A:stop");
}

/* The incumbent has the context id until it has ended. */
static void an_update_resets_connections(void **state)
{
	start();
	give_buffer();
	vhost_serves(vhost_last(), 1, 7);
	said_clear();
	update(false);
	assert_non_null(strstr(vhost_fake.said, "A:stop A:base0? A:base1? B:base1=7"));
	said_clear();
	assert_int_equal(leader_inherits(), -EBUSY);
	assert_said(""); /* the other side has it still */
	assert_int_equal(events()->idx, 0);
	vhost_fake.cid_taken = false;
	assert_int_equal(leader_inherits(), 0);
	assert_said("C:cid=42 B:cid=42 B:run"); /* C has been closed in between */
	assert_int_equal(vsock->sweep_fd, -1);
	assert_true(is_signalled(vsock->virtio.kick[0].fd));
	assert_int_equal(events()->idx, 1);
	assert_int_equal(events()->ring[0].len, sizeof(struct virtio_vsock_event));
	assert_int_equal(*(uint32_t *)mem(DATA_GPA + 0x80000), VIRTIO_VSOCK_EVENT_TRANSPORT_RESET);
	/* Once. */
	give_buffer();
	assert_int_equal(leader_inherits(), 0);
	assert_int_equal(events()->idx, 1);
}

static void without_a_buffer_the_guest_is_told_later(void **state)
{
	start();
	update(false);
	vhost_fake.cid_taken = false;
	assert_int_equal(leader_inherits(), 0);
	assert_true(vsock->reset_due);
	give_buffer();
	assert_int_equal(events()->idx, 1);
}

static void a_failed_update_resets_nothing(void **state)
{
	start();
	give_buffer();
	said_clear();
	update(true);
	assert_non_null(strstr(vhost_fake.said, "A:stop A:base0? A:base1? A:run"));
	assert_int_equal(events()->idx, 0);
	assert_int_equal(vhost_last()->cid, 0);
}

/* The guest reboots its driver, or has none yet, while the context id is not free. */
static void a_driver_that_starts_before_the_context_id(void **state)
{
	update(false);
	said_clear();
	start();
	assert_false(vsock->vhost.running);
	give_buffer();
	vhost_fake.cid_taken = false;
	assert_int_equal(leader_inherits(), 0);
	assert_true(vsock->vhost.running);
	assert_int_equal(events()->idx, 0); /* it had no connections */
}

static void a_context_id_that_is_taken(void **state)
{
	struct error err = {0};
	struct vsock other = *vsock;
	other.vhost.fd = -1;
	vhost_fake.cid_taken = true;
	assert_int_equal(vsock_class.open(&other.dev, &err), -EADDRINUSE);
	assert_int_equal(err.exit, EXIT_CONFIG);
	assert_non_null(strstr(err.hint, "another guest"));
	loop_remove(&m->loop, other.vhost.line_fd);
	vhost_close(&other.vhost);
	vhost_fake.open_error = ENOENT;
	assert_int_equal(vsock_class.open(&other.dev, &err), -ENOENT);
	assert_non_null(strstr(err.hint, "modprobe vhost_vsock"));
}

static void states_that_cannot_be_are_refused(void **state)
{
	struct error err = {0};
	vsock->state.cid = 2; /* the host */
	assert_int_equal(vsock_class.post_load(vsock, &err), -EBADMSG);
	vsock->state.cid = 0xffffffff;
	assert_int_equal(vsock_class.post_load(vsock, &err), -EBADMSG);
	assert_int_equal(unit_uncovered(vsock_class.state), vsock_class.state->size);
}

static void options(void **state)
{
	static const char *const bad[] = {"",	    "cid=",   "cid=2", "cid=4294967295",
					  "cid=-3", "cid=3x", "42",    "cid=99999999999"};
	struct error err = {0};
	unsigned n = m->ndevices;
	assert_int_equal(machine_add_device(m, &vsock_class, ARG, &err), -EEXIST);
	m->ndevices = 1; /* as if there were none */
	for (unsigned i = 0; i < ARRAY_LEN(bad); i++) {
		assert_int_equal(machine_add_device(m, &vsock_class, bad[i], &err), -EINVAL);
		assert_int_equal(err.exit, EXIT_USAGE);
	}
	m->ndevices = n;
}

int main(void)
{
#define WITH(test) cmocka_unit_test_setup_teardown(test, begin, end)
	const struct CMUnitTest tests[] = {
		WITH(the_kernel_serves_two_queues),
		WITH(an_update_resets_connections),
		WITH(without_a_buffer_the_guest_is_told_later),
		WITH(a_failed_update_resets_nothing),
		WITH(a_driver_that_starts_before_the_context_id),
		WITH(a_context_id_that_is_taken),
		WITH(states_that_cannot_be_are_refused),
		WITH(options),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
