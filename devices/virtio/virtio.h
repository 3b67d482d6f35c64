/* SPDX-License-Identifier: MIT */
/*
 * Virtio devices (VIRTIO 1.2): the modern PCI transport with split queues, for whatever is behind it. A device
 * embeds a struct virtio_dev, gives it a struct virtio_ops, and calls the virtio_dev_ functions from the steps
 * of its own life cycle (vmm/device.h). All of it runs with the device lock held, from exits of vCPUs, from the event
 * loop, and from threads of the device (own_threads); without the lock a thread touches guest memory only through the
 * chains it has.
 *
 * The rings in guest memory are the truth, and an update finds nothing in flight: quiesce takes no new chains
 * and lets those in flight end, while the guest runs on and queues. A device that gives each chain back in the
 * handler that took it needs no quiesce. So the state is where the rings are, and how far they were worked
 * through. Which kicks were taken before does not matter, as each queue is looked at once when the device serves
 * or resumes.
 *
 * Kept over an update, by the device's node ("disk@0"): "NODE:kick:N", the eventfd that the guest's write to
 * queue N's doorbell signals (KVM_IOEVENTFD), and "NODE:msix:N", the one of interrupt vector N.
 */
#pragma once

#include <sys/uio.h>

#include "devices/pci/msi.h"
#include "devices/pci/pci.h"
#include "vmm/device.h"
#include "vmm/ram.h"

#define VIRTIO_PCI_VENDOR  0x1af4 /* 4.1.2 */
#define VIRTIO_MAX_QUEUES  17
#define VIRTIO_QUEUE_SIZE  128 /* what the guest may have at most; a power of two */
#define VIRTIO_MAX_BUFFERS VIRTIO_QUEUE_SIZE
#define VIRTIO_NO_VECTOR   0xffff

/* Bits of ISR (4.1.4.5). */
#define VIRTIO_ISR_QUEUE  1u
#define VIRTIO_ISR_CONFIG 2u

/* Counts: @queues of the arrays. The addresses are the guest's, physical. */
struct virtio_state {
	struct pci_state pci;
	struct msix_state msix;
	uint64_t features; /* that the driver has accepted */
	uint64_t desc[VIRTIO_MAX_QUEUES], avail[VIRTIO_MAX_QUEUES], used[VIRTIO_MAX_QUEUES];
	uint32_t status;	/* VIRTIO_CONFIG_S_ */
	uint32_t isr;		/* VIRTIO_ISR_ */
	uint32_t config_vector; /* of changes of the configuration */
	uint32_t feature_select, driver_feature_select, queue_select; /* as the driver left them */
	uint32_t queues;
	uint32_t generation; /* of the device's configuration, modulo 256 */
	uint32_t size[VIRTIO_MAX_QUEUES], enabled[VIRTIO_MAX_QUEUES], vector[VIRTIO_MAX_QUEUES];
	/* How many chains were given back, modulo 65536; taken as many, since none is in flight. */
	uint32_t index[VIRTIO_MAX_QUEUES];
};

#define VIRTIO_STATE_FIELDS(S, m)                                                                  \
	PCI_STATE_FIELDS(S, m.pci), MSIX_STATE_FIELDS(S, m.msix), FIELD_U(S, m.features),          \
		FIELD_ARRAY_LEN(S, m.desc, m.queues), FIELD_ARRAY_LEN(S, m.avail, m.queues),       \
		FIELD_ARRAY_LEN(S, m.used, m.queues), FIELD_U(S, m.status), FIELD_U(S, m.isr),     \
		FIELD_U(S, m.config_vector), FIELD_U(S, m.feature_select),                         \
		FIELD_U(S, m.driver_feature_select), FIELD_U(S, m.queue_select),                   \
		FIELD_U(S, m.generation), FIELD_ARRAY_LEN(S, m.size, m.queues),                    \
		FIELD_ARRAY_LEN(S, m.enabled, m.queues), FIELD_ARRAY_LEN(S, m.vector, m.queues),   \
		FIELD_ARRAY_LEN(S, m.index, m.queues)

