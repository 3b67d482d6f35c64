/* SPDX-License-Identifier: MIT */
/* Virtio's PCI transport: registers, interrupts, reset, updates. The guest is hostile: what it may write harms
 * nothing. */
#include "tests/unit/virtio_plain.h"

/* ---- transport ---- */

/* Each capability of virtio once, where it says: BAR 0, inside it (4.1.4). */
static void capabilities_are_there(void **state)
{
	unsigned seen = 0, n = 0;
	assert_int_equal(config_get(m, SLOT, PCI_VENDOR_ID, 4), 0x107f1af4);
	assert_int_equal(config_get(m, SLOT, PCI_REVISION_ID, 1), 1);
	for (unsigned at = config_get(m, SLOT, PCI_CAPABILITY_LIST, 1); at && n < 20; n++) {
		if (config_get(m, SLOT, at, 1) == PCI_CAP_ID_VNDR) {
			unsigned kind = config_get(m, SLOT, at + 3, 1);
			seen |= 1u << kind;
			assert_int_equal(config_get(m, SLOT, at + 4, 1), 0);
			assert_true(config_get(m, SLOT, at + 8, 4) % 4 == 0);
		}
		at = config_get(m, SLOT, at + 1, 1);
	}
	assert_int_equal(seen, 0x3e);
	assert_int_equal(n, 6);
	assert_int_equal(config_get(m, SLOT, CAP_MSIX + PCI_MSIX_FLAGS, 2), QUEUES);
	assert_int_equal(bells, QUEUES);
	config_put(m, SLOT, PCI_COMMAND, 2, 0);
	assert_int_equal(bells, 0);
}

static void features_are_agreed_on(void **state)
{
	uint64_t offered = FEATURE_OWN | INDIRECT | EVENT_IDX | 1ull << VIRTIO_F_VERSION_1;
	for (uint32_t i = 0; i < 3; i++) {
		reg_put(VIRTIO_PCI_COMMON_DFSELECT, 4, i);
		assert_int_equal(reg_get(VIRTIO_PCI_COMMON_DF, 4),
				 i < 2 ? (uint32_t)(offered >> 32 * i) : 0);
	}
	assert_true(negotiate(FEATURE_OWN));
	/* From then on they stay. */
	reg_put(VIRTIO_PCI_COMMON_GFSELECT, 4, 0);
	reg_put(VIRTIO_PCI_COMMON_GF, 4, 0);
	assert_int_equal(reg_get(VIRTIO_PCI_COMMON_GF, 4), FEATURE_OWN);
	assert_false(negotiate(FEATURE_OWN << 1));
	/* Nothing works without that. */
	driver_ok();
	assert_int_equal(reg_get(VIRTIO_PCI_COMMON_STATUS, 1), 3);
	reg_put(VIRTIO_PCI_COMMON_STATUS, 1, 0);
	reg_put(VIRTIO_PCI_COMMON_STATUS, 1, 11); /* nor without version 1 */
	assert_int_equal(reg_get(VIRTIO_PCI_COMMON_STATUS, 1), 3);
	assert_int_equal(dev->starts, 0);
}

static void queues_are_set_up_once(void **state)
{
	driver_start(0);
	assert_int_equal(dev->starts, 1);
	assert_int_equal(reg_get(VIRTIO_PCI_COMMON_NUMQ, 2), QUEUES);
	assert_int_equal(reg_get(VIRTIO_PCI_COMMON_Q_SIZE, 2), QUEUE_LEN);
	assert_int_equal(reg_get(VIRTIO_PCI_COMMON_Q_ENABLE, 2), 1);
	reg_put(VIRTIO_PCI_COMMON_Q_DESCLO, 4, 0xdead0000);
	reg_put(VIRTIO_PCI_COMMON_Q_SIZE, 2, 4);
	assert_int_equal(reg_get(VIRTIO_PCI_COMMON_Q_DESCLO, 4), RING_GPA);
	assert_int_equal(reg_get(VIRTIO_PCI_COMMON_Q_SIZE, 2), QUEUE_LEN);
	reg_put(VIRTIO_PCI_COMMON_Q_SELECT, 2, 1);
	assert_int_equal(reg_get(VIRTIO_PCI_COMMON_Q_SIZE, 2), VIRTIO_QUEUE_SIZE);
	assert_int_equal(reg_get(VIRTIO_PCI_COMMON_Q_NOFF, 2), 1);
	for (unsigned bad = 0; bad < 4; bad++) {
		static const uint16_t sizes[] = {0, 3, 2 * VIRTIO_QUEUE_SIZE, 0xffff};
		reg_put(VIRTIO_PCI_COMMON_Q_SIZE, 2, sizes[bad]);
		assert_int_equal(reg_get(VIRTIO_PCI_COMMON_Q_SIZE, 2), VIRTIO_QUEUE_SIZE);
	}
	reg_put(VIRTIO_PCI_COMMON_Q_MSIX, 2, QUEUES + 1);
	assert_int_equal(reg_get(VIRTIO_PCI_COMMON_Q_MSIX, 2), VIRTIO_NO_VECTOR);
	reg_put(VIRTIO_PCI_COMMON_Q_SELECT, 2, QUEUES);
	assert_int_equal(reg_get(VIRTIO_PCI_COMMON_Q_SIZE, 2), 0);
	reg_put(VIRTIO_PCI_COMMON_Q_ENABLE, 2, 1);
	assert_false(needs_reset());
	reg_put(VIRTIO_PCI_COMMON_STATUS, 1, 0);
	assert_int_equal(dev->stops, 1);
	assert_int_equal(reg_get(VIRTIO_PCI_COMMON_STATUS, 1), 0);
}

