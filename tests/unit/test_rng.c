/* SPDX-License-Identifier: MIT */
/* Random bytes for the guest. */
#include "tests/unit/fake_virtio.h"

#include "devices/virtio/rng.h"

#define BUF_LEN 64

static struct rng *rng;

static int setup(void **state)
{
	memset(&fake, 0, sizeof(fake));
	m = virtio_machine(true, &rng_class, NULL, NULL);
	rng = (struct rng *)m->devices[1];
	virtio_run();
	driver_start(0);
	return 0;
}

static int teardown(void **state)
{
	virtio_free();
	return 0;
}

static void ask(uint64_t gpa, uint32_t len)
{
	desc_put(0, gpa, len, VRING_DESC_F_WRITE, 0);
	offer(0);
	ring_bell(&rng->virtio, 0);
	serve_loop();
}

static void bytes_come(void **state)
{
	uint8_t first[BUF_LEN], none[BUF_LEN] = {0};
	ask(DATA_GPA, BUF_LEN);
	assert_int_equal(used_ring()->idx, 1);
	assert_int_equal(used_ring()->ring[0].len, BUF_LEN);
	assert_memory_not_equal(mem(DATA_GPA), none, BUF_LEN);
	assert_memory_equal(mem(DATA_GPA + BUF_LEN), none, BUF_LEN);
	memcpy(first, mem(DATA_GPA), BUF_LEN);
	ask(DATA_GPA, BUF_LEN);
	assert_memory_not_equal(mem(DATA_GPA), first, BUF_LEN);
	assert_int_equal(rng->virtio.in_flight, 0);
}

/* Who asks for a lot gets some. */
static void not_without_end(void **state)
{
	ask(HIGH_GPA, HIGH_LEN);
	assert_in_range(used_ring()->ring[0].len, 1, 65536);
}

/* Nor may who asks often have the device lock for long: the rest comes after others' turn. */
static void a_turn_ends(void **state)
{
	struct vring_avail *a = avail_ring();
	assert_true(negotiate(0));
	queue_set_up(0, RING_GPA, 128, VIRTIO_NO_VECTOR);
	driver_ok();
	desc_put(0, DATA_GPA, BUF_LEN, VRING_DESC_F_WRITE, 0);
	a->idx = 128; /* each of them chain 0 */
	reg_put(AT_DOORBELLS, 2, 0);
	assert_int_equal(used_ring()->idx, 64);
	serve_loop();
	assert_int_equal(used_ring()->idx, 128);
}

static void no_room_is_broken(void **state)
{
	desc_put(0, DATA_GPA, BUF_LEN, 0, 0);
	offer(0);
	ring_bell(&rng->virtio, 0);
	serve_loop();
	assert_true(needs_reset());
	assert_int_equal(rng->virtio.in_flight, 0);
}

/* Nothing of it is ever in flight: it need not wait with a disk that is slow to finish. */
static void bytes_come_while_others_finish(void **state)
{
	assert_false(rng_class.quiesce && rng_class.quiesce(&rng->dev, NULL));
	ask(DATA_GPA, BUF_LEN);
	assert_int_equal(used_ring()->idx, 1);
}

/* It has no configuration of its own, so no capability for one, which Linux would complain about. */
static void no_configuration(void **state)
{
	for (unsigned at = config_get(m, SLOT, PCI_CAPABILITY_LIST, 1); at;
	     at = config_get(m, SLOT, at + 1, 1))
		if (config_get(m, SLOT, at, 1) == PCI_CAP_ID_VNDR)
			assert_int_not_equal(config_get(m, SLOT, at + 3, 1),
					     VIRTIO_PCI_CAP_DEVICE_CFG);
}

static void one_is_enough(void **state)
{
	struct error err;
	assert_int_equal(machine_add_device(m, &rng_class, NULL, &err), -EEXIST);
	assert_int_equal(err.exit, EXIT_USAGE);
	assert_int_equal(unit_uncovered(rng_class.state), rng_class.state->size);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {TEST(bytes_come),
					   TEST(not_without_end),
					   TEST(a_turn_ends),
					   TEST(no_room_is_broken),
					   TEST(bytes_come_while_others_finish),
					   TEST(no_configuration),
					   TEST(one_is_enough)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
