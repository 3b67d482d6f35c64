/* SPDX-License-Identifier: MIT */
/*
 * The device table of a molt of another version: one of SKEW_... says what is different about the
 * state of its CMOS clock, or of what it has beside. Linked instead of vmm/devices.c, all else is this
 * version's (skew.cmake). tests/guest/cases/drives_skew.c says what each must lead to.
 */
#define devices_fixed devices_of_today
#include "vmm/devices.c" /* NOLINT: the rest of the table is the same */
#undef devices_fixed

#include <errno.h>
#include <stdlib.h>

#include "vmm/base/error.h"
#include "vmm/base/num.h"
#include "vmm/machine.h"

#define S struct cmos_state

/* It has no member of its own, but the last byte of the clock's memory. */
#define LATER(required_)                                                                           \
	{                                                                                          \
		.name = "later", .type = FIELD_UINT, .required = (required_),                      \
		.offset = offsetof(S, nvram) + sizeof(((S *)0)->nvram) - 1, .size = 1, .count = 1, \
		.len_offset = FIELD_FIXED, .since = 2, .def = 0x5a                                 \
	}

static const struct field fields[] = {
#ifndef SKEW_removed
	FIELD_U(S, index),
#endif
#ifdef SKEW_resized
	{.name = "nvram",
	 .type = FIELD_OPAQUE,
	 .required = 1,
	 .offset = offsetof(S, nvram),
	 .size = 64,
	 .count = 1,
	 .len_offset = FIELD_FIXED,
	 .since = 1},
#else
	FIELD_RAW(S, nvram),
#endif
#if defined(SKEW_newer) || defined(SKEW_needed)
	LATER(0),
#elif defined(SKEW_required)
	LATER(1),
#endif
};
#undef S

#ifdef SKEW_renamed
#define NAME "rtc"
#else
#define NAME "cmos"
#endif
#ifdef SKEW_needed
#define NEEDS 2
#else
#define NEEDS 0
#endif
static STATE_CLASS(skewed_state, NAME, 2, struct cmos_state, fields, .needs = NEEDS);

/* ---- the clock as it is, but for its state ---- */

static struct device_class skewed;

static __attribute__((constructor)) void make_skewed(void)
{
	skewed = cmos_class;
	skewed.state = &skewed_state;
	skewed.node = NAME "@70";
}

/* ---- a device that today's molt does not have ---- */

#if defined(SKEW_extra) || defined(SKEW_optional)
struct extra_state {
	uint32_t value;
	uint32_t reserved;
};

struct extra {
	struct device dev;
	struct extra_state state;
};

static const struct field extra_fields[] = {
	FIELD_U_SINCE(struct extra_state, value, 1, 7),
	FIELD_U_SINCE(struct extra_state, reserved, 1, 0),
};

#ifdef SKEW_optional
#define OPTIONAL true
#else
#define OPTIONAL false
#endif
static STATE_CLASS(extra_state_class, "extra", 1, struct extra_state, extra_fields,
		   .optional = OPTIONAL);
static const struct device_class extra_class;

static int extra_loaded(void *opaque, struct error *err)
{
	const struct extra *extra = opaque;
	if (extra->state.value == 7)
		return 0;
	return error_set(err, EBADMSG, "state extra@0: the default was not taken");
}

static int extra_reset(struct device *dev, struct error *err)
{
	((struct extra *)dev)->state.value = 7;
	return 0;
}

static const struct device_class extra_class = {
	.name = "extra",
	.state = &extra_state_class,
	.size = sizeof(struct extra),
	.state_offset = offsetof(struct extra, state),
	.node = "extra@0",
	.reset = extra_reset,
	.post_load = extra_loaded,
};
#define EXTRA &extra_class,
#else
#define EXTRA
#endif

const struct device_class *const devices_fixed[] = {
	&serial_class, &skewed, &power_class, &pci_host_class, &panic_class, EXTRA NULL,
};
