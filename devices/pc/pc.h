/* SPDX-License-Identifier: MIT */
/* The platform devices of a PC, and a PCI device for tests. */
#pragma once

#include "vmm/device.h"
#include "cpr/state/fields.h"

/* ---- serial.c ---- */

#define SERIAL_FIFO_LEN 16

struct serial_state {
	uint8_t ier, fcr, lcr, mcr;
	uint8_t lsr; /* error bits only; the others follow from the FIFOs */
	uint8_t scr;
	uint8_t thre_pending; /* "transmitter empty" not yet acknowledged by reading IIR */
	uint8_t irq_level;    /* of the interrupt line, 0 or 1 */
	uint32_t divisor;
	uint32_t rx_len, tx_len;
	uint8_t rx[SERIAL_FIFO_LEN], tx[SERIAL_FIFO_LEN]; /* oldest first */
};

extern const struct device_class serial_class;
extern const struct state_class serial_state_class;

/* ---- cmos.c ---- */

struct cmos_state {
	uint8_t index;
	uint8_t nvram[128]; /* registers A and B included; the clock's own bytes are unused */
};

extern const struct device_class cmos_class;
extern const struct state_class cmos_state_class;

/* ---- power.c ---- */

struct power_state {
	uint16_t status, enable; /* PM1a event registers */
	uint32_t control;	 /* PM1a control register, without the bits that are constant */
	uint64_t timer_base_ns;	 /* CLOCK_MONOTONIC at which the timer was 0 */
};

/* Presses the power button. Device lock held. False: the guest has not (yet) enabled the event, and
 * will not react. */
bool power_button(struct device *dev);

extern const struct device_class power_class;
extern const struct state_class power_state_class;

/* ---- panic.c ---- */

extern const struct device_class panic_class;

/* ---- testdev.c ---- */

extern const struct device_class testdev_class;