struct virtio_dev;

/* What a device does. Steps are optional, but kick. */
struct virtio_ops {
	uint16_t type;	    /* VIRTIO_ID_ (linux/virtio_ids.h) */
	uint32_t pci_class; /* class, subclass and programming interface: 0x018000 */

	/* Queue @q may have chains: take them (virtq_pop) until there are none, or until the device can have no
	 * more. Called when the guest has kicked, and once after an update. */
	void (*kick)(struct virtio_dev *v, unsigned q);

	/* Threads of the device wait for the kicks (virtio_kick.fd), the event loop does not. Then kick is called for
	 * what comes without a signal, and signals it to them (virtio_look_again). */
	bool own_threads;

	/* The guest writes @len bytes at @off of the device's configuration, inside it. */
	void (*config_write)(struct virtio_dev *v, unsigned off, unsigned len, uint64_t value);

	/* The driver has started it (DRIVER_OK), or has reset it: nothing is in flight then, and no feature is on.
	 * Both may do what loading a state must not. */
	void (*started)(struct virtio_dev *v);
	void (*stopped)(struct virtio_dev *v);

	/* It stops until its driver resets it (virtio_broken): so does who serves queues for it. */
	void (*broken)(struct virtio_dev *v);

	/* The driver has changed how it is interrupted: MSI-X on or off, a queue's vector. */
	void (*routed)(struct virtio_dev *v);

	/* For a message that names what an update waits for: "a read of 4096 bytes at sector 8, since 300 ms". */
	void (*oldest)(struct virtio_dev *v, char *text, size_t size);
};

/* One queue, in this process: where its rings are. NULL: not enabled. */
struct virtq {
	struct vring_desc *desc;
	struct vring_avail *avail;
	struct vring_used *used;
	uint16_t next; /* chain to take */
	uint16_t
		notified; /* the used index up to which the guest was interrupted, or did not want it */
};

/* What is watched of a queue: the eventfd that the doorbell signals. */
struct virtio_kick {
	struct virtio_dev *v;
	int fd; /* the table of kept descriptors owns it; -1: none yet */
};

struct virtio_dev {
	struct device *owner;
	const struct virtio_ops *ops;
	struct virtio_state *state; /* the owner's */
	struct pci_dev pci;
	struct msix msix;
	uint64_t features;  /* offered */
	const void *config; /* the device's configuration, as the guest reads it */
	unsigned config_len;
	unsigned queues;
	struct virtq queue[VIRTIO_MAX_QUEUES];
	struct virtio_kick kick[VIRTIO_MAX_QUEUES];
	unsigned in_flight; /* chains taken and not given back */
	bool quiet;	    /* takes no chains */
	bool asked; /* quiesce has said that something is in flight: the leader is to be woken */
	bool resetting; /* the driver has reset it, and something is in flight */
	unsigned complaints;
};

/* ---- pci.c: the steps of a device's life. All are needed ---- */

/* init: takes a PCI slot. @state is the owner's; the device has @queues queues, 1 to VIRTIO_MAX_QUEUES. The
 * owner's node must be written. */
int virtio_dev_init(struct virtio_dev *v, struct device *owner, const struct virtio_ops *ops,
		    struct virtio_state *state, unsigned queues, struct error *err);
/* open, realize: @features is what is offered, beside the transport's own. @config, of @config_len bytes, stays
 * the device's. */
int virtio_dev_open(struct virtio_dev *v, struct error *err);
int virtio_dev_realize(struct virtio_dev *v, uint64_t features, const void *config,
		       unsigned config_len, struct error *err);
