/* SPDX-License-Identifier: MIT */
/* The table of device classes. */

#include "devices/pc/pc.h"
#include "devices/vfio/vfio.h"
#include "devices/virtio/balloon.h"
#include "devices/virtio/disk.h"
#include "devices/virtio/net.h"
#include "devices/virtio/rng.h"
#include "devices/virtio/vsock.h"

const struct device_class *const devices_fixed[] = {
	&serial_class, &cmos_class, &power_class, &pci_host_class, &panic_class, NULL,
};

const struct device_class *const devices_optional[] = {
	&vfio_class, &vfio_container_class, &pci_slots_class, &disk_class,    &net_class,
	&rng_class,  &vsock_class,	    &balloon_class,   &testdev_class, NULL,
};

const struct device_class *devices_find(const char *name)
{
	for (unsigned i = 0; devices_optional[i]; i++)
		if (!strcmp(devices_optional[i]->name, name))
			return devices_optional[i];
	return NULL;
}
