/* SPDX-License-Identifier: MIT */
/* The registers by which a driver starts, stops and sets up a virtio device (VIRTIO 1.2, 4.1.4.3). */
#include <linux/virtio_config.h>
#include <linux/virtio_pci.h>

#include "devices/virtio/virtio.h"

#define STATUS_KNOWN                                                                               \
	(VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER | VIRTIO_CONFIG_S_DRIVER_OK |        \
	 VIRTIO_CONFIG_S_FEATURES_OK | VIRTIO_CONFIG_S_FAILED)

/* Rings and indices are forgotten; what PCI knows, MSI-X above all, stays (2.1). */
void virtio_reset_done(struct virtio_dev *v)
{
	struct virtio_state *s = v->state;
	bool was_used = s->status;
	v->resetting = false;
	s->features = 0;
	s->status = s->isr = 0;
	s->feature_select = s->driver_feature_select = s->queue_select = 0;
	s->config_vector = VIRTIO_NO_VECTOR;
	s->queues = v->queues;
	for (unsigned q = 0; q < v->queues; q++) {
		s->desc[q] = s->avail[q] = s->used[q] = 0;
		s->size[q] = VIRTIO_QUEUE_SIZE;
		s->enabled[q] = s->index[q] = 0;
		s->vector[q] = VIRTIO_NO_VECTOR;
		virtq_unmap(v, q);
	}
	virtio_line_update(v);
	if (was_used && v->ops->stopped)
		v->ops->stopped(v);
}

/* The driver waits until it reads 0 (4.1.4.3.2): until nothing that it has given away is in use. */
static void reset(struct virtio_dev *v)
{
	v->resetting = v->in_flight;
	if (!v->resetting)
		virtio_reset_done(v);
}

/* A driver that wants what is not offered, or does not know version 1, does not see its FEATURES_OK stay (3.1.1). */
static bool features_fit(const struct virtio_dev *v)
{
	uint64_t want = v->state->features;
	return !(want & ~v->features) && want >> VIRTIO_F_VERSION_1 & 1;
}

static void status_write(struct virtio_dev *v, uint32_t value)
{
	struct virtio_state *s = v->state;
	uint32_t old = s->status;
	if (v->resetting)
		return;
	if (!value) {
		reset(v);
		return;
	}
	s->status = (value & STATUS_KNOWN) | (old & VIRTIO_CONFIG_S_NEEDS_RESET);
	if (s->status & ~old & VIRTIO_CONFIG_S_FEATURES_OK && !features_fit(v))
		s->status &= (uint32_t)~VIRTIO_CONFIG_S_FEATURES_OK;
	if (!(s->status & VIRTIO_CONFIG_S_FEATURES_OK))
		s->status &= (uint32_t)~VIRTIO_CONFIG_S_DRIVER_OK;
	if (!(s->status & ~old & VIRTIO_CONFIG_S_DRIVER_OK))
		return;
	if (v->ops->started)
		v->ops->started(v);
	for (unsigned q = 0; q < v->queues; q++)
		virtio_look(v, q);
}

static uint32_t half(uint64_t value, uint32_t which)
{
	return which > 1 ? 0 : (uint32_t)(value >> 32 * which);
}

static void half_set(uint64_t *to, uint32_t which, uint32_t value)
{
	if (which == 0)
		*to = (*to & ~(uint64_t)UINT32_MAX) | value;
	else if (which == 1)
		*to = (*to & UINT32_MAX) | (uint64_t)value << 32;
}

/* One that is not there reads back as none, by which the driver knows (4.1.5.1.2.1). */
static uint32_t vector_of(const struct virtio_dev *v, uint32_t value)
{
	return value < v->msix.vec.n ? value : VIRTIO_NO_VECTOR;
}

static uint64_t *address_of(struct virtio_state *s, unsigned off, uint32_t q)
{
	return off < VIRTIO_PCI_COMMON_Q_AVAILLO  ? &s->desc[q]
	       : off < VIRTIO_PCI_COMMON_Q_USEDLO ? &s->avail[q]
						  : &s->used[q];
}

/* Registers of the queue that is selected; of one that is not there the size reads as 0. */
static uint32_t queue_read(struct virtio_dev *v, unsigned off)
{
	struct virtio_state *s = v->state;
	uint32_t q = s->queue_select;
	if (q >= v->queues)
		return 0;
	switch (off) {
	case VIRTIO_PCI_COMMON_Q_SIZE:
		return s->size[q];
	case VIRTIO_PCI_COMMON_Q_MSIX:
		return s->vector[q];
	case VIRTIO_PCI_COMMON_Q_ENABLE:
		return s->enabled[q];
	case VIRTIO_PCI_COMMON_Q_NOFF:
		return q;
	default:
		return half(*address_of(s, off, q), off / 4 % 2);
	}
}

static void queue_enable(struct virtio_dev *v, uint32_t q)
{
	if (virtq_map(v, q))
		virtio_broken(v, "the rings of a queue are not in guest memory, or not aligned");
	else
		v->state->enabled[q] = 1;
}