void virtio_dev_reset(struct virtio_dev *v);
int virtio_dev_load(struct virtio_dev *v, struct error *err);
/* start: a line that was asserted is so in this VM. */
void virtio_dev_start(struct virtio_dev *v);
/* serve, resume: chains are taken from here on, and each queue is looked at once. */
void virtio_dev_serve(struct virtio_dev *v);
/* quiesce: takes no more chains. -EBUSY: some are in flight; when they are not, the leader is woken. */
int virtio_dev_quiesce(struct virtio_dev *v, struct error *err);
void virtio_dev_destroy(struct virtio_dev *v);

/* The configuration has changed: the driver is told, if it has started. */
void virtio_config_changed(struct virtio_dev *v);
/* The guest has broken the rules, or the device cannot go on: nothing works until the driver resets it. */
void virtio_broken(struct virtio_dev *v, const char *why);
/* Looks at queue @q now, unless the device is quiet, stopped or broken. */
void virtio_look(struct virtio_dev *v, unsigned q);

/* The same later, from whoever watches its kick. */
void virtio_look_again(struct virtio_dev *v, unsigned q);

/* Inside devices/virtio/: common.c, the registers of the common configuration (4.1.4.3); pci.c, the rest. */
void virtio_common_access(struct virtio_dev *v, unsigned off, unsigned len, bool write,
			  uint64_t *value);
void virtio_reset_done(struct virtio_dev *v);
void virtio_line_update(struct virtio_dev *v);
void virtio_interrupt(struct virtio_dev *v, uint32_t vector, uint32_t isr);

/* ---- queue.c ---- */

/* One chain of buffers: those that the device reads, then those that it writes. In guest memory, which the
 * guest may change at any time. */
struct virtq_chain {
	uint16_t head;
	uint16_t out, in; /* buffers of each kind */
	struct iovec iov[VIRTIO_MAX_BUFFERS];
};

/* The addresses of queue @q in the state: -EFAULT: not all of the rings is guest memory; -EINVAL: size or
 * alignment. Touches no guest memory. */
int virtq_map(struct virtio_dev *v, unsigned q);
void virtq_unmap(struct virtio_dev *v, unsigned q);

/* May chains be taken from queue @q now? Not while the device is quiet, stopped or broken. */
bool virtq_open(const struct virtio_dev *v, unsigned q);

/* Has queue @q a chain now? When there is none the guest will kick for the next one. */
bool virtq_pending(struct virtio_dev *v, unsigned q);

/* Takes the next chain of queue @q. False: there is none, or the queue is broken, and the guest was told. When
 * there is none the guest will kick for the next one. */
bool virtq_pop(struct virtio_dev *v, unsigned q, struct virtq_chain *chain);

/* Gives the chain with that head back: @len bytes of its buffers were written. virtq_notify then interrupts the
 * guest, if it wants that: once for many chains. */
void virtq_push(struct virtio_dev *v, unsigned q, uint16_t head, uint32_t len);
void virtq_notify(struct virtio_dev *v, unsigned q);

/* Somebody else has served queue @q, and has given back as many chains as @index says. */
void virtq_go_to(struct virtio_dev *v, unsigned q, uint16_t index);

/* What one chain that is given back has: its head, and how many bytes were written. */
struct virtq_used {
	uint16_t head;
	uint32_t len;
};

/* Gives @n chains back, of which the guest sees all or none. */
void virtq_push_all(struct virtio_dev *v, unsigned q, const struct virtq_used *used, unsigned n);

/* The last @n chains that were taken, none of which was given back: they were not. */
void virtq_unpop(struct virtio_dev *v, unsigned q, unsigned n);

/* Of @n buffers: their bytes; copies the first @len bytes out or in, and returns how many there were. */
size_t iov_size(const struct iovec *iov, unsigned n);
size_t iov_read(const struct iovec *iov, unsigned n, void *to, size_t len);
size_t iov_write(const struct iovec *iov, unsigned n, const void *from, size_t len);
/* Cuts @len bytes off the front or the back. False: there are fewer. */
bool iov_cut_front(struct iovec **iov, unsigned *n, size_t len);
bool iov_cut_back(struct iovec *iov, unsigned *n, size_t len);
