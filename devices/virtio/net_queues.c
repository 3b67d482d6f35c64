/* SPDX-License-Identifier: MIT */
/* Frames between the guest's queues and the link (VIRTIO 1.2, 5.1.6). */
#include <sys/epoll.h>

#include "devices/virtio/net.h"
#include "vmm/machine.h"

/* Frames of one turn: then others may have the device lock. */
#define TURN 64

static struct net *net_of(struct virtio_dev *v)
{
	return (struct net *)v->owner;
}

/* ---- the link ---- */

/* Waits for frames as long as the guest can take them, and for room while there is none; with vhost only for the link's
 * end. */
static void pair_watch(struct net_pair *pair)
{
	struct net *net = pair->net;
	vhost_watch(&pair->vhost);
	bool in = net_pair_index(pair) < net->state.pairs && !pair->vhost.running &&
		  !pair->starved && virtq_open(&net->virtio, net_pair_queue(pair, NET_RX));
	uint32_t events = (in ? EPOLLIN : 0u) | (pair->blocked ? EPOLLOUT : 0u);
	if (!net->state.up || events == pair->watched)
		return;
	if (!loop_modify(&net->dev.m->loop, pair->fd, events))
		pair->watched = events;
}

void net_watch(struct net *net)
{
	for (unsigned i = 0; i < net->pairs; i++)
		pair_watch(&net->pair[i]);
}

/* The loop would hear of it again and again. */
static void link_ended(struct net *net)
{
	for (unsigned i = 0; i < net->pairs; i++) {
		loop_remove(&net->dev.m->loop, net->pair[i].fd);
		net->pair[i].blocked = false;
	}
	if (net->state.up && !net->hung_up)
		device_tell(&net->dev, net->link->gone, false);
	net->hung_up = true;
}

static void link_gone(struct net *net)
{
	link_ended(net);
	if (!net->state.up)
		return;
	net->state.up = 0;
	net->config.status = 0;
	net_vhost_stop(net);
	virtio_config_changed(&net->virtio);
}

/* ---- from the link to the guest ---- */

/* One may be left from a driver that wanted more than this one does. */
static bool wanted(const struct net *net, const struct virtio_net_hdr_v1 *h)
{
	switch (h->gso_type & ~VIRTIO_NET_HDR_GSO_ECN) {
	case VIRTIO_NET_HDR_GSO_NONE:
		return !(h->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM) ||
		       net_has(net, VIRTIO_NET_F_GUEST_CSUM);
	case VIRTIO_NET_HDR_GSO_TCPV4:
		return net_has(net, VIRTIO_NET_F_GUEST_TSO4);
	case VIRTIO_NET_HDR_GSO_TCPV6:
		return net_has(net, VIRTIO_NET_F_GUEST_TSO6);
	default:
		return false;
	}
}

/* The parts of a frame, its header first, from byte @at on. */
static void frame_rest(const struct net_frame *f, size_t at, struct iovec part[2])
{
	size_t head = at < NET_HEADER_LEN ? at : NET_HEADER_LEN;
	part[0] = (struct iovec){(uint8_t *)&f->header + head, NET_HEADER_LEN - head};
	part[1] = (struct iovec){(uint8_t *)f->data + (at - head), f->len - (at - head)};
}

/* Fills one chain with the frame from byte @at on; returns how many bytes went in. */
static size_t fill(const struct virtq_chain *c, const struct net_frame *f, size_t at)
{
	struct iovec part[2], room[VIRTIO_MAX_BUFFERS], *r = room;
	unsigned n = c->in;
	size_t done = 0;
	memcpy(room, c->iov, n * sizeof(*room));
	frame_rest(f, at, part);
	for (unsigned i = 0; i < ARRAY_LEN(part) && n; i++) {
		size_t len = iov_write(r, n, part[i].iov_base, part[i].iov_len);
		iov_cut_front(&r, &n, len);
		done += len;
	}
	return done;
}

/* Gives the guest one frame, in as many chains as it takes if it wants that. 1: done, or the frame is none for this
 * driver; 0: it waits for buffers; -EIO: the driver breaks the rules. */
static int deliver(struct net *net, unsigned q, struct net_frame *f)
{
	struct virtio_dev *v = &net->virtio;
	const size_t total = NET_HEADER_LEN + f->len;
	struct virtq_used used[VIRTIO_QUEUE_SIZE];
	unsigned n = 0;
	f->header.num_buffers = 1;
	for (size_t at = 0; at < total; n++) {
		struct virtq_chain *c = n ? &net->more : &net->chain;
		if (n == v->state->size[q] || !virtq_pop(v, q, c)) {
			virtq_unpop(v, q, n);
			return n == v->state->size[q]; /* such a frame never fits */
		}
		size_t len = fill(c, f, at);
		used[n] = (struct virtq_used){c->head, (uint32_t)len};
		at += len;
		if (c->out || (!n && len < NET_HEADER_LEN) || !len) {
			virtq_unpop(v, q, n + 1);
			virtio_broken(
				v,
				"a buffer for received frames is too short, or not to be written");
			return -EIO;
		}
		if (at < total && !net_has(net, VIRTIO_NET_F_MRG_RXBUF)) {
			virtq_unpop(v, q, 1); /* more than this driver has asked for */
			return 1;
		}
	}
	f->header.num_buffers = (uint16_t)n;
	iov_write(net->chain.iov, net->chain.in, &f->header, NET_HEADER_LEN);
	virtq_push_all(v, q, used, n);
	return 1;
}

