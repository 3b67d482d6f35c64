/* SPDX-License-Identifier: MIT */
/*
 * A network interface for the guest (VIRTIO 1.2, 5.1). net.c: the device; net_queues.c: frames between the guest's
 * queues and a link; net_tap.c, net_stream.c: the links; net_user.c starts passt, which speaks for an ordinary user;
 * net_vhost.c: the host's kernel moves the frames of a tap; net_pairs.c: how many pairs of queues the driver uses.
 *
 * Frames move on the thread that was kicked, or on the event loop, with the device lock held, so that nothing is in
 * flight between two handlers. What the host has sent and the guest has no buffers for stays where it is: in the
 * link's own queue, and of what was read already in the state. So an update loses no frame.
 *
 * With several pairs of queues each has a queue of the tap, which is attached to the tap as long as the driver uses the
 * pair: the kernel spreads frames over those that are attached. The last queue takes the driver's commands.
 *
 * Kept over an update: "net@N:link", the tap or the socket, and "net@N:link:I", the tap's queue of pair I; attached or
 * not, as the guest has it.
 */
#pragma once

#include <linux/virtio_net.h>
#include <net/if.h>

#include "devices/virtio/vhost.h"
#include "devices/virtio/virtio.h"

#define NET_RX	       0 /* queues of the first pair (5.1.2) */
#define NET_TX	       1
#define NET_PAIRS_MAX  8
#define NET_HEADER_LEN sizeof(struct virtio_net_hdr_v1)
/* A segment of 64 KiB that the other side cuts, behind its Ethernet header with a VLAN tag, and the header of
 * virtio. */
#define NET_FRAME_MAX  65568
#define NET_STREAM_LEN (NET_FRAME_MAX + 8) /* with its length in front; a multiple of 8 */

struct net_state {
	struct virtio_state virtio;
	uint16_t up; /* the link is there: 0 or 1 */
	uint8_t mac[6];
	uint32_t rx_len; /* bytes of rx: read from the link, and not given to the guest */
	uint32_t tx_len; /* bytes of tx: the rest of a frame of which the link has taken a part */
	uint32_t pairs;	 /* that the driver uses, from 1 on */
	uint32_t rx_more[NET_PAIRS_MAX -
			 1]; /* bytes of rx that are of pairs 1 on, behind those of pair 0 */
	uint8_t tx[NET_STREAM_LEN];
	uint8_t rx[NET_PAIRS_MAX * NET_STREAM_LEN];
};

struct net;

/* Two of the guest's queues, and a queue of the link. */
struct net_pair {
	struct net *net;
	int fd; /* the table of kept descriptors owns it; -1: none */
	struct vhost vhost;
	uint32_t watched; /* EPOLL */
	bool starved;	  /* the guest has no buffers for the frame that waits */
	bool blocked;	  /* the link takes no frames now */
};

/* A frame that has come: at @data, @len bytes, which stay until it is done with. */
struct net_frame {
	struct virtio_net_hdr_v1 header;
	const uint8_t *data;
	size_t len;
};

/* What is at the other end. */
struct net_link {
	uint64_t features; /* that it adds: VIRTIO_NET_F_ bits */
	const char *gone;  /* for the operator, when it has ended */
	/* What a state may have of it: bytes of tx; of rx, unless there are none. */
	uint32_t tx_most, rx_least;

	/* The next frame: 1; 0: none now; -errno: there will be none any more. done: it is dealt with; or it @waits,
	 * and is the next one again. */
	int (*next)(struct net_pair *pair, struct net_frame *frame);
	void (*done)(struct net_pair *pair, const struct net_frame *frame, bool waits);

	/* A frame of the guest, behind its header: @n buffers in guest memory. -EAGAIN: not now; -EPIPE: there is
	 * nobody any more; another -errno: it was dropped. flush: what is left of an earlier one; 0 or -EAGAIN. */
	int (*send)(struct net_pair *pair, const struct iovec *iov, unsigned n);
	int (*flush)(struct net *net);