static void rings_elsewhere_stop_it(void **state)
{
	static const uint64_t where[] = {
		LOW_LEN - PAGE_LEN,    LOW_LEN,	   HIGH_GPA + HIGH_LEN - PAGE_LEN, RING_GPA + 8,
		UINT64_MAX - PAGE_LEN, 1ull << 63,
	};
	for (unsigned i = 0; i < ARRAY_LEN(where); i++) {
		assert_true(negotiate(0));
		reg_put(VIRTIO_PCI_COMMON_Q_SELECT, 2, 0);
		for (unsigned ring = 0; ring < 3; ring++) {
			uint64_t at = where[i] + ring * PAGE_LEN;
			reg_put(VIRTIO_PCI_COMMON_Q_DESCLO + 8 * ring, 4, (uint32_t)at);
			reg_put(VIRTIO_PCI_COMMON_Q_DESCHI + 8 * ring, 4, (uint32_t)(at >> 32));
		}
		reg_put(VIRTIO_PCI_COMMON_Q_ENABLE, 2, 1);
		assert_true(needs_reset());
		assert_int_equal(reg_get(VIRTIO_PCI_COMMON_Q_ENABLE, 2), 0);
		driver_ok();
		ring_bell(&dev->virtio, 0);
		serve_loop();
	}
	assert_int_equal(dev->kicks[0], 0);
}

static void every_access_is_bounded(void **state)
{
	static const unsigned lens[] = {1, 2, 4, 8};
	driver_start(0);
	for (unsigned write = 0; write < 2; write++)
		for (unsigned i = 0; i < ARRAY_LEN(lens); i++)
			for (unsigned off = 0; off < 0x8000;
			     off += off % 0x1000 < 0x80 ? 1 : 0x61) {
				/* No reset: what is there stays to be hurt. */
				if (off == VIRTIO_PCI_COMMON_STATUS)
					continue;
				if (write)
					guest_write(&m->mmio, bar() + off, lens[i], off * 0x9e37u);
				else
					guest_read(&m->mmio, bar() + off, lens[i]);
			}
	assert_int_equal(reg_get(VIRTIO_PCI_COMMON_Q_SELECT, 4), UINT32_MAX);
}

static void configuration_is_the_device_s(void **state)
{
	assert_int_equal(reg_get(AT_CONFIG + 4, 4), 0x11223344);
	reg_put(AT_CONFIG + 7, 1, 0x99);
	assert_int_equal(dev->config >> 56, 0x99);
	assert_int_equal(reg_get(AT_CONFIG + 8, 1), 0xff);
	reg_put(AT_CONFIG + 6, 4, 0); /* not all of it is there */
	assert_int_equal(dev->config >> 56, 0x99);
}

/* 4.1.4.9 */
static void bar_through_config_space(void **state)
{
	config_put(m, SLOT, 0x94 + 4, 1, 0);
	config_put(m, SLOT, 0x94 + 8, 4, AT_COMMON + VIRTIO_PCI_COMMON_NUMQ);
	config_put(m, SLOT, 0x94 + 12, 4, 2);
	assert_int_equal(config_get(m, SLOT, 0x94 + 16, 2), QUEUES);
	config_put(m, SLOT, 0x94 + 8, 4, AT_CONFIG);
	config_put(m, SLOT, 0x94 + 12, 4, 4);
	config_put(m, SLOT, 0x94 + 16, 4, 0xabcdef01);
	assert_int_equal((uint32_t)dev->config, 0xabcdef01);
	static const uint32_t bad[][3] = {{1, 0, 4}, {0, 0x8000, 4}, {0, 0x7ffe, 4}, {0, 2, 4},
					  {0, 0, 3}, {0, 0, 0},	     {0, 0, ~0u},    {0, ~3u, 4}};
	for (unsigned i = 0; i < ARRAY_LEN(bad); i++) {
		config_put(m, SLOT, 0x94 + 4, 1, bad[i][0]);
		config_put(m, SLOT, 0x94 + 8, 4, bad[i][1]);
		config_put(m, SLOT, 0x94 + 12, 4, bad[i][2]);
		assert_int_equal(config_get(m, SLOT, 0x94 + 16, 4), UINT32_MAX);
		config_put(m, SLOT, 0x94 + 16, 4, 0);
	}
}

