/* SPDX-License-Identifier: MIT */
/*
 * For tests of one platform device: a machine with nothing but buses and state, and fakes of what a
 * device calls: its pin, the console, the machine's end. Include it in one file of a test.
 */
#ifndef MOLT_DEVICE_TEST_H
#define MOLT_DEVICE_TEST_H

#include <errno.h>

#include "tests/unit/unit.h"
#include "vmm/console/console.h"
#include "vmm/machine.h"

static struct machine test_machine;

static struct {
	bool pin[IRQ_PINS];
	unsigned pin_calls, pin_rises;
	int stop_code; /* -1: not stopped */
	uint8_t out[256];
	size_t out_len, out_room; /* the console takes out_room bytes more */
	unsigned ready_calls;
	console_reader reader;
	console_drained drained;
	void *opaque;
} fake;

void irq_pin(struct irq *irq, uint32_t gsi, bool level)
{
	assert_ptr_equal(irq, &test_machine.irq);
	assert_true(gsi < IRQ_PINS);
	fake.pin_calls++;
	fake.pin_rises += level && !fake.pin[gsi];
	fake.pin[gsi] = level;
}

void machine_stop(struct machine *m, int code, const char *reason)
{
	assert_non_null(reason);
	fake.stop_code = code;
}

void console_attach(struct console *con, console_reader reader, console_drained drained,
		    void *opaque)
{
	fake.reader = reader;
	fake.drained = drained;
	fake.opaque = opaque;
}

size_t console_write(struct console *con, const uint8_t *buf, size_t len)
{
	size_t n = len < fake.out_room ? len : fake.out_room;
	assert_true(fake.out_len + n <= sizeof(fake.out));
	memcpy(fake.out + fake.out_len, buf, n);
	fake.out_len += n;
	fake.out_room -= n;
	return n;
}

void console_ready(struct console *con)
{
	fake.ready_calls++;
}

/* A new machine with one device of class @cls, after reset. */
static struct device *device_new(const struct device_class *cls)
{
	struct device *dev;
	struct error err = {0};
	memset(&test_machine, 0, sizeof(test_machine));
	test_machine.leader = pthread_self(); /* SIGURG is ignored */
	memset(&fake, 0, sizeof(fake));
	fake.stop_code = -1;
	fake.out_room = sizeof(fake.out);
	assert_int_equal(device_create(cls, &test_machine, NULL, &dev, &err), 0);
	assert_int_equal(device_realize(dev, &err), 0);
	if (cls->reset)
		assert_int_equal(cls->reset(dev, &err), 0);
	return dev;
}

static inline void outn(uint64_t port, uint32_t len, uint64_t value)
{
	struct bus_access a = {.len = len, .write = true, .value = value};
	assert_true(bus_dispatch(&test_machine.pio, port, &a));
}

static inline uint64_t inn(uint64_t port, uint32_t len)
{
	struct bus_access a = {.len = len, .value = ~0ull};
	assert_true(bus_dispatch(&test_machine.pio, port, &a));
	return len == 8 ? a.value : a.value & ((1ull << 8 * len) - 1);
}

/* Saves the machine's one section and loads it again over @garbage-filled state. */
static inline int state_round_trip(struct error *err)
{
	static uint8_t buf[65536];
	struct state_header header = {.version = "test"};
	struct fdset fds = {0};
	struct state_blob blob;
	size_t len;
	const struct state_section *s = &test_machine.tree.sections[0];

	assert_int_equal(test_machine.tree.n, 1);
	assert_true(state_size_bound(&test_machine.tree, &fds) <= sizeof(buf));
	assert_int_equal(state_save(&test_machine.tree, &fds, &header, buf, sizeof(buf), &len, err),
			 0);
	memset(s->state, 0xa5, s->cls->size);
	assert_int_equal(state_open(&blob, buf, len, err), 0);
	return state_load_section(&blob, s, err);
}

#endif
