/* SPDX-License-Identifier: MIT */
/* Split virtqueues. The guest is hostile: what it may write into rings stops the device, and harms nothing. */
#include "tests/unit/virtio_plain.h"

static void chains_come_and_go(void **state)
{
	driver_start(INDIRECT);
	struct vring_desc *table = (struct vring_desc *)mem(DATA_GPA);
	for (uint32_t round = 0; round < 3 * QUEUE_LEN; round++) {
		desc_put(3, DATA_GPA + 0x1000, 16, VRING_DESC_F_NEXT, 5);
		desc_put(5, HIGH_GPA, 512, VRING_DESC_F_WRITE, 0);
		table[0] = (struct vring_desc){DATA_GPA, 1, VRING_DESC_F_NEXT, 2};
		table[2] = (struct vring_desc){HIGH_GPA + 9, 2, VRING_DESC_F_WRITE, 0};
		desc_put(0, DATA_GPA, 48, VRING_DESC_F_INDIRECT, 0);
		offer(3);
		offer(0);
		take_all();
		assert_int_equal(dev->taken, 2);
		const struct virtq_chain *c = dev->chain;
		assert_int_equal(c[0].head, 3);
		assert_int_equal(c[0].out, 1);
		assert_int_equal(c[0].in, 1);
		assert_ptr_equal(c[0].iov[1].iov_base, mem(HIGH_GPA));
		assert_int_equal(c[0].iov[1].iov_len, 512);
		assert_int_equal(c[1].head, 0);
		assert_int_equal(c[1].iov[0].iov_len, 1);
		assert_ptr_equal(c[1].iov[1].iov_base, mem(HIGH_GPA + 9));
		assert_int_equal(dev->virtio.in_flight, 2);
		give_back(1, 2); /* in whatever order */
		give_back(0, 512);
		assert_int_equal(used_ring()->idx, 2 * round + 2);
		assert_int_equal(used_ring()->ring[2 * round % QUEUE_LEN].id, 0);
		assert_int_equal(used_ring()->ring[(2 * round + 1) % QUEUE_LEN].len, 512);
		dev->taken = 0;
	}
	assert_int_equal(dev->virtio.in_flight, 0);
	assert_false(needs_reset());
}

static void indices_wrap(void **state)
{
	driver_start(0);
	desc_put(0, DATA_GPA, 1, 0, 0);
	for (unsigned i = 0; i < 70000; i++) {
		offer(0);
		virtio_look(&dev->virtio, 0);
		assert_int_equal(dev->taken, 1);
		give_back(0, 0);
		dev->taken = 0;
	}
	assert_int_equal(used_ring()->idx, 70000 % 65536);
	assert_false(needs_reset());
}

