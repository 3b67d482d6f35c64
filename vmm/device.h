/* SPDX-License-Identifier: MIT */
/*
 * Device classes. Registration is one table (vmm/devices.c). One life cycle for a fresh guest and
 * for one taken over:
 *
 *   create -> open -> realize -> (reset | load state: state_section.post_load, loaded) -> start
 *
 * open takes every host descriptor by name (fdset_take) or opens it: nothing after it knows which.
 * realize registers bus regions, state sections, interrupt sources; there is a VM with RAM, but no
 * irqchip or vCPU yet. reset is for fresh guests only and may do ioctls on the host device; post_load
 * must do none that disturb it. Memory slots are added in reset, post_load or later (before the
 * irqchip exists they are cheap: docs/kernel-facts.md). start runs last, irqchip and routes exist, in
 * both cases.
 *
 * loaded, when every device's state is there, is for what depends on several of them.
 *
 * Around an update (all optional):
 *   check    the guest runs: may this device be updated now? Error: the reason.
 *   join     successor, before commit: what ties the device to this process's VM, beside the incumbent's
 *   take     successor, after commit: DMA addresses. Where it fails the guest runs all the same, and it is
 *            tried again
 *
 * A successor loads a state twice: one that was offered while the guest ran, and the one of the pause. post_load
 * sets everything, whatever was loaded before, and until commit changes nothing that the incumbent shares.
 */
#pragma once

#include "vmm/base/base.h"

struct device;
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
	int (*loaded)(struct device *dev, struct error *err);
	int (*start)(struct device *dev, struct error *err);
	int (*check)(struct device *dev, struct error *err);
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
