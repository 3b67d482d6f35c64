/* SPDX-License-Identifier: MIT */
/* Included by the table of classes only. */
#pragma once

#include "vmm/device.h"

extern const struct device_class testdev_class;
