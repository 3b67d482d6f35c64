/* SPDX-License-Identifier: MIT */
#include "tests/unit/device_test.h"

#include "devices/pc/pc.h"
#include "vmm/base/error.h"

#define PORT 0x505

static struct device *dev;

static int setup(void **state)
{
	dev = device_new(&panic_class);
	test_machine.leader = pthread_self(); /* woken when something is told: ignored here */
	return 0;
}

static int teardown(void **state)
{
	device_destroy(dev);
	return 0;
}

static void test_panicked(void **state)
{
	assert_int_equal(inn(PORT, 1), 3); /* both events are served */
	outn(PORT, 1, 0);
	outn(PORT, 1, 1 << 7); /* an event of a later specification */
	assert_int_equal(fake.stop_code, -1);
	assert_false(dev->told);
	outn(PORT, 1, 1);
	assert_int_equal(fake.stop_code, EXIT_PANIC);
}

/* The guest saves its memory by itself, and then resets: it is not to be ended now. */
static void test_crash_loaded(void **state)
{
	outn(PORT, 1, 2);
	assert_int_equal(fake.stop_code, -1);
	assert_true(dev->told);
	assert_false(dev->ends_guest);
	dev->told = false;
	outn(PORT, 1, 2); /* a guest cannot fill the log */
	assert_false(dev->told);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {T(test_panicked), T(test_crash_loaded)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
