/* SPDX-License-Identifier: MIT */
/*
 * ACPI specification 6.4, 4.8.3 "Fixed hardware registers". There is no SMI command port: the
 * machine is always in ACPI mode. The timer raises no interrupt when it wraps: guests read its 32
 * bits.
 */
#include "devices/pc/pc.h"

#include "vmm/arch/x86_64/layout.h"
#include "vmm/machine.h"

#define NODE	 "power@600"
#define TIMER_HZ 3579545

/* Byte offsets in the port range. */
enum { STATUS = 0, ENABLE = 2, CONTROL = 4, TIMER = 8, RESET = 12 };
_Static_assert(LAYOUT_PM1_EVT == LAYOUT_POWER_PORT + STATUS &&
		       LAYOUT_PM1_CNT == LAYOUT_POWER_PORT + CONTROL &&
		       LAYOUT_PM_TIMER == LAYOUT_POWER_PORT + TIMER &&
		       LAYOUT_RESET == LAYOUT_POWER_PORT + RESET,
	       "the FADT tells the same ports");

enum {
	PWRBTN = 1 << 8,	     /* in status and enable */
	ENABLE_MASK = 0x0721,	     /* timer, global lock, buttons, RTC */
	CNT_SCI_EN = 1 << 0,	     /* always on */
	CNT_MASK = 1 << 1 | 7 << 10, /* BM_RLD, SLP_TYP */
	CNT_SLP_TYP_SHIFT = 10,
	CNT_SLP_EN = 1 << 13, /* write only */
	KEYBOARD_PULSE_RESET = 0xfe,
};

struct power {
	struct device dev;
	struct power_state state;
	unsigned sleep_warnings;
};

#define S struct power_state
static const struct field power_fields[] = {
	FIELD_U(S, status),
	FIELD_U(S, enable),
	FIELD_U(S, control),
	FIELD_U(S, timer_base_ns),
};
#undef S

STATE_CLASS(power_state_class, "power", 1, struct power_state, power_fields);

/* The SCI is a level: it follows the registers, and is a pure function of them. */
static void update_sci(struct power *power)
{
	irq_pin(&power->dev.m->irq, LAYOUT_SCI_GSI, power->state.status & power->state.enable);
}

bool power_button(struct device *dev)
{
	struct power *power = (struct power *)dev;
	power->state.status |= PWRBTN;
	update_sci(power);
	return power->state.enable & PWRBTN;
}

static void write_control(struct power *power, uint32_t value)
{
	power->state.control = value & CNT_MASK;
	if (!(value & CNT_SLP_EN))
		return;
	uint32_t type = (value & CNT_MASK) >> CNT_SLP_TYP_SHIFT;
	if (type == LAYOUT_SLP_TYP_S5)
		machine_stop(power->dev.m, EXIT_POWEROFF, "guest powered off");
	else if (log_guest_ok(&power->sleep_warnings, 3))
		log_warn("the guest asked for sleep type %u, which there is not", type);
}

/* The registers as 16 bytes; 0xff where there is none. */
static void read_block(const struct power_state *s, uint8_t out[LAYOUT_POWER_LEN])
{
	memset(out, 0xff, LAYOUT_POWER_LEN);
	store_le(out + STATUS, s->status, 2);
	store_le(out + ENABLE, s->enable, 2);
	store_le(out + CONTROL, s->control | CNT_SCI_EN, 2);
	unsigned __int128 ns = now_ns() - s->timer_base_ns;
	store_le(out + TIMER, (uint32_t)(ns * TIMER_HZ / 1000000000), 4);
}

/* Guests access these registers in 8, 16 and 32 bits (4.8.3: any of them): a write puts its bytes
 * over the registers' present contents, which change nothing when they are written back. */
static void write_block(struct power *power, const struct bus_access *access)
{
	struct power_state *s = &power->state;
	uint8_t block[LAYOUT_POWER_LEN];

	read_block(s, block);
	memset(block + STATUS, 0, 2); /* a status bit is cleared by writing a one */
	store_le(block + access->offset, access->value, access->len);
	s->status &= (uint16_t)~load_le(block + STATUS, 2);
	s->enable = load_le(block + ENABLE, 2) & ENABLE_MASK;
	update_sci(power);
	write_control(power, (uint32_t)load_le(block + CONTROL, 2));
	if (block[RESET] == LAYOUT_RESET_VALUE)
		machine_stop(power->dev.m, EXIT_RESET, "guest reset");
}

static void power_access(void *opaque, struct bus_access *access)
{
	struct power *power = opaque;
	uint8_t block[LAYOUT_POWER_LEN];
	if (access->write) {
		write_block(power, access);
		return;
	}
	read_block(&power->state, block);
	access->value = load_le(block + access->offset, access->len);
}

/* There is no keyboard, but many guests know its controller's reset line as their last resort. */
static void keyboard_access(void *opaque, struct bus_access *access)
{
	struct power *power = opaque;
	if (access->write && (access->value & 0xff) == KEYBOARD_PULSE_RESET)
		machine_stop(power->dev.m, EXIT_RESET, "guest reset");
}

static int power_realize(struct device *dev, struct error *err)
{
	struct power *power = (struct power *)dev;
	struct bus_region regions[] = {
		{LAYOUT_POWER_PORT, LAYOUT_POWER_LEN, "power", power_access, power},
		{LAYOUT_KEYBOARD_PORT, 1, "keyboard reset", keyboard_access, power},
	};
	int rc = 0;
	for (unsigned i = 0; !rc && i < ARRAY_LEN(regions); i++)
		rc = bus_add(&dev->m->pio, &regions[i], err);
	return rc;
}

static int power_reset(struct device *dev, struct error *err)
{
	struct power *power = (struct power *)dev;
	power->state = (struct power_state){.timer_base_ns = now_ns()};
	return 0;
}

/* Levels of pins are not in the state of KVM's interrupt controllers, so it is told again. */
static int power_start(struct device *dev, struct error *err)
{
	update_sci((struct power *)dev);
	return 0;
}

const struct device_class power_class = {
	.name = "power",
	.state = &power_state_class,
	.size = sizeof(struct power),
	.state_offset = offsetof(struct power, state),
	.node = NODE,
	.realize = power_realize,
	.reset = power_reset,
	.start = power_start,
};
