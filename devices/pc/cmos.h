/* SPDX-License-Identifier: MIT */
/* MC146818 clock with 128 bytes of CMOS memory at ports 0x70 and 0x71: the host's time, in UTC. */
#pragma once

#include "cpr/state/fields.h"
#include "vmm/device.h"

struct cmos_state {
	uint8_t index;
	uint8_t nvram[128]; /* registers A and B included; the clock's own bytes are unused */
};

extern const struct device_class cmos_class;
extern const struct state_class cmos_state_class;
