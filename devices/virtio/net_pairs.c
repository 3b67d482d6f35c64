/* SPDX-License-Identifier: MIT */
/* How many pairs of queues the driver uses (VIRTIO 1.2, 5.1.6.5.5), and the frame that waits for each of them. */
#include "devices/virtio/net.h"

/* ---- frames that wait ---- */

uint32_t net_pair_waiting(const struct net_pair *pair, uint32_t *at)
{
	const struct net_state *s = &pair->net->state;
	uint32_t more = 0, before = 0;
	unsigned index = net_pair_index(pair);
	for (unsigned i = 0; i < ARRAY_LEN(s->rx_more); i++) {
		before += i + 1 < index ? s->rx_more[i] : 0;
		more += s->rx_more[i];
	}
	*at = index ? s->rx_len - more + before : 0;
	return index ? s->rx_more[index - 1] : s->rx_len - more;
}

void net_pair_wait(struct net_pair *pair, const void *frame, uint32_t len)
{
	struct net_state *s = &pair->net->state;
	unsigned index = net_pair_index(pair);
	uint32_t at;
	net_pair_waiting(pair, &at);
	memmove(s->rx + at + len, s->rx + at, s->rx_len - at);
	memcpy(s->rx + at, frame, len);
	s->rx_len += len;
	if (index)
		s->rx_more[index - 1] = len;
}

void net_pair_done(struct net_pair *pair)
{
	struct net_state *s = &pair->net->state;
	unsigned index = net_pair_index(pair);
	uint32_t at, len = net_pair_waiting(pair, &at);
	s->rx_len -= len;
	memmove(s->rx + at, s->rx + at + len, s->rx_len - at);
	if (index)
		s->rx_more[index - 1] = 0;
}

bool net_pairs_fit(const struct net *net)
{
	const struct net_state *s = &net->state;
	uint32_t left = s->rx_len, at;
	for (unsigned i = 1; i < NET_PAIRS_MAX; i++) {
		uint32_t len = s->rx_more[i - 1];
		if (len > left || len > NET_STREAM_LEN || (len && i >= s->pairs))
			return false;
		left -= len;
	}
	if (left > NET_STREAM_LEN || !s->pairs || s->pairs > net->pairs)
		return false;
	for (unsigned i = 0; i < net->pairs; i++) {
		uint32_t len = net_pair_waiting(&net->pair[i], &at);
		if (len && len < net->link->rx_least)
			return false;
	}
	return true;
}

/* ---- how many ---- */

/* A tap that is gone has no queues to attach. */
static int attach(const struct net_pair *pair, bool on)
{
	return pair->net->state.up ? net_tap_attach(pair->fd, on) : 0;
}

/* The kernel numbers the tap's queues in the order in which they were attached, and the last one takes the number of
 * one that is detached. So with this order queue I is pair I's. */
int net_pairs_set(struct net *net, unsigned n)
{
	uint32_t *used = &net->state.pairs, before = *used;
	int rc = 0;
	while (!rc && *used < n) {
		rc = attach(&net->pair[*used], true);
		*used += !rc;
	}
	while (*used > (rc ? before : n)) {
		struct net_pair *pair = &net->pair[--*used];
		vhost_stop(&pair->vhost);
		net_pair_done(pair);
		pair->starved = pair->blocked = false;
		int failed = attach(pair, false);
		if (failed && log_guest_ok(&net->complaints, 5))
			log_warn("%s: a queue of the tap stays attached: %s", net->dev.name,
				 strerror(-failed));
	}
	net_vhost_start(net);
	net_watch(net);
	/* What the driver has put into queues that it did not use yet was looked at too early. */
	for (unsigned q = 2 * before; q < 2 * *used; q++)
		virtio_look_again(&net->virtio, q);
	return rc;
}

/* ---- commands ---- */

int net_control_queue(const struct net *net)
{
	if (!net_has(net, VIRTIO_NET_F_CTRL_VQ))
		return -1;
	return net_has(net, VIRTIO_NET_F_MQ) ? 2 * (int)net->pairs : 2;
}

static uint8_t command(struct net *net, const struct virtq_chain *c)
{
	struct {
		struct virtio_net_ctrl_hdr head;
		struct virtio_net_ctrl_mq mq;
	} __attribute__((packed)) said;
	if (iov_read(c->iov, c->out, &said, sizeof(said)) < sizeof(said) ||
	    said.head.class != VIRTIO_NET_CTRL_MQ ||
	    said.head.cmd != VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET || !net_has(net, VIRTIO_NET_F_MQ))
		return VIRTIO_NET_ERR;
	unsigned n = said.mq.virtqueue_pairs;
	return n && n <= net->pairs && !net_pairs_set(net, n) ? VIRTIO_NET_OK : VIRTIO_NET_ERR;
}

/* One in a turn: to detach a queue waits for a grace period of the kernel's. */
void net_control(struct net *net)
{
	struct virtio_dev *v = &net->virtio;
	const struct virtq_chain *c = &net->chain;
	unsigned q = (unsigned)net_control_queue(net);
	if (!virtq_pop(v, q, &net->chain))
		return;
	if (!c->in) {
		virtq_unpop(v, q, 1);
		virtio_broken(v, "a command has no buffer for its answer");
		return;
	}
	uint8_t answer = command(net, c);
	virtq_push(v, q, c->head, (uint32_t)iov_write(c->iov + c->out, c->in, &answer, 1));
	virtq_notify(v, q);
	virtio_look_again(v, q);
}