/* Once it is enabled a queue stays as it is (4.1.4.3.2). */
static void queue_write(struct virtio_dev *v, unsigned off, uint32_t value)
{
	struct virtio_state *s = v->state;
	uint32_t q = s->queue_select;
	if (q >= v->queues || v->resetting)
		return;
	if (off == VIRTIO_PCI_COMMON_Q_MSIX) {
		s->vector[q] = vector_of(v, value);
		if (v->ops->routed)
			v->ops->routed(v);
		return;
	}
	if (s->enabled[q])
		return;
	switch (off) {
	case VIRTIO_PCI_COMMON_Q_SIZE:
		if (is_pow2(value) && value <= VIRTIO_QUEUE_SIZE)
			s->size[q] = value;
		break;
	case VIRTIO_PCI_COMMON_Q_ENABLE:
		if (value == 1)
			queue_enable(v, q);
		break;
	case VIRTIO_PCI_COMMON_Q_NOFF:
		break;
	default:
		half_set(address_of(s, off, q), off / 4 % 2, value);
	}
}

static uint32_t common_read(struct virtio_dev *v, unsigned off)
{
	struct virtio_state *s = v->state;
	switch (off) {
	case VIRTIO_PCI_COMMON_DFSELECT:
		return s->feature_select;
	case VIRTIO_PCI_COMMON_DF:
		return half(v->features, s->feature_select);
	case VIRTIO_PCI_COMMON_GFSELECT:
		return s->driver_feature_select;
	case VIRTIO_PCI_COMMON_GF:
		return half(s->features, s->driver_feature_select);
	case VIRTIO_PCI_COMMON_MSIX:
		return s->config_vector;
	case VIRTIO_PCI_COMMON_NUMQ:
		return v->queues;
	case VIRTIO_PCI_COMMON_STATUS:
		return s->status;
	case VIRTIO_PCI_COMMON_CFGGENERATION:
		return (uint8_t)s->generation;
	case VIRTIO_PCI_COMMON_Q_SELECT:
		return s->queue_select;
	default:
		return queue_read(v, off);
	}
}

static void common_write(struct virtio_dev *v, unsigned off, uint32_t value)
{
	struct virtio_state *s = v->state;
	switch (off) {
	case VIRTIO_PCI_COMMON_DFSELECT:
		s->feature_select = value;
		break;
	case VIRTIO_PCI_COMMON_GFSELECT:
		s->driver_feature_select = value;
		break;
	case VIRTIO_PCI_COMMON_GF:
		if (!(s->status & VIRTIO_CONFIG_S_FEATURES_OK))
			half_set(&s->features, s->driver_feature_select, value);
		break;
	case VIRTIO_PCI_COMMON_MSIX:
		s->config_vector = vector_of(v, value);
		break;
	case VIRTIO_PCI_COMMON_STATUS:
		status_write(v, value);
		break;
	case VIRTIO_PCI_COMMON_Q_SELECT:
		s->queue_select = value;
		break;
	case VIRTIO_PCI_COMMON_DF:
	case VIRTIO_PCI_COMMON_NUMQ:
	case VIRTIO_PCI_COMMON_CFGGENERATION:
		break;
	default:
		queue_write(v, off, value);
	}
}

/* By offset / 2: how long the register is that begins there. A driver uses that width, and two accesses for one of
 * 64 bits (4.1.3.1). */
static const uint8_t widths[] = {
	[VIRTIO_PCI_COMMON_DFSELECT / 2] = 4,  [VIRTIO_PCI_COMMON_DF / 2] = 4,
	[VIRTIO_PCI_COMMON_GFSELECT / 2] = 4,  [VIRTIO_PCI_COMMON_GF / 2] = 4,
	[VIRTIO_PCI_COMMON_MSIX / 2] = 2,      [VIRTIO_PCI_COMMON_NUMQ / 2] = 2,
	[VIRTIO_PCI_COMMON_STATUS / 2] = 1, /* and at the odd offset the generation */
	[VIRTIO_PCI_COMMON_Q_SELECT / 2] = 2,  [VIRTIO_PCI_COMMON_Q_SIZE / 2] = 2,
	[VIRTIO_PCI_COMMON_Q_MSIX / 2] = 2,    [VIRTIO_PCI_COMMON_Q_ENABLE / 2] = 2,
	[VIRTIO_PCI_COMMON_Q_NOFF / 2] = 2,    [VIRTIO_PCI_COMMON_Q_DESCLO / 2] = 4,
	[VIRTIO_PCI_COMMON_Q_DESCHI / 2] = 4,  [VIRTIO_PCI_COMMON_Q_AVAILLO / 2] = 4,
	[VIRTIO_PCI_COMMON_Q_AVAILHI / 2] = 4, [VIRTIO_PCI_COMMON_Q_USEDLO / 2] = 4,
	[VIRTIO_PCI_COMMON_Q_USEDHI / 2] = 4,
};

void virtio_common_access(struct virtio_dev *v, unsigned off, unsigned len, bool write,
			  uint64_t *value)
{
	if (off / 2 >= ARRAY_LEN(widths) || widths[off / 2] != len || (off % 2 && len != 1))
		return;
	if (write)
		common_write(v, off, (uint32_t)(*value & (UINT64_MAX >> (64 - 8 * len))));
	else
		*value = common_read(v, off);
}
