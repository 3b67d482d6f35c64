/* SPDX-License-Identifier: MIT */
/* A virtio network interface: its option, its configuration, its life cycle. */
#include "devices/virtio/net.h"

#include <ctype.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ids.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#include "vmm/machine.h"

#define CLASS_ETHERNET 0x020000
#define MAC_LEN	       6
#define MAC_LOCAL      0x02 /* of its first byte: given by nobody but its user */
#define MAC_GROUP      0x01

static const struct field net_fields[] = {
	VIRTIO_STATE_FIELDS(struct net_state, virtio),
	FIELD_U(struct net_state, up),
	FIELD_ARRAY(struct net_state, mac),
	FIELD_OPAQUE_LEN(struct net_state, tx, tx_len),
	FIELD_OPAQUE_LEN(struct net_state, rx, rx_len),
	FIELD_U_SINCE(struct net_state, pairs, 2, 1),
	FIELD_ARRAY_SINCE(struct net_state, rx_more, 2),
};
static STATE_CLASS(net_state_class, "net", 2, struct net_state, net_fields);

static void net_started(struct virtio_dev *v)
{
	struct net *net = (struct net *)v->owner;
	if (net->state.up)
		net->link->started(net);
	net_vhost_start(net);
	net_watch(net);
}

static void net_stopped(struct virtio_dev *v)
{
	struct net *net = (struct net *)v->owner;
	net_vhost_stop(net);
	for (unsigned i = 0; i < net->pairs; i++)
		net->pair[i].vhost.failed = false;
	net_pairs_set(net, 1);
}

static void net_broken(struct virtio_dev *v)
{
	net_vhost_stop((struct net *)v->owner);
}

static void net_routed(struct virtio_dev *v)
{
	struct net *net = (struct net *)v->owner;
	for (unsigned i = 0; i < net->pairs; i++)
		vhost_routed(&net->pair[i].vhost);
}

static const struct virtio_ops net_ops = {
	.type = VIRTIO_ID_NET,
	.pci_class = CLASS_ETHERNET,
	.kick = net_kick,
	.started = net_started,
	.stopped = net_stopped,
	.broken = net_broken,
	.routed = net_routed,
};

/* ---- the option ---- */

static int usage_error(const char *arg, struct error *err)
{
	error_end(err, EXIT_USAGE, EINVAL,
		  "--net %.200s: expected tap=IFNAME, fd=N, user or user=SOCKET, then "
		  "[,mac=MAC][,vhost=on|off][,queues=N]",
		  arg);
	return error_hint(
		err,
		"MAC is like 52:54:00:12:34:56, and no group's address; N is from 1 to %u, "
		"and for tap=",
		NET_PAIRS_MAX);
}

static bool parse_mac(struct net *net, const char *word)
{
	uint8_t *mac = net->state.mac;
	if (strncmp(word, "mac=", strlen("mac=")))
		return false;
	word += strlen("mac=");
	for (unsigned i = 0; i < MAC_LEN; i++, word += 3) {
		if (!isxdigit((uint8_t)word[0]) || !isxdigit((uint8_t)word[1]) ||
		    word[2] != (i < MAC_LEN - 1 ? ':' : 0))
			return false;
		mac[i] = (uint8_t)strtoul(word, NULL, 16);
	}
	net->has_mac = true;
	return !(mac[0] & MAC_GROUP);
}

static bool parse_vhost(struct net *net, const char *word)
{
	bool on = !strcmp(word, "vhost=on");
	net->wants_vhost = on ? NET_VHOST_ON : NET_VHOST_OFF;
	return on || !strcmp(word, "vhost=off");
}

static bool parse_queues(struct net *net, const char *word)
{
	int used = 0;
	return sscanf(word, "queues=%1u%n", &net->pairs, &used) == 1 && !word[used] && net->pairs &&
	       net->pairs <= NET_PAIRS_MAX && (net->pairs == 1 || *net->ifname);
}

/* Copies what follows the '=' of @word to @to. */
static bool value(const char *word, char *to, size_t size)
{
	const char *text = strchr(word, '=') + 1;
	return *text && (size_t)snprintf(to, size, "%s", text) < size;
}

static bool parse_link(struct net *net, const char *word)
{
	int used = 0;
	if (!strncmp(word, "tap=", strlen("tap=")))
		return value(word, net->ifname, sizeof(net->ifname));
	if (!strncmp(word, "fd=", strlen("fd=")))
		return sscanf(word, "fd=%9d%n", &net->inherited, &used) == 1 && !word[used] &&
		       net->inherited > STDERR_FILENO;
	net->user = true;
	return !strcmp(word, "user") || (!strncmp(word, "user=", strlen("user=")) &&
					 value(word, net->socket, sizeof(net->socket)));
}

