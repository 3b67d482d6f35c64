/* SPDX-License-Identifier: MIT */
/*
 * Sockets between the guest and its host (VIRTIO 1.2, 5.10), which the host's kernel serves (/dev/vhost-vsock): the
 * guest is the context id that --vsock cid= says.
 *
 * The connections are in the kernel, belong to the process that has opened the device, and cannot be handed on. An
 * update resets them on both sides. When the former worker ends the context id is free, and the new one takes it; but
 * first it lets a second descriptor of the device, opened for that, have it, and closes that one: then the kernel
 * resets the host's ends. It waits for a grace period there, so the leader does that, without the device lock. The
 * guest is told by an event (TRANSPORT_RESET, 5.10.6.7). An update that fails resets nothing.
 */
#pragma once

#include <linux/virtio_vsock.h>

#include "devices/virtio/vhost.h"

struct vsock_state {
	struct virtio_state virtio;
	uint64_t cid; /* context id */
};

struct vsock {
	struct device dev;
	struct virtio_dev virtio;
	struct vhost vhost;
	struct virtio_vsock_config config;
	struct virtq_chain chain; /* room, used within a handler */
	int sweep_fd; /* the second descriptor, while the former worker may have the context id; else -1 */
	bool has_cid;
	bool reset_due; /* the guest is to be told that connections were reset */
	struct vsock_state state;
};

extern const struct device_class vsock_class;
