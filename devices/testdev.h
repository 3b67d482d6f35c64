/* SPDX-License-Identifier: MIT */
/* Included by the table of classes only. */
#ifndef MOLT_TESTDEV_H
#define MOLT_TESTDEV_H

#include "vmm/device.h"

extern const struct device_class testdev_class;

#endif
