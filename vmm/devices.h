/* SPDX-License-Identifier: MIT */
/* The table of device classes: the one place that names them all. */
#pragma once

#include "vmm/base/base.h"

struct device_class;

/* Devices every machine has, in order; ends with NULL. */
extern const struct device_class *const devices_fixed[];

/* Devices that options ask for, and what those bring with them; ends with NULL. */
extern const struct device_class *const devices_optional[];

/* The class of that name, for devices asked for by option, or NULL. */
const struct device_class *devices_find(const char *name);