static int parse_arg(struct net *net, const char *arg, struct error *err)
{
	char text[256], *rest = text;
	if ((size_t)snprintf(text, sizeof(text), "%s", arg) >= sizeof(text) ||
	    !parse_link(net, strsep(&rest, ",")))
		return usage_error(arg, err);
	while (rest) {
		const char *word = strsep(&rest, ",");
		if (!parse_mac(net, word) && !parse_queues(net, word) && !parse_vhost(net, word))
			return usage_error(arg, err);
	}
	return 0;
}

static int net_init(struct device *base, const char *arg, struct error *err)
{
	struct net *net = (struct net *)base;
	unsigned index = 0;
	net->inherited = -1;
	net->pairs = 1;
	for (unsigned i = 0; i < NET_PAIRS_MAX; i++)
		net->pair[i] = (struct net_pair){.net = net, .fd = -1, .vhost.fd = -1};
	for (struct device *d = NULL; (d = machine_device(base->m, "net", d));)
		index++;
	snprintf(base->node, sizeof(base->node), "net@%u", index);
	snprintf(base->name, sizeof(base->name), "net %.40s", arg);
	*strchrnul(base->name, ',') = 0;
	int rc = parse_arg(net, arg, err);
	/* Several pairs bring the queue of commands. */
	return rc
		       ?: virtio_dev_init(&net->virtio, base, &net_ops, &net->state.virtio,
					  2 * net->pairs + (net->pairs > 1), err);
}

/* ---- the link ---- */

static bool is_stream(int fd)
{
	int type;
	socklen_t len = sizeof(type);
	return !getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) && type == SOCK_STREAM;
}

/* What whoever started molt has opened: a tap, or a stream socket. */
static int inherited_open(struct net *net, struct error *err)
{
	int fd = net->inherited;
	/* After a reboot in place, over which a tap stays, that number may be anything. */
	if (net->dev.m->kept) {
		error_end(err, EXIT_CONFIG, EBADF,
			  "%s: a stream socket that was inherited ends with the guest that had it",
			  net->dev.name);
		return error_hint(err, "start molt again with a new one; --net user=SOCKET is "
				       "connected anew after a reboot in place");
	}
	int rc = is_stream(fd) ? 0 : net_tap_check(fd, net->dev.name, err);
	if (rc == -ENOTTY) {
		error_end(err, EXIT_USAGE, EBADF,
			  "%s: that is no descriptor of a tap or a stream socket", net->dev.name);
		return error_hint(err, "who starts molt opens it, and leaves it open over exec");
	}
	return rc ? rc : fd;
}

static int link_new(struct net *net, struct error *err)
{
	int fd = net->user
			 ? *net->socket ? net_stream_connect(net->socket, err) : net_user_start(err)
		 : *net->ifname ? net_tap_open(net->ifname, net->pairs > 1, err)
				: inherited_open(net, err);
	if (fd < 0)
		return fd;
	int rc = fd_set_cloexec(fd, true) ?: fd_set_nonblock(fd, true);
	if (!rc)
		return fd;
	close(fd);
	return error_errno(err, -rc, "%s: descriptor", net->dev.name);
}

/* A further queue of the tap gets no frames until the driver uses it. */
static int pair_new(struct net_pair *pair, const char *name, struct error *err)
{
	struct net *net = pair->net;
	int fd = link_new(net, err);
	int rc = fd < 0 ? fd : 0;
	if (!rc && net_pair_index(pair) && (rc = net_tap_attach(fd, false)))
		error_end(err, EXIT_HOST, -rc, "%s: detaching a queue of the tap: %m",
			  net->dev.name);
	rc = rc ?: fdset_keep(&net->dev.m->fds, name, fd, err);
	if (rc)
		fd_close(&fd);
	else
		pair->fd = fd;
	return rc;
}

static int pair_open(struct net_pair *pair, struct error *err)
{
	struct net *net = pair->net;
	struct machine *m = net->dev.m;
	char name[FDSET_NAME_LEN], number[12] = "";
	if (net_pair_index(pair))
		snprintf(number, sizeof(number), ":%u", net_pair_index(pair));
	snprintf(name, sizeof(name), "%.48s:link%s", net->dev.node, number);
	pair->fd = fdset_get(&m->fds, name);
	if (pair->fd < 0 && !m->fresh)
		return error_set(err, EBADMSG, "%s: descriptor %s was not handed over",
				 net->dev.name, name);
	int rc = pair->fd < 0 ? pair_new(pair, name, err) : 0;
	return rc ?: loop_add(&m->loop, pair->fd, 0, net_ready, pair, err);
}

static int link_open(struct net *net, struct error *err)
{
	int rc = 0;
	for (unsigned i = 0; !rc && i < net->pairs; i++)
		rc = pair_open(&net->pair[i], err);
	net->link = is_stream(net->pair[0].fd) ? &net_stream : &net_tap;
	return rc;
}

