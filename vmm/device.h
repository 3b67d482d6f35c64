/* SPDX-License-Identifier: MIT */
/*
 * Device classes. Registration is one table (vmm/devices.c). One life cycle for a fresh guest and
 * for one taken over:
 *
 *   create -> open -> realize -> (reset | load state: state_section.post_load) -> start
 *
 * open takes every host descriptor by name (fdset_take) or opens it: nothing after it knows which.
 * realize registers bus regions, state sections, interrupt sources; there is a VM with RAM, but no
 * irqchip or vCPU yet. reset is for fresh guests only and may do ioctls on the host device; post_load
 * must do none that disturb it. Memory slots are added in reset, post_load or later (before the
 * irqchip exists they are cheap: facts). start runs last, irqchip and routes exist, in both cases.
 *
 * Preflight: a new program tries the state of a running machine in a process of its own, without its
 * descriptors (vmm/trial.h). create, then realize, or pretend where there is one, then post_load: these must
 * do without what open gave, or the device needs a pretend, which registers a section with checks of its own.
 *
 * Around an update (all optional):
 *   check    the guest runs: may this device be updated now? Error: the reason.
 *   detach   vCPUs parked, irqfds off, before the blob is written (DMA addresses invalidated here)
 *   reattach undo of detach: the update is off, the guest resumes in this program
 *   adopt    new program, before commit: everything that can fail (DMA addresses given anew)
 */
#ifndef MOLT_DEVICE_H
#define MOLT_DEVICE_H

#include <stdbool.h>

struct device;
struct error;
struct machine;
struct state_class;

struct device_class {
	const char *name;		 /* "vfio" */
	const char *usage;		 /* one line for --help: "BDF[,rom=on]" or NULL */
	const struct state_class *state; /* of its section: what the schema says of it */
	/* @arg: the option's text, owned by the caller and valid for the machine's life. */
	int (*create)(struct machine *m, const char *arg, struct device **out, struct error *err);
	int (*open)(struct device *dev, struct error *err);
	int (*realize)(struct device *dev, struct error *err);
	int (*reset)(struct device *dev, struct error *err);
	int (*pretend)(struct device *dev, struct error *err);
	int (*start)(struct device *dev, struct error *err);
	int (*check)(struct device *dev, struct error *err);
	int (*detach)(struct device *dev, struct error *err);
	void (*reattach)(struct device *dev);
	int (*adopt)(struct device *dev, struct error *err);
	/* The hand-over to a living successor: join: before commit, what ties the device to the successor's VM;
	 * take: after commit, DMA addresses; tried again later where it fails. */
	int (*join)(struct device *dev, struct error *err);
	int (*take)(struct device *dev, struct error *err);
	void (*destroy)(struct device *dev); /* frees; the machine is quiet */
};

/* First member of every device's struct. */
struct device {
	const struct device_class *cls;
	struct machine *m;
	char name[48]; /* "vfio 0000:00:05.0": for messages */
};

#endif
