/* SPDX-License-Identifier: MIT */
/*
 * A virtio balloon (--balloon; VIRTIO 1.2, 5.5) that is never inflated: only free page reporting. The guest hands in
 * the memory that it does not use, the host takes the pages back, and the guest may use that memory again as soon as
 * it has its chain back: it finds zeros, in new pages.
 *
 * A chain is given back in the handler that has taken it, so nothing is in flight in an update's pause, and no page is
 * taken back after the state was saved. The successor has the same file of guest memory mapped: what is taken back
 * while it builds is gone from its page tables too, and at worst it fills in a page of zeros that nobody uses yet.
 */
#pragma once

#include <linux/virtio_balloon.h>

#include "devices/virtio/virtio.h"

struct balloon_state {
	struct virtio_state virtio;
};

struct balloon {
	struct device dev;
	struct virtio_dev virtio;
	struct virtio_balloon_config config; /* all zero: no page is asked for */
	struct virtq_chain chain;	     /* room, used within a handler */
	bool refused; /* the host has not taken a page: it is asked no more */
	struct balloon_state state;
};

extern const struct device_class balloon_class;