/* ---- its life ---- */

static int net_open(struct device *base, struct error *err)
{
	struct net *net = (struct net *)base;
	return link_open(net, err)
		       ?: net_vhost_open(net, err) ?: virtio_dev_open(&net->virtio, err);
}

/* What the guest reads (5.1.4). */
static void configure(struct net *net)
{
	net->config = (struct virtio_net_config){.status = net->state.up ? VIRTIO_NET_S_LINK_UP : 0,
						 .max_virtqueue_pairs = (uint16_t)net->pairs};
	memcpy(net->config.mac, net->state.mac, MAC_LEN);
}

static int mac_choose(struct net *net, struct error *err)
{
	uint8_t *mac = net->state.mac;
	if (getrandom(mac, MAC_LEN, 0) != MAC_LEN)
		return error_errno(err, errno, "%s: a random address", net->dev.name);
	mac[0] = (uint8_t)((mac[0] | MAC_LOCAL) & ~MAC_GROUP);
	return 0;
}

static int net_realize(struct device *base, struct error *err)
{
	struct net *net = (struct net *)base;
	uint64_t features = net->link->features | 1ull << VIRTIO_NET_F_MAC |
			    1ull << VIRTIO_NET_F_STATUS | 1ull << VIRTIO_NET_F_MRG_RXBUF;
	bool many = net->pairs > 1;
	if (many)
		features |= 1ull << VIRTIO_NET_F_MQ | 1ull << VIRTIO_NET_F_CTRL_VQ;
	int rc = net->has_mac || !base->m->fresh ? 0 : mac_choose(net, err);
	net->state.up = 1;
	net->state.pairs = 1;
	configure(net);
	return rc
		       ?: virtio_dev_realize(
				  &net->virtio, features, &net->config,
				  many ? offsetof(struct virtio_net_config, mtu)
				       : offsetof(struct virtio_net_config, max_virtqueue_pairs),
				  err);
}

static int net_reset(struct device *base, struct error *err)
{
	virtio_dev_reset(&((struct net *)base)->virtio);
	return 0;
}

static int net_post_load(void *opaque, struct error *err)
{
	struct net *net = opaque;
	const struct net_state *s = &net->state;
	if (s->up > 1 || s->mac[0] & MAC_GROUP)
		return error_set(err, EBADMSG, "%s: link %u, address of a group", net->dev.name,
				 s->up);
	if (s->tx_len > net->link->tx_most || !net_pairs_fit(net))
		return error_set(
			err, EBADMSG,
			"%s: its link cannot have left %u bytes to send, %u received for %u "
			"pairs of queues",
			net->dev.name, s->tx_len, s->rx_len, s->pairs);
	net->rx_at = 0;
	net->hung_up = !s->up;
	for (unsigned i = 0; i < net->pairs; i++)
		net->pair[i].starved = net->pair[i].blocked = false;
	configure(net);
	return virtio_dev_load(&net->virtio, err) ?: net_vhost_load(net, err);
}

/* After commit: the incumbent's has stopped. Where this fails molt moves the frames. */
static int net_take(struct device *base, struct error *err)
{
	net_vhost_start((struct net *)base);
	return 0;
}

static int net_start(struct device *base, struct error *err)
{
	virtio_dev_start(&((struct net *)base)->virtio);
	return 0;
}

static int net_serve(struct device *base, struct error *err)
{
	net_watch((struct net *)base);
	virtio_dev_serve(&((struct net *)base)->virtio);
	return 0;
}

static int net_still(struct device *base, struct error *err)
{
	return net_vhost_still((struct net *)base, err);
}

/* Each queue is looked at once. */
static void net_resume(struct device *base)
{
	net_vhost_start((struct net *)base);
	net_serve(base, NULL);
}

static void net_destroy(struct device *base)
{
	struct net *net = (struct net *)base;
	for (unsigned i = 0; i < net->pairs; i++) {
		vhost_close(&net->pair[i].vhost);
		if (net->pair[i].fd >= 0)
			loop_remove(&base->m->loop, net->pair[i].fd);
	}
	virtio_dev_destroy(&net->virtio);
}

/* Nothing is in flight between two handlers: it has no quiesce, and runs until the pause. */
const struct device_class net_class = {
	.name = "net",
	.state = &net_state_class,
	.size = sizeof(struct net),
	.state_offset = offsetof(struct net, state),
	.init = net_init,
	.open = net_open,
	.realize = net_realize,
	.reset = net_reset,
	.post_load = net_post_load,
	.start = net_start,
	.take = net_take,
	.serve = net_serve,
	.still = net_still,
	.resume = net_resume,
	.destroy = net_destroy,
};
