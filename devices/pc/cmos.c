/* SPDX-License-Identifier: MIT */
/*
 * Registers: data sheet of the MC146818A (Motorola, 1984). The clock always shows the host's time
 * and cannot be set. It raises no interrupt: a guest sees an alarm only by polling for the time.
 */
#include "devices/pc/pc.h"

#include <time.h>

#include "vmm/arch/x86_64/layout.h"
#include "vmm/machine.h"

#define NODE "cmos@70"

enum { REG_A = 0x0a, REG_B = 0x0b, REG_C = 0x0c, REG_D = 0x0d };
enum { A_UIP = 0x80, B_24H = 0x02, B_BINARY = 0x04, D_VALID = 0x80, HOUR_PM = 0x80 };

/* The update-in-progress bit precedes the next second by this much: 244 us of warning and 1984 us
 * that the update takes (data sheet, "Update cycle"). */
#define UIP_NS (244000 + 1984000)

struct cmos {
	struct device dev;
	struct cmos_state state;
};

static const struct field cmos_fields[] = {
	FIELD_U(struct cmos_state, index),
	FIELD_RAW(struct cmos_state, nvram),
};

STATE_CLASS(cmos_state_class, "cmos", 1, struct cmos_state, cmos_fields);

static uint8_t encode(const struct cmos_state *s, int value)
{
	return (uint8_t)(s->nvram[REG_B] & B_BINARY ? value : value / 10 * 16 + value % 10);
}

static uint8_t encode_hour(const struct cmos_state *s, int hour)
{
	if (s->nvram[REG_B] & B_24H)
		return encode(s, hour);
	return (uint8_t)(encode(s, hour % 12 ? hour % 12 : 12) | (hour >= 12 ? HOUR_PM : 0));
}

static uint8_t read_register(const struct cmos_state *s, uint8_t index)
{
	struct timespec now;
	struct tm tm;

	clock_gettime(CLOCK_REALTIME, &now);
	gmtime_r(&now.tv_sec, &tm);
	const int values[] = {[0] = tm.tm_sec,	[2] = tm.tm_min,     [6] = tm.tm_wday + 1,
			      [7] = tm.tm_mday, [8] = tm.tm_mon + 1, [9] = tm.tm_year % 100};
	switch (index) {
	case 0x04:
		return encode_hour(s, tm.tm_hour);
	case 0x00:
	case 0x02:
	case 0x06 ... 0x09:
		return encode(s, values[index]);
	case LAYOUT_CMOS_CENTURY:
		return encode(s, tm.tm_year / 100 + 19);
	case REG_A:
		return (s->nvram[REG_A] & ~A_UIP) |
		       (now.tv_nsec >= 1000000000 - UIP_NS ? A_UIP : 0);
	case REG_C:
		return 0;
	case REG_D:
		return D_VALID;
	default:
		return s->nvram[index];
	}
}

static void cmos_access(void *opaque, struct bus_access *access)
{
	struct cmos_state *s = &((struct cmos *)opaque)->state;
	if (access->len != 1)
		return;
	/* The address port cannot be read; its bit 7, the NMI mask, is no part of the address. */
	if (access->offset == 0 && access->write)
		s->index = access->value & 0x7f;
	else if (access->offset == 1 && access->write)
		s->nvram[s->index] = (uint8_t)access->value;
	else if (access->offset == 1)
		access->value = read_register(s, s->index);
}

static int cmos_post_load(void *opaque, struct error *err)
{
	const struct cmos_state *s = &((struct cmos *)opaque)->state;
	if (s->index >= sizeof(s->nvram))
		return error_set(err, EBADMSG, "state " NODE ": index %u out of range", s->index);
	return 0;
}

static int cmos_realize(struct device *dev, struct error *err)
{
	struct cmos *cmos = (struct cmos *)dev;
	const time_t epoch = 0;
	struct tm tm;
	/* glibc reads the time zone's file now: a vCPU's thread may open none. */
	gmtime_r(&epoch, &tm);
	struct bus_region region = {.base = LAYOUT_CMOS_PORT,
				    .len = 2,
				    .name = "cmos",
				    .handler = cmos_access,
				    .opaque = cmos};
	return bus_add(&dev->m->pio, &region, err);
}

static int cmos_reset(struct device *dev, struct error *err)
{
	struct cmos_state *s = &((struct cmos *)dev)->state;
	*s = (struct cmos_state){0};
	s->nvram[REG_A] = 0x26; /* 32.768 kHz crystal, 1024 Hz: what PC firmware sets */
	s->nvram[REG_B] = B_24H;
	return 0;
}

const struct device_class cmos_class = {
	.name = "cmos",
	.state = &cmos_state_class,
	.size = sizeof(struct cmos),
	.state_offset = offsetof(struct cmos, state),
	.node = NODE,
	.realize = cmos_realize,
	.reset = cmos_reset,
	.post_load = cmos_post_load,
};
