/* SPDX-License-Identifier: MIT */
/* A virtio device that takes chains when its queue is kicked, and gives them back when the test does. */
#ifndef MOLT_TEST_VIRTIO_PLAIN_H
#define MOLT_TEST_VIRTIO_PLAIN_H

#include "tests/unit/fake_virtio.h"

#define QUEUES	    2
#define FEATURE_OWN (1ull << 5)
#define INDIRECT    (1ull << VIRTIO_RING_F_INDIRECT_DESC)
#define EVENT_IDX   (1ull << VIRTIO_RING_F_EVENT_IDX)

struct plain_state {
	struct virtio_state virtio;
};

struct plain {
	struct device dev;
	struct virtio_dev virtio;
	uint64_t config;
	bool hold; /* takes none */
	unsigned kicks[QUEUES], starts, stops;
	struct virtq_chain chain[VIRTIO_QUEUE_SIZE]; /* taken, oldest first */
	unsigned taken;
	struct plain_state state;
};

static const struct field plain_fields[] = {VIRTIO_STATE_FIELDS(struct plain_state, virtio)};
static STATE_CLASS(plain_state_class, "plain", 1, struct plain_state, plain_fields);

static void plain_kick(struct virtio_dev *v, unsigned q)
{
	struct plain *p = (struct plain *)v->owner;
	p->kicks[q]++;
	while (!p->hold && p->taken < VIRTIO_QUEUE_SIZE && virtq_pop(v, q, &p->chain[p->taken]))
		p->taken++;
}

static void plain_config_write(struct virtio_dev *v, unsigned off, unsigned len, uint64_t value)
{
	struct plain *p = (struct plain *)v->owner;
	store_le((uint8_t *)&p->config + off, value, len);
}

static void plain_started(struct virtio_dev *v)
{
	((struct plain *)v->owner)->starts++;
}

static void plain_stopped(struct virtio_dev *v)
{
	((struct plain *)v->owner)->stops++;
}

static const struct virtio_ops plain_ops = {
	.type = 63,
	.pci_class = 0xff0000,
	.kick = plain_kick,
	.config_write = plain_config_write,
	.started = plain_started,
	.stopped = plain_stopped,
};

static int plain_init(struct device *base, const char *arg, struct error *err)
{
	struct plain *p = (struct plain *)base;
	return virtio_dev_init(&p->virtio, base, &plain_ops, &p->state.virtio, QUEUES, err);
}

static int plain_open(struct device *base, struct error *err)
{
	return virtio_dev_open(&((struct plain *)base)->virtio, err);
}

static int plain_realize(struct device *base, struct error *err)
{
	struct plain *p = (struct plain *)base;
	p->config = 0x1122334455667788;
	return virtio_dev_realize(&p->virtio, FEATURE_OWN, &p->config, sizeof(p->config), err);
}

static int plain_reset(struct device *base, struct error *err)
{
	virtio_dev_reset(&((struct plain *)base)->virtio);
	return 0;
}

static int plain_post_load(void *opaque, struct error *err)
{
	return virtio_dev_load(&((struct plain *)opaque)->virtio, err);
}

static int plain_start(struct device *base, struct error *err)
{
	virtio_dev_start(&((struct plain *)base)->virtio);
	return 0;
}

static int plain_serve(struct device *base, struct error *err)
{
	virtio_dev_serve(&((struct plain *)base)->virtio);
	return 0;
}

static void plain_destroy(struct device *base)
{
	virtio_dev_destroy(&((struct plain *)base)->virtio);
}

static const struct device_class plain_class = {
	.name = "plain",
	.state = &plain_state_class,
	.size = sizeof(struct plain),
	.state_offset = offsetof(struct plain, state),
	.init = plain_init,
	.open = plain_open,
	.realize = plain_realize,
	.reset = plain_reset,
	.post_load = plain_post_load,
	.start = plain_start,
	.serve = plain_serve,
	.destroy = plain_destroy,
};

static struct plain *dev;

static inline int setup(void **state)
{
	memset(&fake, 0, sizeof(fake));
	memset(lines, 0, sizeof(lines));
	bells = 0;
	m = virtio_machine(true, &plain_class, NULL, NULL);
	dev = (struct plain *)m->devices[1];
	virtio_run();
	return 0;
}

static inline int teardown(void **state)
{
	virtio_free();
	return 0;
}

static inline void take_all(void)
{
	ring_bell(&dev->virtio, 0);
	serve_loop();
}

static inline void give_back(unsigned i, uint32_t len)
{
	virtq_push(&dev->virtio, 0, dev->chain[i].head, len);
}

static inline void one_chain(uint16_t flags)
{
	dev->taken = 0;
	desc_put(0, DATA_GPA, 1, 0, 0);
	avail_ring()->flags = flags;
	offer(0);
	take_all();
	assert_int_equal(dev->taken, 1);
	give_back(0, 0);
	virtq_notify(&dev->virtio, 0);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

#endif
