/* SPDX-License-Identifier: MIT */
/*
 * pvpanic, one port by which the guest's kernel tells that it has panicked (QEMU's docs/specs/pvpanic.rst). The guest
 * finds it as the ACPI device QEMU0001. It has no state: an update has nothing to carry over.
 */
#include "devices/pc/pc.h"

#include "vmm/arch/x86_64/layout.h"
#include "vmm/machine.h"

/* Linux's include/uapi/misc/pvpanic.h. Reading tells which ones are served. */
enum { PANICKED = 1 << 0, CRASH_LOADED = 1 << 1 };

static void panic_access(void *opaque, struct bus_access *access)
{
	struct device *dev = opaque;
	if (!access->write)
		access->value = PANICKED | CRASH_LOADED;
	else if (access->value & PANICKED)
		machine_stop(dev->m, EXIT_PANIC, "the guest's kernel has panicked");
	else if (access->value & CRASH_LOADED && !dev->trouble)
		device_tell(dev,
			    "has been told: the guest's kernel has panicked, and its crash kernel "
			    "goes on",
			    false);
}

static int panic_realize(struct device *dev, struct error *err)
{
	const struct bus_region region = {LAYOUT_PANIC_PORT, 1, "panic", panic_access, dev};
	return bus_add(&dev->m->pio, &region, err);
}

const struct device_class panic_class = {
	.name = "panic",
	.size = sizeof(struct device),
	.realize = panic_realize,
};
