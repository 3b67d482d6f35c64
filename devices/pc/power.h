/* SPDX-License-Identifier: MIT */
/* ACPI fixed hardware: power button, power management timer, sleep and reset registers. */
#pragma once

#include "cpr/state/fields.h"
#include "vmm/device.h"

struct power_state {
	uint16_t status, enable; /* PM1a event registers */
	uint32_t control;	 /* PM1a control register, without the bits that are constant */
	uint64_t timer_base_ns;	 /* CLOCK_MONOTONIC at which the timer was 0 */
};

/* Presses the power button. Device lock held. Returns whether the guest listens to it: false means
 * that it has not (yet) enabled the event, and will not react. */
bool power_button(struct device *dev);

extern const struct device_class power_class;
extern const struct state_class power_state_class;
