/* SPDX-License-Identifier: MIT */
/* 16550A serial port at 0x3f8, IRQ 4: the guest's console. */
#pragma once

#include "cpr/state/fields.h"
#include "vmm/device.h"

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
