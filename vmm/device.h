/* SPDX-License-Identifier: MIT */
/*
 * Device classes. Registration is one table (vmm/devices.c). One life cycle for a fresh guest and
 * for one taken over:
 *
 *   init -> open -> realize -> (reset | load state: post_load, loaded) -> spawn -> start -> serve
 *
 * open takes every host descriptor by name (fdset_get) or opens it: nothing after it knows which.
 * realize adds bus regions and interrupt sources; there is a VM with RAM, but no irqchip or vCPU
 * yet. reset is for fresh guests only and may do ioctls on the host device; post_load must do none
 * that disturb it. Memory slots are added in reset, post_load or later: before the irqchip exists
 * they are cheap (docs/kernel-facts.md). start runs last, irqchip and routes exist.
 *
 * A successor loads a state twice: one that was offered while the guest ran, and the one of the
 * pause. post_load sets everything, whatever was loaded before, and until commit changes nothing
 * that the incumbent shares.
 */
#pragma once

#include "cpr/state/state.h"

struct device;
struct machine;

/* Steps are optional. */
struct device_class {
	const char *name;		 /* "vfio" */
	const struct state_class *state; /* of its section */
	size_t size, state_offset;	 /* of its struct; of the state in it */
	const char *node; /* of its section; NULL: @name, unless init writes another */
	int (*init)(struct device *dev, const char *arg,
		    struct error *err); /* @arg: the option's text, which stays */
	int (*open)(struct device *dev, struct error *err);
	int (*realize)(struct device *dev, struct error *err);
	int (*reset)(struct device *dev, struct error *err);
	int (*pre_save)(void *dev, struct error *err);
	int (*post_load)(void *dev, struct error *err);
	int (*loaded)(struct device *dev,
		      struct error *err); /* when every device's state is there */
	/* Threads of its own, which do nothing before serve. In a successor before the pause: so what cannot be made
	 * refuses the update. */
	int (*spawn)(struct device *dev, struct error *err);
	int (*start)(struct device *dev, struct error *err);
	/* The guest runs: may this device be updated now? The error is the reason. */
	int (*check)(struct device *dev, struct error *err);
	/* Successor, before commit: what ties the device to this process's VM, beside the
	 * incumbent's. */
	int (*join)(struct device *dev, struct error *err);
	/* Successor, after commit: DMA addresses. Where it fails the guest runs, and it is tried
	 * again. */
	int (*take)(struct device *dev, struct error *err);
	/* The guest runs, the event loop is about to. In a successor after the pause; again, where it, or what comes
	 * after it, has failed. */
	int (*serve)(struct device *dev, struct error *err);
	/* The guest runs, an update is near: takes on nothing new from now on. -EBUSY: something is under way, which
	 * the error names; when it is done the device wakes the leader (MACHINE_WAKE_SIGNAL). */
	int (*quiesce)(struct device *dev, struct error *err);
	/* In the pause, no vCPU runs: what works on guest memory without threads of this process stops, and the
	 * state says how far it is. Passed-through devices go on. */
	int (*still)(struct device *dev, struct error *err);
	/* The update does not happen: goes on, with what came meanwhile. */
	void (*resume)(struct device *dev);
	/* Leader, device lock not held; after the former worker's end, or where nobody knows of that, now and then:
	 * takes what that one has had alone. -EBUSY: it is not free yet. */
	int (*inherit)(struct device *dev, struct error *err);
	/* Leader, device lock not held: looks at the host's side anew, whose size may have changed: *@bytes. 1: it
	 * has, and the guest is told; 0; -errno: nothing is changed. */
	int (*rescan)(struct device *dev, uint64_t *bytes, struct error *err);
	/* Leader, no update is under way, device lock not held: the guest has ejected the device (device_leave). Closes
	 * what the host waits for. */
	void (*release)(struct device *dev);
	void (*destroy)(struct device *dev); /* what is not in its struct; the machine is quiet */
};

struct device {
	const struct device_class *cls;
	struct machine *m;
	char name[48]; /* "vfio 0000:00:05.0": for messages */
	const char *
		trouble; /* what the operator should know of it ("has failed"), static; NULL: nothing */
	const char *served_by; /* who does its work, static: "vhost"; NULL: nothing to tell apart */
	uint64_t
		blocked_s; /* CLOCK_BOOTTIME when it was first seen that it cannot be kept over an update; 0: it can */
	bool leaving;	       /* by device_leave; the leader has not released it yet */
	bool told, ends_guest; /* by device_tell; the leader has not looked yet */
	bool stays; /* by destroy, which could not end a thread that uses struct and descriptors */
	char node[STATE_NODE_LEN]; /* of its section of the state */
};

int device_create(const struct device_class *cls, struct machine *m, const char *arg,
		  struct device **out, struct error *err);
int device_realize(struct device *dev, struct error *err);
/* False: it stays until the process ends, and so must its descriptors and guest memory. */
bool device_destroy(struct device *dev);

/* Device lock held: @trouble (static) is told to the operator by the leader: log, event, status; and with
 * @ends_guest the guest is asked to power off. */
void device_tell(struct device *dev, const char *trouble, bool ends_guest);

/* leave, device lock held: the guest has ejected it. release: the leader releases all of those. */
void device_leave(struct device *dev);
void devices_release(struct machine *m);

/* Devices every machine has, in order; ends with NULL. */
extern const struct device_class *const devices_fixed[];

/* Devices that options ask for, and what those bring with them; ends with NULL. */
extern const struct device_class *const devices_optional[];

const struct device_class *devices_find(const char *name);
