/* SPDX-License-Identifier: MIT */
/* A virtio source of random bytes (--rng). */
#pragma once

#include "devices/virtio/virtio.h"

struct rng_state {
	struct virtio_state virtio;
};

struct rng {
	struct device dev;
	struct virtio_dev virtio;
	struct virtq_chain chain; /* the one that is filled */
	struct rng_state state;
};

extern const struct device_class rng_class;
