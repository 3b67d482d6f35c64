/* SPDX-License-Identifier: MIT */
/*
 * Queues of a virtio device that the host's kernel serves (linux/vhost.h): a thread of the kernel takes chains and
 * gives them back. It is kicked, and interrupts, by the eventfds that molt would use itself.
 *
 * vhost works at the addresses of the process that has opened it, answers nobody else and cannot be handed on. So a
 * successor opens its own and tells it all but where to go on while the incumbent's serves the guest. In the pause the
 * incumbent stops its own, which then has nothing in flight, and asks how far each queue is: that is the index in the
 * state, the same as if molt had served the queue. So programs and hosts with and without vhost take guests over from
 * each other, and what vhost is told is no state.
 *
 * A masked vector of MSI-X needs no care: its eventfd has no irqfd, counts, and is its pending bit. Without MSI-X the
 * event loop sets the line.
 *
 * Device lock held, vhost_open and vhost_close aside.
 */
#pragma once

#include "devices/virtio/virtio.h"

#define VHOST_QUEUES 2

/* What the kernel was told of one queue. */
struct vhost_told {
	struct virtq at;
	uint32_t size;
	uint32_t base; /* where to go on: index of the available ring */
	int call;      /* the eventfd that interrupts */
};

struct vhost {
	struct virtio_dev *v;
	unsigned first; /* of the device's queues it serves VHOST_QUEUES from this one on */
	int fd;		/* -1: none */
	/* Lets the kernel serve the queues, or ends that: then nothing is in flight. 0 or -errno. */
	int (*run)(struct vhost *h, bool on);
	bool running;
	bool has_kicks; /* the event loop does not wait for the doorbells */
	bool failed;	/* molt serves the queues until the driver starts anew */
	int line_fd;	/* eventfds of this process: instead of a vector, and of errors */
	int error_fd;
	uint64_t known;	   /* features that the kernel has */
	uint64_t features; /* as told */
	struct vhost_told told[VHOST_QUEUES];
};

/* Opens /dev/vhost-@kind for the queues of @v from @first on; guest memory is mapped. @needs: features of rings and
 * buffers that it must have. -errno and the error: @h has none. */
int vhost_open(struct vhost *h, struct virtio_dev *v, unsigned first, const char *kind,
	       uint64_t needs, struct error *err);
void vhost_close(struct vhost *h);
/* Opens /dev/vhost-@kind for @dev, nothing else: a descriptor, or -errno and the error. */
int vhost_open_device(const struct device *dev, const char *kind, struct error *err);

/* Tells the kernel where the rings are and how far they were worked through. Changes nothing that another process
 * sees. 0 or -errno. */
int vhost_tell(struct vhost *h);

/* The kernel serves the queues from where they are. Where it does not want to, that is logged, and molt is to do it. */
void vhost_start(struct vhost *h);

/* Ends that; the state says how far each queue is, but of a device that was reset. -errno: it is not known how far. */
int vhost_still(struct vhost *h);
/* The same outside of the pause: the event loop waits for the doorbells again. */
void vhost_stop(struct vhost *h);

/* The event loop waits for the doorbells, or leaves them to vhost, whoever serves the queues now. */
void vhost_watch(struct vhost *h);

/* The driver has changed how the queues interrupt. */
void vhost_routed(struct vhost *h);
