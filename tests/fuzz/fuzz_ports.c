/* SPDX-License-Identifier: MIT */
/*
 * One platform device (serial port, clock, power, panic) under a guest that does anything to it and a host
 * that sends, takes and saves at any time.
 */
#include "tests/fuzz/fuzz.h"
#include "tests/unit/device_test.h"

#include "devices/pc/pc.h"
#include "vmm/arch/x86_64/layout.h"

static const struct {
	const struct device_class *cls;
	uint16_t port, len;
} ports[] = {
	{&serial_class, LAYOUT_SERIAL_PORT, 8},
	{&serial_class, LAYOUT_SERIAL_PORT, 8},
	{&cmos_class, LAYOUT_CMOS_PORT, 2},
	{&power_class, LAYOUT_POWER_PORT, LAYOUT_POWER_LEN},
	{&power_class, LAYOUT_KEYBOARD_PORT, 1},
	{&panic_class, LAYOUT_PANIC_PORT, 1},
};

static void access_port(struct input *in, uint64_t base, unsigned len)
{
	unsigned kind = input_u8(in);
	struct bus_access a = {.len = 1u << (kind & 3) % 3, .write = kind & 8};
	a.value = a.write ? input_num(in, a.len) : 0;
	bus_dispatch(&test_machine.pio, base + (kind >> 4) % len, &a);
}

static void host_does(struct device *dev, struct input *in)
{
	uint8_t bytes[32];
	struct error err;
	unsigned n = input_below(in, sizeof(bytes) + 1);
	switch (input_below(in, 4)) {
	case 0:
		input_bytes(in, bytes, n);
		if (fake.reader)
			fuzz_expect(fake.reader(fake.opaque, bytes, n) <= n, "took too much");
		break;
	case 1:
		fake.out_room = n;
		if (fake.drained)
			fake.drained(fake.opaque);
		break;
	case 2:
		if (dev->cls == &power_class)
			power_button(dev);
		break;
	case 3:
		fuzz_expect(!dev->cls->state || !state_round_trip(&err), "not taken over: %s",
			    err.text);
		break;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct input in = {data, len};
	unsigned which = input_below(&in, ARRAY_LEN(ports));
	struct device *dev = device_new(ports[which].cls);
	while (in.n) {
		fake.out_len = 0;
		fuzz_guest_acts();
		if (input_u8(&in) < 0xc0)
			access_port(&in, ports[which].port, ports[which].len);
		else
			host_does(dev, &in);
	}
	fuzz_log.guest = false;
	device_destroy(dev);
	return 0;
}