static const struct {
	const char *name;
	struct vring_desc desc[QUEUE_LEN], table[4];
	uint16_t head;
} broken_chains[] = {
	{"loop", {{DATA_GPA, 1, VRING_DESC_F_NEXT, 1}, {DATA_GPA, 1, VRING_DESC_F_NEXT, 0}}},
	{"itself", {{DATA_GPA, 1, VRING_DESC_F_NEXT, 0}}},
	{"head beyond", {{DATA_GPA, 1, 0, 0}}, .head = QUEUE_LEN},
	{"head far beyond", {{DATA_GPA, 1, 0, 0}}, .head = 0xffff},
	{"next beyond", {{DATA_GPA, 1, VRING_DESC_F_NEXT, QUEUE_LEN}}},
	{"beyond memory", {{LOW_LEN, 1, 0, 0}}},
	{"across its end", {{LOW_LEN - 1, 2, 0, 0}}},
	{"wraps", {{UINT64_MAX, 2, 0, 0}}},
	{"long", {{0, UINT32_MAX, 0, 0}}},
	{"empty", {{DATA_GPA, 0, 0, 0}}},
	{"read after written",
	 {{DATA_GPA, 1, VRING_DESC_F_NEXT | VRING_DESC_F_WRITE, 1}, {DATA_GPA, 1, 0, 0}}},
	{"table empty", {{DATA_GPA, 0, VRING_DESC_F_INDIRECT, 0}}},
	{"table of half an entry", {{DATA_GPA, 24, VRING_DESC_F_INDIRECT, 0}}},
	{"table and next", {{DATA_GPA, 16, VRING_DESC_F_INDIRECT | VRING_DESC_F_NEXT, 1}}},
	{"table elsewhere", {{LOW_LEN - 16, 32, VRING_DESC_F_INDIRECT, 0}}},
	{"table huge", {{DATA_GPA, 0xfffffff0, VRING_DESC_F_INDIRECT, 0}}},
	{"table in a table",
	 {{DATA_GPA, 16, VRING_DESC_F_INDIRECT, 0}},
	 {{DATA_GPA, 16, VRING_DESC_F_INDIRECT, 0}}},
	{"table with a loop",
	 {{DATA_GPA, 32, VRING_DESC_F_INDIRECT, 0}},
	 {{DATA_GPA, 1, VRING_DESC_F_NEXT, 1}, {DATA_GPA, 1, VRING_DESC_F_NEXT, 0}}},
	{"table left",
	 {{DATA_GPA, 32, VRING_DESC_F_INDIRECT, 0}},
	 {{DATA_GPA, 1, VRING_DESC_F_NEXT, 2}}},
};

/* None is taken, the guest is told, and after a reset it works again. */
static void broken_chains_stop_it(void **state)
{
	for (unsigned i = 0; i < ARRAY_LEN(broken_chains); i++) {
		driver_start(INDIRECT);
		msix_on(QUEUES + 1);
		reg_put(VIRTIO_PCI_COMMON_MSIX, 2, 0);
		memcpy(mem(RING_GPA), broken_chains[i].desc, sizeof(broken_chains[i].desc));
		memcpy(mem(DATA_GPA), broken_chains[i].table, sizeof(broken_chains[i].table));
		offer(broken_chains[i].head);
		take_all();
		if (dev->taken || !needs_reset() || counted("plain:msix:0") != 1)
			fail_msg("%s: taken", broken_chains[i].name);
		take_all();
		assert_int_equal(used_ring()->idx, 0);
		assert_int_equal(dev->virtio.in_flight, 0);
	}
	driver_start(0);
	desc_put(0, DATA_GPA, 16, VRING_DESC_F_INDIRECT, 0); /* not agreed on */
	offer(0);
	take_all();
	assert_true(needs_reset());
	driver_start(0);
	avail_ring()->idx = QUEUE_LEN + 1;
	take_all();
	assert_true(needs_reset());
	driver_start(0);
	desc_put(0, DATA_GPA, 1, 0, 0);
	offer(0);
	take_all();
	assert_int_equal(dev->taken, 1);
	assert_int_equal(dev->virtio.complaints, 5); /* a guest cannot fill the log */
}

/* A well-made chain of as many buffers as a chain may have, and one more. */
static void longest_chain(void **state)
{
	for (unsigned more = 0; more < 2; more++) {
		driver_start(INDIRECT);
		struct vring_desc *t = (struct vring_desc *)mem(DATA_GPA);
		unsigned n = VIRTIO_MAX_BUFFERS + more;
		for (unsigned i = 0; i < n; i++)
			t[i] = (struct vring_desc){HIGH_GPA + i, 1,
						   i + 1 < n ? VRING_DESC_F_NEXT : 0,
						   (uint16_t)(i + 1)};
		desc_put(0, DATA_GPA, 16 * n, VRING_DESC_F_INDIRECT, 0);
		offer(0);
		take_all();
		assert_int_equal(needs_reset(), more);
		assert_int_equal(dev->taken, !more);
		if (!more)
			give_back(0, 0);
		dev->taken = 0;
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(chains_come_and_go),
		TEST(indices_wrap),
		TEST(broken_chains_stop_it),
		TEST(longest_chain),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
