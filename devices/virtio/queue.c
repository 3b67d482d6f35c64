/* SPDX-License-Identifier: MIT */
/*
 * Split virtqueues (VIRTIO 1.2, 2.7), as the device sees them. The guest may write anything at any time, so
 * each descriptor and index is copied once and checked in the copy. A violation of the rules stops the
 * device until its driver resets it (2.1.2, DEVICE_NEEDS_RESET).
 */
#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>
#include <signal.h>

#include "devices/virtio/virtio.h"
#include "vmm/machine.h"

static bool has(const struct virtio_dev *v, unsigned feature)
{
	return v->state->features >> feature & 1;
}

/* The word behind the ring: the index at which the other side wants a notification (2.7.7.2, 2.7.10). */
static uint16_t *used_event(const struct virtio_dev *v, unsigned q)
{
	return &v->queue[q].avail->ring[v->state->size[q]];
}

static uint16_t *avail_event(const struct virtio_dev *v, unsigned q)
{
	return (uint16_t *)&v->queue[q].used->ring[v->state->size[q]];
}

/* Maps an area of a ring. It must be aligned and entirely in guest memory (2.7). */
static int area(struct virtio_dev *v, uint64_t gpa, uint64_t len, uint64_t align, void **out)
{
	*out = gpa % align ? NULL : ram_at(&v->owner->m->ram, gpa, len);
	return *out ? 0 : gpa % align ? -EINVAL : -EFAULT;
}

int virtq_map(struct virtio_dev *v, unsigned q)
{
	const struct virtio_state *s = v->state;
	uint64_t n = s->size[q];
	void *desc, *avail, *used;
	virtq_unmap(v, q);
	if (!is_pow2(n) || n > VIRTIO_QUEUE_SIZE)
		return -EINVAL;
	/* The further words of each ring: flags and index, and one for the event. */
	int rc = area(v, s->desc[q], 16 * n, 16, &desc)
			 ?: area(v, s->avail[q], 6 + 2 * n, 2, &avail)
			 ?: area(v, s->used[q], 6 + 8 * n, 4, &used);
	if (!rc)
		v->queue[q] = (struct virtq){.desc = desc,
					     .avail = avail,
					     .used = used,
					     .next = (uint16_t)s->index[q],
					     .notified = (uint16_t)s->index[q]};
	return rc;
}

void virtq_unmap(struct virtio_dev *v, unsigned q)
{
	v->queue[q] = (struct virtq){0};
}

void virtq_go_to(struct virtio_dev *v, unsigned q, uint16_t index)
{
	v->state->index[q] = index;
	v->queue[q].next = v->queue[q].notified = index;
}

/* ---- taking chains ---- */

static bool broken(struct virtio_dev *v, const char *why)
{
	virtio_broken(v, why);
	return false;
}

/* Adds one buffer. Buffers that the device reads must come first (2.7.4.2). */
static const char *add_buffer(struct virtio_dev *v, struct virtq_chain *chain,
			      const struct vring_desc *d)
{
	bool in = d->flags & VRING_DESC_F_WRITE;
	unsigned n = chain->out + chain->in;
	if (n == VIRTIO_MAX_BUFFERS)
		return "a chain of buffers is longer than its queue, or a loop";
	if (!in && chain->in)
		return "a buffer to be read comes after one to be written";
	void *hva = d->len ? ram_at(&v->owner->m->ram, d->addr, d->len) : NULL;
	if (!hva)
		return d->len ? "a buffer is not in guest memory" : "an empty buffer";
	chain->iov[n] = (struct iovec){.iov_base = hva, .iov_len = d->len};
	if (in)
		chain->in++;
	else
		chain->out++;
	return NULL;
}

/* Follows the descriptors from @at on in a table of @n; add_buffer ends a loop. @top: this is the queue's own table,
 * whose descriptors may refer to an indirect table. An indirect table must not refer to another (2.7.5.3.1). */
static const char *walk(struct virtio_dev *v, struct virtq_chain *chain,
			const struct vring_desc *table, unsigned n, unsigned at, bool top)
{
	for (;;) {
		struct vring_desc d;
		if (at >= n)
			return "a descriptor's number is beyond its table";
		memcpy(&d, (const void *)&table[at], sizeof(d));
		__atomic_signal_fence(__ATOMIC_SEQ_CST); /* that copy is what is judged */
		const char *why;
		if (d.flags & VRING_DESC_F_INDIRECT) {
			unsigned entries = d.len / sizeof(d);
			if (!top || !has(v, VIRTIO_RING_F_INDIRECT_DESC))
				return "an indirect descriptor where none may be";
			if (d.flags & VRING_DESC_F_NEXT || !entries || d.len % sizeof(d))
				return "an indirect descriptor that makes no sense";
			void *inner = ram_at(&v->owner->m->ram, d.addr, d.len);
			return inner ? walk(v, chain, inner, entries, 0, false)
				     : "a table of descriptors is not in guest memory";
		}
		why = add_buffer(v, chain, &d);
		if (why || !(d.flags & VRING_DESC_F_NEXT))
			return why;
		at = d.next;
	}
}

