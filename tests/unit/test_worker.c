/* SPDX-License-Identifier: MIT */
/* The leader's deadlines: what failed when the guest was taken over is tried again until it is done. */
#include "tests/unit/unit.h"

#undef fail			 /* cmocka's */
#include "cpr/handover/worker.c" /* NOLINT: its deadlines are looked into */

static unsigned failures, takes;

static int take(struct device *dev, struct error *err)
{
	takes++;
	return takes <= failures ? error_set(err, ENOMEM, "still counted for the former process")
				 : 0;
}

static const struct device_class container = {.name = "container", .take = take};
static struct device dev = {.cls = &container, .node = "container"};
static struct machine machine = {.devices = {&dev}, .ndevices = 1, .stop_code = -1};
static struct error err;

static int setup(void **state)
{
	takes = failures = 0;
	machine.unsettled = false;
	self = (struct worker){.m = &machine, .link = -1, .signals = -1};
	return 0;
}

/* As if a second had passed. Returns how long the leader sleeps now, in milliseconds; -1: until something comes. */
static int second_later(void)
{
	if (self.settle_ns)
		self.settle_ns = now_ns();
	keep_deadlines();
	return time_left_ms();
}

static void test_nothing_to_settle(void **state)
{
	assert_int_equal(machine_settle(&machine, &err), 0);
	assert_int_equal(second_later(), -1);
	assert_int_equal(takes, 1);
}

static void test_until_it_is_done(void **state)
{
	failures = 4;
	assert_int_equal(machine_settle(&machine, &err), -ENOMEM);
	for (unsigned tries = 1; tries < failures; tries++) {
		int sleep_ms = second_later();
		assert_int_equal(takes, tries);
		assert_in_range(sleep_ms, 1, 1001); /* it wakes by itself */
	}
	second_later();
	assert_int_equal(takes, 4);
	assert_int_equal(second_later(), -1);
	assert_int_equal(takes, 5);
	assert_int_equal(second_later(), -1);
	assert_int_equal(takes, 5);
}

/* Other things wake the leader, too. */
static void test_not_before_its_time(void **state)
{
	failures = 1;
	assert_int_equal(machine_settle(&machine, &err), -ENOMEM);
	for (unsigned i = 0; i < 3; i++)
		keep_deadlines();
	assert_int_equal(takes, 1);
}

#define T(f) cmocka_unit_test_setup(f, setup)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_nothing_to_settle),
		T(test_until_it_is_done),
		T(test_not_before_its_time),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
