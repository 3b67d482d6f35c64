/* SPDX-License-Identifier: MIT */
/* What the kinds of interrupts of a passed-through device share. Only irq.c and intx.c include this. */
#pragma once

#include "devices/vfio/vfio.h"

/* Hands @n eventfds (-1: none) to the device, from vector @start on; none: @action without any. 0; positive: the
 * host has only so many; -errno. */
int vfio_set_irqs(struct vfio_dev *dev, uint32_t index, uint32_t action, const int32_t *fds,
		  uint32_t start, uint32_t n);

/* Of INTx: what the device signals; what the guest's EOI signals; and for a device that is unmasked by a call, what
 * raises the guest's line. */
enum { INTX_TRIGGER, INTX_UNMASK, INTX_LINE, INTX_FDS };

/* Of a mode, with their names in the table of kept descriptors, which owns them. get finds those that were handed
 * over. */
int vfio_eventfds_open(struct vfio_dev *dev, enum vfio_irq_mode mode, unsigned n, int32_t *fds,
		       struct error *err);
int vfio_eventfds_get(struct vfio_dev *dev, enum vfio_irq_mode mode, unsigned n, int32_t *fds,
		      struct error *err);
void vfio_eventfds_close(struct vfio_dev *dev, enum vfio_irq_mode mode, unsigned from, unsigned to);

void vfio_irq_warn(struct vfio_dev *dev, const char *what, const struct error *err);
int vfio_irq_bad_state(const struct vfio_dev *dev, const char *what, struct error *err);

/* intx.c */
bool vfio_has_pin(const struct vfio_dev *dev);
int vfio_intx_enable(struct vfio_dev *dev, struct error *err);
int vfio_intx_load(struct vfio_dev *dev, struct error *err);
