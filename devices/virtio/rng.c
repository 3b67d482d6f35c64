/* SPDX-License-Identifier: MIT */
/* A source of random bytes for the guest (VIRTIO 1.2, 5.4): the host kernel's. Nothing is in flight between two
 * kicks. */
#include <linux/virtio_ids.h>
#include <sys/random.h>

#include "devices/virtio/rng.h"
#include "vmm/machine.h"

#define BYTES_MAX   4096     /* of one chain: a guest may ask for gigabytes */
#define TURN	    64	     /* chains: then others may have the device lock */
#define CLASS_OTHER 0x00ff00 /* of no class */

static const struct field rng_fields[] = {VIRTIO_STATE_FIELDS(struct rng_state, virtio)};
static STATE_CLASS(rng_state_class, "rng", 1, struct rng_state, rng_fields);

static uint32_t fill(const struct virtq_chain *chain)
{
	uint8_t bytes[BYTES_MAX];
	const struct iovec *in = chain->iov + chain->out;
	size_t want = iov_size(in, chain->in), done = 0;
	want = want < sizeof(bytes) ? want : sizeof(bytes);
	while (done < want) {
		ssize_t n = getrandom(bytes + done, want - done, 0);
		if (n < 0 && errno != EINTR)
			break;
		done += n > 0 ? (size_t)n : 0;
	}
	iov_write(in, chain->in, bytes, done);
	explicit_bzero(bytes, sizeof(bytes));
	return (uint32_t)done;
}

static void rng_kick(struct virtio_dev *v, unsigned q)
{
	struct rng *rng = (struct rng *)v->owner;
	unsigned i = 0;
	while (i++ < TURN && virtq_pop(v, q, &rng->chain)) {
		if (!rng->chain.in)
			virtio_broken(v, "a request has no room for what it asks");
		virtq_push(v, q, rng->chain.head, fill(&rng->chain));
	}
	if (i > TURN)
		virtio_look_again(v, q);
	virtq_notify(v, q);
}

static const struct virtio_ops rng_ops = {
	.type = VIRTIO_ID_RNG,
	.pci_class = CLASS_OTHER,
	.kick = rng_kick,
};

static int rng_init(struct device *base, const char *arg, struct error *err)
{
	struct rng *rng = (struct rng *)base;
	if (machine_device(base->m, "rng", NULL))
		return error_end(err, EXIT_USAGE, EEXIST, "--rng is given twice");
	return virtio_dev_init(&rng->virtio, base, &rng_ops, &rng->state.virtio, 1, err);
}

static int rng_open(struct device *base, struct error *err)
{
	return virtio_dev_open(&((struct rng *)base)->virtio, err);
}

static int rng_realize(struct device *base, struct error *err)
{
	return virtio_dev_realize(&((struct rng *)base)->virtio, 0, NULL, 0, err);
}

static int rng_reset(struct device *base, struct error *err)
{
	virtio_dev_reset(&((struct rng *)base)->virtio);
	return 0;
}

static int rng_post_load(void *opaque, struct error *err)
{
	return virtio_dev_load(&((struct rng *)opaque)->virtio, err);
}

static int rng_start(struct device *base, struct error *err)
{
	virtio_dev_start(&((struct rng *)base)->virtio);
	return 0;
}

static int rng_serve(struct device *base, struct error *err)
{
	virtio_dev_serve(&((struct rng *)base)->virtio);
	return 0;
}

static void rng_destroy(struct device *base)
{
	virtio_dev_destroy(&((struct rng *)base)->virtio);
}

/* Nothing is in flight between two handlers: it has no quiesce, and runs until the pause. */
const struct device_class rng_class = {
	.name = "rng",
	.state = &rng_state_class,
	.size = sizeof(struct rng),
	.state_offset = offsetof(struct rng, state),
	.init = rng_init,
	.open = rng_open,
	.realize = rng_realize,
	.reset = rng_reset,
	.post_load = rng_post_load,
	.start = rng_start,
	.serve = rng_serve,
	.destroy = rng_destroy,
};
