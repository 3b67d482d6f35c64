/* SPDX-License-Identifier: MIT */
/* A disk's io_uring. For disk_ring.c, and for its test. */
#pragma once

#include <liburing.h>

#include "devices/virtio/disk.h"

#define DISK_RING_LEN  256
#define DISK_RING_MOST (DISK_RING_LEN - VIRTIO_MAX_QUEUES) /* requests at once, beside the kicks */

/* All of it is the thread's. */
struct disk_ring {
	struct io_uring uring;
	unsigned busy;			  /* requests taken and not given back */
	struct disk_request *slow, *done; /* to be done without the ring; to be given back */
};