	/* The driver has chosen its features, and has started. */
	void (*started)(struct net *net);
};

extern const struct net_link net_tap, net_stream;

/* vhost=: where it can be opened; without that it is refused; never. */
enum net_vhost { NET_VHOST_AUTO, NET_VHOST_ON, NET_VHOST_OFF };

struct net {
	struct device dev;
	struct virtio_dev virtio;
	struct net_pair pair[NET_PAIRS_MAX];
	unsigned pairs; /* queues= */
	enum net_vhost wants_vhost;
	char ifname[IFNAMSIZ]; /* tap=; "": none */
	char socket[108];      /* user=; "": passt is started */
	int inherited;	       /* fd=; -1: none */
	bool user;	       /* user, user= */
	bool has_mac;
	const struct net_link *link;
	struct virtio_net_config config;
	bool hung_up; /* nobody is at the other end of the link; it is up until the guest has what was sent before */
	uint32_t rx_at;		       /* bytes of rx that are dealt with; 0 between two handlers */
	uint8_t frame[NET_STREAM_LEN]; /* room, used within a handler */
	unsigned complaints;
	struct virtq_chain chain, more; /* room, used within a handler */
	struct net_state state;
};

extern const struct device_class net_class;

static inline unsigned net_pair_index(const struct net_pair *pair)
{
	return (unsigned)(pair - pair->net->pair);
}

/* Its queue of that kind: NET_RX or NET_TX. */
static inline unsigned net_pair_queue(const struct net_pair *pair, unsigned kind)
{
	return 2 * net_pair_index(pair) + kind;
}

static inline bool net_has(const struct net *net, unsigned feature)
{
	return net->state.virtio.features >> feature & 1;
}

/* net_queues.c. Device lock held. */
void net_kick(struct virtio_dev *v, unsigned q);
void net_ready(void *opaque, uint32_t events); /* loop_handler of a pair's queue of the link */
void net_watch(struct net *net);	       /* whoever moves frames has changed */

/* net_pairs.c. Device lock held. Bytes of the state's rx that are the pair's, and where they begin. */
uint32_t net_pair_waiting(const struct net_pair *pair, uint32_t *at);
/* @frame of @len bytes waits; or what has waited is dealt with. */
void net_pair_wait(struct net_pair *pair, const void *frame, uint32_t len);
void net_pair_done(struct net_pair *pair);
/* Is a loaded state's rx as it can be? */
bool net_pairs_fit(const struct net *net);
/* The queue of commands is the one behind the pairs that the driver knows of; -1: it has none. */
int net_control_queue(const struct net *net);
void net_control(struct net *net);
/* The driver uses @n pairs from now on: 0 or -errno, and it uses those it did. */
int net_pairs_set(struct net *net, unsigned n);

/* net_vhost.c. open: for a link that is there, if it is to be. start: pairs that the driver uses, from where their
 * queues are, if it has started and no frame waits that was read already; else it does nothing. still: in the pause. */
int net_vhost_open(struct net *net, struct error *err);
int net_vhost_load(struct net *net, struct error *err);
void net_vhost_start(struct net *net);
int net_vhost_still(struct net *net, struct error *err);
void net_vhost_stop(struct net *net);

/* A new link: a descriptor, or -errno and the error. @many: one queue of a tap that has several. net_tap_check: is the
 * inherited descriptor @fd one, and set it up; -ENOTTY: it is something else. */
int net_tap_open(const char *ifname, bool many, struct error *err);
int net_tap_check(int fd, const char *name, struct error *err);
int net_stream_connect(const char *path, struct error *err);
/* Does the tap give frames to that queue? Off, it drops those that wait in it. 0 or -errno. */
int net_tap_attach(int fd, bool on);
/* net_user.c: starts passt, which ends when nobody has the other end of its socket any more. */
int net_user_start(struct error *err);