/* Looks again after it has asked the guest for kicks, because a chain may have come in between (2.7.10.1). */
static bool available(struct virtio_dev *v, unsigned q, uint16_t *pending)
{
	const struct virtq *queue = &v->queue[q];
	*pending = (uint16_t)(__atomic_load_n(&queue->avail->idx, __ATOMIC_ACQUIRE) - queue->next);
	if (*pending || !has(v, VIRTIO_RING_F_EVENT_IDX))
		return *pending;
	__atomic_store_n(avail_event(v, q), queue->next, __ATOMIC_RELAXED);
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	*pending = (uint16_t)(__atomic_load_n(&queue->avail->idx, __ATOMIC_ACQUIRE) - queue->next);
	return *pending;
}

bool virtq_open(const struct virtio_dev *v, unsigned q)
{
	uint32_t status = v->state->status;
	return !v->quiet && !v->resetting && v->queue[q].desc &&
	       status & VIRTIO_CONFIG_S_DRIVER_OK && !(status & VIRTIO_CONFIG_S_NEEDS_RESET);
}

bool virtq_pending(struct virtio_dev *v, unsigned q)
{
	uint16_t pending;
	return virtq_open(v, q) && available(v, q, &pending);
}

bool virtq_pop(struct virtio_dev *v, unsigned q, struct virtq_chain *chain)
{
	struct virtq *queue = &v->queue[q];
	unsigned size = v->state->size[q];
	uint16_t pending;
	if (!virtq_open(v, q) || !available(v, q, &pending))
		return false;
	if (pending > size)
		return broken(v, "more chains are available than a queue has room for");
	chain->out = chain->in = 0;
	chain->head =
		__atomic_load_n(&queue->avail->ring[queue->next & (size - 1)], __ATOMIC_RELAXED);
	const char *why = walk(v, chain, queue->desc, size, chain->head, true);
	if (why)
		return broken(v, why);
	queue->next++;
	v->in_flight++;
	return true;
}

/* ---- giving them back ---- */

/* When the last one is done, the driver's reset is complete, and the leader may go on with its update. */
static void one_less(struct virtio_dev *v)
{
	if (--v->in_flight)
		return;
	if (v->resetting)
		virtio_reset_done(v);
	if (v->asked)
		pthread_kill(v->owner->m->leader, MACHINE_WAKE_SIGNAL);
	v->asked = false;
}

void virtq_unpop(struct virtio_dev *v, unsigned q, unsigned n)
{
	v->queue[q].next = (uint16_t)(v->queue[q].next - n);
	while (n--)
		one_less(v);
}

void virtq_push_all(struct virtio_dev *v, unsigned q, const struct virtq_used *u, unsigned n)
{
	struct virtio_state *s = v->state;
	struct vring_used *used = v->queue[q].used;
	/* The driver that has reset the device owns this memory again (2.4.1). */
	bool ours = used && !v->resetting;
	for (unsigned i = 0; ours && i < n; i++) {
		struct vring_used_elem *e = &used->ring[s->index[q] & (s->size[q] - 1)];
		s->index[q] = (uint16_t)(s->index[q] + 1);
		__atomic_store_n(&e->id, u[i].head, __ATOMIC_RELAXED);
		__atomic_store_n(&e->len, u[i].len, __ATOMIC_RELAXED);
	}
	if (ours)
		__atomic_store_n(&used->idx, (uint16_t)s->index[q], __ATOMIC_RELEASE);
	while (n--)
		one_less(v);
}

void virtq_push(struct virtio_dev *v, unsigned q, uint16_t head, uint32_t len)
{
	virtq_push_all(v, q, &(const struct virtq_used){head, len}, 1);
}

/* Has the used index passed the one at which the guest wants an interrupt (2.7.7.2)? */
static bool wanted(const struct virtio_dev *v, unsigned q, uint16_t now)
{
	const struct virtq *queue = &v->queue[q];
	if (!has(v, VIRTIO_RING_F_EVENT_IDX))
		return !(__atomic_load_n(&queue->avail->flags, __ATOMIC_RELAXED) &
			 VRING_AVAIL_F_NO_INTERRUPT);
	uint16_t event = __atomic_load_n(used_event(v, q), __ATOMIC_RELAXED);
	return vring_need_event(event, now, queue->notified);
}

void virtq_notify(struct virtio_dev *v, unsigned q)
{
	struct virtq *queue = &v->queue[q];
	uint16_t now = (uint16_t)v->state->index[q];
	if (!queue->used || now == queue->notified)
		return;
	/* Pairs with the guest: it first writes when it wants an interrupt, then looks for used buffers. */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	bool interrupt = wanted(v, q, now);
	queue->notified = now;
	if (interrupt)
		virtio_interrupt(v, v->state->vector[q], VIRTIO_ISR_QUEUE);
}