/* ---- interrupts ---- */

static void line_follows_isr(void **state)
{
	unsigned gsi = pci_intx_gsi(&dev->virtio.pci, 1);
	driver_start(0);
	one_chain(0);
	assert_true(lines[gsi]);
	assert_true(config_get(m, SLOT, PCI_STATUS, 2) & PCI_STATUS_INTERRUPT);
	config_put(m, SLOT, PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_INTX_DISABLE);
	assert_false(lines[gsi]);
	config_put(m, SLOT, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	assert_true(lines[gsi]);
	assert_int_equal(reg_get(AT_ISR, 1), VIRTIO_ISR_QUEUE);
	assert_false(lines[gsi]);
	assert_int_equal(reg_get(AT_ISR, 1), 0);
	virtio_config_changed(&dev->virtio);
	one_chain(0);
	assert_int_equal(reg_get(AT_ISR, 1), VIRTIO_ISR_QUEUE | VIRTIO_ISR_CONFIG);
	one_chain(VRING_AVAIL_F_NO_INTERRUPT);
	assert_false(lines[gsi]);
	one_chain(0);
	assert_true(lines[gsi]);
	reg_put(VIRTIO_PCI_COMMON_STATUS, 1, 0);
	assert_false(lines[gsi]);
}

static void vectors_are_signalled(void **state)
{
	assert_true(negotiate(0));
	queue_set_up(0, RING_GPA, QUEUE_LEN, 2);
	reg_put(VIRTIO_PCI_COMMON_MSIX, 2, 1);
	driver_ok();
	msix_on(QUEUES + 1);
	one_chain(0);
	assert_int_equal(counted("plain:msix:2"), 1);
	virtio_config_changed(&dev->virtio);
	assert_int_equal(counted("plain:msix:1"), 1);
	assert_int_equal(counted("plain:msix:0"), 0);
	one_chain(VRING_AVAIL_F_NO_INTERRUPT);
	assert_int_equal(counted("plain:msix:2"), 0);
	/* Masked it stays pending. */
	guest_write(&m->mmio, bar() + AT_TABLE + 2 * 16 + 12, 4, 1);
	one_chain(0);
	assert_int_equal(guest_read(&m->mmio, bar() + 0x5000, 4), 4);
	assert_false(lines[pci_intx_gsi(&dev->virtio.pci, 1)]);
}

/* With EVENT_IDX the guest says at which index it wants to hear, and is told when to kick (2.7.10). */
static void events_by_index(void **state)
{
	assert_true(negotiate(EVENT_IDX));
	queue_set_up(0, RING_GPA, QUEUE_LEN, 0);
	driver_ok();
	msix_on(1);
	uint16_t *used_event = &avail_ring()->ring[QUEUE_LEN];
	uint16_t *avail_event = (uint16_t *)&used_ring()->ring[QUEUE_LEN];
	for (uint16_t i = 0; i < 20; i++) {
		*used_event = (uint16_t)(i / 4 * 4 + 3);
		one_chain(0);
		assert_int_equal(counted("plain:msix:0"), i % 4 == 3);
		assert_int_equal(*avail_event, i + 1);
	}
}

/* ---- reset while something is in flight ---- */

static void reset_waits_for_what_is_in_flight(void **state)
{
	driver_start(0);
	desc_put(0, DATA_GPA, 1, 0, 0);
	desc_put(1, DATA_GPA, 1, 0, 0);
	offer(0);
	offer(1);
	take_all();
	give_back(0, 0);
	reg_put(VIRTIO_PCI_COMMON_STATUS, 1, 0);
	assert_int_not_equal(reg_get(VIRTIO_PCI_COMMON_STATUS, 1), 0);
	assert_int_equal(dev->stops, 0);
	reg_put(VIRTIO_PCI_COMMON_STATUS, 1, 1); /* who does not wait is not heard */
	offer(0);
	take_all();
	assert_int_equal(dev->taken, 2);
	memset(used_ring(), 0x5a, 64);
	give_back(1, 77);
	assert_int_equal(reg_get(VIRTIO_PCI_COMMON_STATUS, 1), 0);
	assert_int_equal(dev->stops, 1);
	/* That memory is the driver's again. */
	for (unsigned i = 0; i < 64; i++)
		assert_int_equal(((uint8_t *)used_ring())[i], 0x5a);
	dev->taken = 0;
	driver_start(0);
	one_chain(0);
	assert_int_equal(used_ring()->idx, 1);
}

/* ---- updates ---- */

/* Nothing new is taken, and what is in flight ends; the state finds no chain taken. */
static void quiet_before_an_update(void **state)
{
	struct error err = {0};
	driver_start(0);
	desc_put(0, DATA_GPA, 1, 0, 0);
	offer(0);
	take_all();
	assert_int_equal(virtio_dev_quiesce(&dev->virtio, &err), -EBUSY);
	assert_non_null(strstr(err.text, "1 requests in flight"));
	offer(0);
	take_all();
	assert_int_equal(dev->taken, 1);
	give_back(0, 0);
	assert_int_equal(virtio_dev_quiesce(&dev->virtio, &err), 0);
	virtio_dev_serve(&dev->virtio); /* taken back: the kick was taken, the chain is not lost */
	serve_loop();
	assert_int_equal(dev->taken, 2);
}

static struct machine *successor(const struct fake_blob *blob, int want, struct error *err)
{
	struct machine *next = virtio_machine(false, &plain_class, NULL, m->ram.hva);
	assert_int_equal(fake_load(next, blob, err), want);
	return next;
}

static void another_program_goes_on(void **state)
{
	struct error err = {0};
	driver_start(0);
	for (unsigned i = 0; i < 11; i++)
		one_chain(0);
	assert_int_equal(virtio_dev_quiesce(&dev->virtio, &err), 0);
	desc_put(0, DATA_GPA, 7, 0, 0);
	offer(0);
	take_all(); /* the kick is gone */
	irq_detach_all(&m->irq, NULL);
	struct fake_blob blob = fake_save(m);
	uint8_t before[3 * PAGE_LEN];
	memcpy(before, mem(RING_GPA), sizeof(before));
	memset(lines, 0, sizeof(lines));
	struct machine *next = successor(&blob, 0, &err), *old = m;
	m = next;
	/* Loading has touched nothing, and the line is asserted when the guest runs. */
	assert_memory_equal(mem(RING_GPA), before, sizeof(before));
	dev = (struct plain *)m->devices[1];
	assert_int_equal(fake_start(m, &err), 0);
	assert_true(lines[pci_intx_gsi(&dev->virtio.pci, 1)]);
	assert_int_equal(plain_serve(m->devices[1], &err), 0);
	serve_loop();
	assert_int_equal(dev->taken, 1);
	assert_int_equal(dev->chain[0].iov[0].iov_len, 7);
	give_back(0, 0);
	assert_int_equal(used_ring()->idx, 12);
	free(blob.data);
	old->ram.hva = NULL;
	virtio_leave(old);
}

static void bad_states_are_refused(void **state)
{
	struct virtio_state *s = &dev->state.virtio;
	const struct {
		uint32_t *at;
		uint32_t value;
	} bad[] = {{&s->size[0], 0},
		   {&s->size[0], 3},
		   {&s->size[1], 256},
		   {&s->vector[1], 3},
		   {&s->index[0], 65536},
		   {&s->config_vector, 99},
		   {&s->status, 256},
		   {&s->isr, 256},
		   {&s->queues, 1},
		   {(uint32_t *)&s->desc[0], 1},
		   {(uint32_t *)&s->used[0] + 1, 77},
		   {(uint32_t *)&s->features, 1u << 31}};
	driver_start(0);
	for (unsigned i = 0; i < ARRAY_LEN(bad); i++) {
		struct error err = {0};
		uint32_t good = *bad[i].at;
		*bad[i].at = bad[i].value;
		irq_detach_all(&m->irq, NULL);
		struct fake_blob blob = fake_save(m);
		*bad[i].at = good;
		struct machine *next = successor(
			&blob, bad[i].at == (uint32_t *)&s->features ? -EOPNOTSUPP : -EBADMSG,
			&err);
		next->ram.hva = NULL;
		virtio_leave(next);
		free(blob.data);
	}
}

static void all_of_the_state_has_a_field(void **state)
{
	assert_int_equal(unit_uncovered(&plain_state_class), plain_state_class.size);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(capabilities_are_there),
		TEST(features_are_agreed_on),
		TEST(queues_are_set_up_once),
		TEST(rings_elsewhere_stop_it),
		TEST(every_access_is_bounded),
		TEST(configuration_is_the_device_s),
		TEST(bar_through_config_space),
		TEST(line_follows_isr),
		TEST(vectors_are_signalled),
		TEST(events_by_index),
		TEST(reset_waits_for_what_is_in_flight),
		TEST(quiet_before_an_update),
		TEST(another_program_goes_on),
		TEST(bad_states_are_refused),
		TEST(all_of_the_state_has_a_field),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
