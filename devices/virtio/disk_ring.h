/* SPDX-License-Identifier: MIT */
/* A disk's io_uring. For disk_ring.c, and for its test. */
#pragma once

#include <liburing.h>

#include "devices/virtio/disk.h"

#define DISK_RING_LEN 256 /* requests that the kernel has at once; the others wait with us */

struct disk_ring {
	struct io_uring uring;
	int bell;	/* eventfd, which the ring reads: there is something to do */
	uint64_t count; /* what it reads */
	bool rung;	/* and has not looked yet; under the disk's lock */
	unsigned busy;	/* requests that the kernel has */
};