static void receive(struct net_pair *pair)
{
	struct net_frame frame;
	struct net *net = pair->net;
	struct virtio_dev *v = &net->virtio;
	unsigned i = 0, q = net_pair_queue(pair, NET_RX);
	int rc = 1;
	pair->starved = false;
	while (rc > 0 && virtq_open(v, q) && i++ < TURN) {
		rc = net->link->next(pair, &frame) ?: net->hung_up ? -EPIPE : 0;
		if (rc < 0)
			link_gone(net);
		if (rc <= 0)
			break;
		rc = wanted(net, &frame.header) ? deliver(net, q, &frame) : 1;
		pair->starved = !rc;
		net->link->done(pair, &frame, rc <= 0);
	}
	/* What is left begins at the front. */
	net->state.rx_len -= net->rx_at;
	memmove(net->state.rx, net->state.rx + net->rx_at, net->state.rx_len);
	net->rx_at = 0;
	/* Frames that were read already make the link readable no more. */
	if (i > TURN)
		virtio_look_again(v, q);
	virtq_notify(v, q);
}

/* Nobody is at the other end any more. The guest gets first what was sent before: now, or when it has buffers. */
static void hang_up(struct net_pair *pair)
{
	struct net *net = pair->net;
	link_ended(net);
	if (net->state.up && !pair->vhost.running)
		receive(pair);
	else
		link_gone(net);
}

/* ---- from the guest to the link ---- */

/* 0 or -EPIPE: the chain is done with. */
static int send_chain(struct net_pair *pair, const struct virtq_chain *c)
{
	struct net *net = pair->net;
	size_t len = iov_size(c->iov, c->out);
	if (c->in || len < NET_HEADER_LEN) {
		virtio_broken(&net->virtio,
			      "a frame to be sent has no header, or buffers to be written");
		return -EIO;
	}
	if (net->hung_up || len == NET_HEADER_LEN || len > NET_FRAME_MAX)
		return 0;
	int rc = net->link->send(pair, c->iov, c->out);
	if (!rc || rc == -EAGAIN || rc == -EPIPE)
		return rc;
	if (log_guest_ok(&net->complaints, 5))
		log_warn("%s: a frame of %zu bytes was dropped: %s", net->dev.name, len,
			 strerror(-rc));
	return 0;
}

static void transmit(struct net_pair *pair)
{
	struct net *net = pair->net;
	struct virtio_dev *v = &net->virtio;
	int rc = net->hung_up ? 0 : net->link->flush(net);
	unsigned i = 0, q = net_pair_queue(pair, NET_TX);
	while (!rc && i++ < TURN && virtq_pop(v, q, &net->chain)) {
		rc = send_chain(pair, &net->chain);
		if (rc && rc != -EPIPE)
			virtq_unpop(v, q, 1);
		else
			virtq_push(v, q, net->chain.head, 0);
	}
	pair->blocked = !net->hung_up && (rc == -EAGAIN || net->state.tx_len);
	if (i > TURN)
		virtio_look_again(v, q);
	virtq_notify(v, q);
	if (rc == -EPIPE)
		hang_up(pair);
}

/* What vhost serves, who kicks without an eventfd kicks with one. */
void net_kick(struct virtio_dev *v, unsigned q)
{
	struct net *net = net_of(v);
	struct net_pair *pair = &net->pair[q / 2];
	if ((int)q == net_control_queue(net)) {
		net_control(net);
		return;
	}
	if (q / 2 >= net->state.pairs)
		return;
	if (pair->vhost.running) {
		virtio_look_again(v, q);
		return;
	}
	if (q % 2 == NET_TX)
		transmit(pair);
	else if (net->state.up)
		receive(pair);
	net_vhost_start(net);
	net_watch(net);
}

void net_ready(void *opaque, uint32_t events)
{
	struct net_pair *pair = opaque;
	struct net *net = pair->net;
	bool ours = !pair->vhost.running;
	if (ours && events & EPOLLIN && net->state.up)
		receive(pair);
	if (events & (EPOLLERR | EPOLLHUP))
		hang_up(pair);
	if (ours && events & EPOLLOUT)
		transmit(pair);
	net_watch(net);
}
