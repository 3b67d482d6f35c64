/* SPDX-License-Identifier: MIT */
/* Frames of a tap that the host's kernel moves (drivers/vhost/net.c of the kernel), where there is /dev/vhost-net. */
#include <linux/vhost.h>
#include <linux/virtio_config.h>

#include "devices/virtio/net.h"
#include "vmm/machine.h"

/* Both queues of the pair, or none. Those that the driver has not set up have nothing to serve. */
static int run(struct vhost *h, bool on)
{
	const struct net *net = (struct net *)h->v->owner;
	int fd = net->pair[h->first / VHOST_QUEUES].fd;
	long rc = 0;
	for (unsigned i = 0; i < VHOST_QUEUES; i++) {
		struct vhost_vring_file backend = {i, on ? fd : VHOST_FILE_UNBIND};
		if (on && !h->v->queue[h->first + i].desc)
			continue;
		rc = rc ?: vm_ioctl(h->fd, VHOST_NET_SET_BACKEND, &backend);
	}
	return (int)rc;
}

/* For all pairs, or for none. */
static int open_all(struct net *net, struct error *err)
{
	int rc = 0;
	for (unsigned i = 0; !rc && i < net->pairs; i++)
		rc = vhost_open(&net->pair[i].vhost, &net->virtio, VHOST_QUEUES * i, "net",
				1ull << VIRTIO_NET_F_MRG_RXBUF, err);
	for (unsigned i = 0; rc && i < net->pairs; i++)
		vhost_close(&net->pair[i].vhost);
	return rc;
}

int net_vhost_open(struct net *net, struct error *err)
{
	struct device *dev = &net->dev;
	for (unsigned i = 0; i < net->pairs; i++)
		net->pair[i].vhost.run = run;
	dev->served_by = "molt";
	if (net->wants_vhost == NET_VHOST_OFF || net->link != &net_tap) {
		if (net->wants_vhost != NET_VHOST_ON)
			return 0;
		error_end(err, EXIT_USAGE, EINVAL, "%s: vhost=on is for a tap", dev->name);
		return error_hint(err, "leave it out");
	}
	int rc = open_all(net, err);
	if (!rc)
		dev->served_by = "vhost";
	if (!rc || net->wants_vhost == NET_VHOST_ON)
		return rc;
	if (rc != -ENOENT && rc != -ENODEV)
		log_info("%s; molt moves its frames itself", err->text);
	return 0;
}

static bool driver_runs(const struct net *net)
{
	const uint32_t status = net->state.virtio.status;
	return status & VIRTIO_CONFIG_S_DRIVER_OK && !(status & VIRTIO_CONFIG_S_NEEDS_RESET);
}

int net_vhost_load(struct net *net, struct error *err)
{
	int rc = 0;
	for (unsigned i = 0; !rc && i < net->state.pairs && driver_runs(net); i++)
		rc = net->pair[i].vhost.fd >= 0 ? vhost_tell(&net->pair[i].vhost) : 0;
	return rc ? error_errno(err, -rc, "%s: vhost: rings", net->dev.name) : 0;
}

void net_vhost_start(struct net *net)
{
	uint32_t at;
	bool all = true;
	if (net->pair[0].vhost.fd < 0 || !driver_runs(net) || !net->state.up)
		return;
	for (unsigned i = 0; i < net->state.pairs; i++) {
		struct net_pair *pair = &net->pair[i];
		if (!net_pair_waiting(pair, &at))
			vhost_start(&pair->vhost);
		all &= pair->vhost.running;
	}
	net->dev.served_by = all ? "vhost" : "molt";
}

int net_vhost_still(struct net *net, struct error *err)
{
	int rc = 0;
	for (unsigned i = 0; i < net->pairs; i++)
		rc = rc ?: vhost_still(&net->pair[i].vhost);
	return rc ? error_errno(err, -rc, "%s: stopping vhost", net->dev.name) : 0;
}

void net_vhost_stop(struct net *net)
{
	for (unsigned i = 0; i < net->pairs; i++)
		if (net->pair[i].vhost.fd >= 0)
			vhost_stop(&net->pair[i].vhost);
}
