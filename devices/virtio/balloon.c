/* SPDX-License-Identifier: MIT */
/* The balloon: which memory can be taken back, and how. */
#include "devices/virtio/balloon.h"

#include <fcntl.h>
#include <linux/virtio_ids.h>
#include <sys/stat.h>

#include "vmm/machine.h"

/* Inflate, deflate, reporting: those between the last two come with features that are not offered, and drivers (Linux,
 * drivers/virtio/virtio_balloon.c) number the queues that there are. */
#define QUEUES	    3
#define REPORTING   2
#define CLASS_OTHER 0x00ff00 /* of no class */

static const struct field balloon_fields[] = {VIRTIO_STATE_FIELDS(struct balloon_state, virtio)};
static STATE_CLASS(balloon_state_class, "balloon", 1, struct balloon_state, balloon_fields);

/* Whole pages: what is left over at both ends shares its page with memory that the guest uses. */
static void take_back(struct balloon *b, const struct iovec *buffer)
{
	const struct ram *ram = &b->dev.m->ram;
	uint64_t at = (uint64_t)((uint8_t *)buffer->iov_base - ram->hva);
	uint64_t from = align_up(at, PAGE_LEN), to = align_down(at + buffer->iov_len, PAGE_LEN);
	if (from >= to || b->refused)
		return;
	if (fallocate(ram->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)from,
		      (off_t)(to - from)) < 0) {
		b->refused = true;
		device_tell(&b->dev, "the host does not take free memory back", false);
		return;
	}
	b->dev.m->counters.state.reported += to - from;
}

/* One chain in a turn, as each may have much memory: then others may have the device lock. Linux has one at a time.
 * What comes to the other queues is given back unused: a page is the guest's as long as it was not reported. */
static void balloon_kick(struct virtio_dev *v, unsigned q)
{
	struct balloon *b = (struct balloon *)v->owner;
	const struct virtq_chain *chain = &b->chain;
	if (!virtq_pop(v, q, &b->chain))
		return;
	for (unsigned i = 0; q == REPORTING && i < chain->in; i++)
		take_back(b, &chain->iov[chain->out + i]);
	virtq_push(v, q, chain->head, 0);
	virtq_notify(v, q);
	virtio_look_again(v, q);
}

static const struct virtio_ops balloon_ops = {
	.type = VIRTIO_ID_BALLOON,
	.pci_class = CLASS_OTHER,
	.kick = balloon_kick,
};

static int balloon_init(struct device *base, const char *arg, struct error *err)
{
	struct balloon *b = (struct balloon *)base;
	if (machine_device(base->m, "balloon", NULL))
		return error_end(err, EXIT_USAGE, EEXIST, "--balloon is given twice");
	return virtio_dev_init(&b->virtio, base, &balloon_ops, &b->state.virtio, QUEUES, err);
}

/* A page that a device has pinned stays in the IOMMU: the device would go on with the old one, the guest with a new
 * one. A huge page would go back to the host's pool, and if it is given to somebody else the guest dies of SIGBUS when
 * it wants it again. A device DAX has no pages to give. */
static int can_take_back(struct machine *m, struct error *err)
{
	struct stat st;
	if (machine_device(m, "vfio", NULL)) {
		error_end(err, EXIT_CONFIG, EOPNOTSUPP,
			  "--balloon: guest memory is pinned for a passed-through device, and no "
			  "page of it can be taken back");
		return error_hint(err, "leave --balloon out, or --vfio");
	}
	if (m->ram.state.page_len > PAGE_LEN || fstat(m->ram.fd, &st) || !S_ISREG(st.st_mode)) {
		error_end(err, EXIT_CONFIG, EOPNOTSUPP,
			  "--balloon: guest memory of huge pages or on a device cannot be taken "
			  "back by page");
		return error_hint(err, "leave --balloon out, or hugetlb= and path= of --mem");
	}
	return 0;
}

static int balloon_open(struct device *base, struct error *err)
{
	return can_take_back(base->m, err)
		       ?: virtio_dev_open(&((struct balloon *)base)->virtio, err);
}

static int balloon_realize(struct device *base, struct error *err)
{
	struct balloon *b = (struct balloon *)base;
	/* num_pages and actual; the others come with features that are not offered. */
	return virtio_dev_realize(&b->virtio, 1ull << VIRTIO_BALLOON_F_REPORTING, &b->config,
				  offsetof(struct virtio_balloon_config, free_page_hint_cmd_id),
				  err);
}

static int balloon_reset(struct device *base, struct error *err)
{
	virtio_dev_reset(&((struct balloon *)base)->virtio);
	return 0;
}

static int balloon_post_load(void *opaque, struct error *err)
{
	return virtio_dev_load(&((struct balloon *)opaque)->virtio, err);
}

static int balloon_start(struct device *base, struct error *err)
{
	virtio_dev_start(&((struct balloon *)base)->virtio);
	return 0;
}

static int balloon_serve(struct device *base, struct error *err)
{
	virtio_dev_serve(&((struct balloon *)base)->virtio);
	return 0;
}

static void balloon_destroy(struct device *base)
{
	virtio_dev_destroy(&((struct balloon *)base)->virtio);
}

/* Nothing is in flight between two handlers: it has no quiesce, and runs until the pause. */
const struct device_class balloon_class = {
	.name = "balloon",
	.state = &balloon_state_class,
	.size = sizeof(struct balloon),
	.state_offset = offsetof(struct balloon, state),
	.init = balloon_init,
	.open = balloon_open,
	.realize = balloon_realize,
	.reset = balloon_reset,
	.post_load = balloon_post_load,
	.start = balloon_start,
	.serve = balloon_serve,
	.destroy = balloon_destroy,
};
