/* SPDX-License-Identifier: MIT */
#include "vmm/devices.h"

#include <stddef.h>
#include <string.h>

#include "devices/cmos.h"
#include "devices/pci/pci.h"
#include "devices/power.h"
#include "devices/serial.h"
#include "devices/testdev.h"
#include "devices/vfio/vfio.h"
#include "vmm/base/num.h"
#include "vmm/device.h"

const struct device_class *const devices_fixed[] = {
	&serial_class, &cmos_class, &power_class, &pci_host_class, NULL,
};

static const struct device_class *const by_option[] = {&vfio_class, &testdev_class};

const struct device_class *devices_find(const char *name)
{
	for (unsigned i = 0; i < ARRAY_LEN(by_option); i++)
		if (!strcmp(by_option[i]->name, name))
			return by_option[i];
	return NULL;
}
