/* SPDX-License-Identifier: MIT */
#include "tests/unit/device_test.h"

#include <errno.h>
#include <time.h>

#include "devices/pc/pc.h"
#include "vmm/base/error.h"

enum { STATUS = 0x600, ENABLE = 0x602, CONTROL = 0x604, TIMER = 0x608, RESET = 0x60c };
#define PWRBTN 0x100
#define SCI    9

static struct device *dev;
static uint64_t fake_ns;

/* Instead of the C library's: the tests say what time it is. */
int clock_gettime(clockid_t clock, struct timespec *ts)
{
	ts->tv_sec = (time_t)(fake_ns / 1000000000);
	ts->tv_nsec = (long)(fake_ns % 1000000000);
	return 0;
}

static int setup(void **state)
{
	fake_ns = 77777;
	dev = device_new(&power_class);
	return 0;
}

static int teardown(void **state)
{
	device_destroy(dev);
	return 0;
}

static void test_timer(void **state)
{
	struct error err = {0};
	assert_int_equal(inn(TIMER, 4), 0);
	fake_ns += 1000000000;
	assert_int_equal(inn(TIMER, 4), 3579545);
	assert_int_equal(inn(TIMER, 2), 3579545 & 0xffff);
	assert_int_equal(inn(TIMER + 3, 1), 3579545 >> 24);
	outn(TIMER, 4, 0); /* read only */
	/* goes on through an update, the pause included */
	assert_int_equal(state_round_trip(&err), 0);
	fake_ns += 1000000000;
	assert_int_equal(inn(TIMER, 4), 2 * 3579545);
	/* 32 bits: 1199.86 s; a year does not overflow the arithmetic */
	fake_ns = 77777 + 1200000000000ull;
	assert_int_equal(inn(TIMER, 4), (uint32_t)(3579545ull * 1200));
	fake_ns = 77777 + 31536000ull * 1000000000;
	assert_int_equal(inn(TIMER, 4), (uint32_t)(3579545ull * 31536000));
}

static void test_button(void **state)
{
	assert_false(power_button(dev)); /* nobody listens */
	assert_int_equal(inn(STATUS, 2), PWRBTN);
	assert_false(fake.pin[SCI]);
	outn(ENABLE, 2, PWRBTN); /* still pending */
	assert_true(fake.pin[SCI]);
	outn(STATUS, 2, 0);
	assert_true(fake.pin[SCI]);
	outn(STATUS, 2, PWRBTN); /* cleared by writing a one */
	assert_false(fake.pin[SCI]);
	assert_int_equal(inn(STATUS, 2), 0);
	assert_true(power_button(dev));
	assert_true(fake.pin[SCI]);
	outn(STATUS + 1, 1, PWRBTN >> 8); /* bytes and dwords as well */
	assert_false(fake.pin[SCI]);
	power_button(dev);
	assert_int_equal(inn(STATUS, 4), PWRBTN << 16 | PWRBTN);
	outn(STATUS, 4, PWRBTN << 16 | PWRBTN);
	assert_false(fake.pin[SCI]);
	assert_int_equal(inn(STATUS, 4), PWRBTN << 16);
}

/* The level is not in KVM's saved state: start tells it again. */
static void test_level_again(void **state)
{
	struct error err = {0};
	outn(ENABLE, 2, PWRBTN);
	power_button(dev);
	assert_int_equal(state_round_trip(&err), 0);
	memset(fake.pin, 0, sizeof(fake.pin));
	assert_int_equal(power_class.start(dev, &err), 0);
	assert_true(fake.pin[SCI]);
}

static void test_sleep(void **state)
{
	assert_int_equal(inn(CONTROL, 2), 1); /* SCI_EN always */
	outn(CONTROL, 2, 5 << 10);
	assert_int_equal(inn(CONTROL, 2), 5 << 10 | 1);
	assert_int_equal(fake.stop_code, -1);
	outn(CONTROL, 2, 1 << 13 | 3 << 10); /* S3: there is none */
	assert_int_equal(fake.stop_code, -1);
	outn(TIMER, 4, ~0u); /* a neighbour */
	outn(STATUS, 4, ~0u);
	assert_int_equal(fake.stop_code, -1);
	outn(CONTROL, 2, 1 << 13 | 5 << 10);
	assert_int_equal(fake.stop_code, EXIT_POWEROFF);
	assert_int_equal(inn(CONTROL, 2), 5 << 10 | 1); /* SLP_EN reads as zero */
}

static void test_sleep_by_bytes(void **state)
{
	outn(CONTROL + 1, 1, (1 << 13 | 5 << 10) >> 8);
	assert_int_equal(fake.stop_code, EXIT_POWEROFF);
}

static void test_reset(void **state)
{
	outn(RESET, 1, 0x02);
	assert_int_equal(fake.stop_code, -1);
	outn(RESET, 1, 0x06);
	assert_int_equal(fake.stop_code, EXIT_RESET);
}

static void test_keyboard_reset(void **state)
{
	outn(0x64, 1, 0xd1);
	assert_int_equal(fake.stop_code, -1);
	assert_int_equal(inn(0x64, 1), 0xff);
	outn(0x64, 1, 0xfe);
	assert_int_equal(fake.stop_code, EXIT_RESET);
}

static void test_state(void **state)
{
	struct error err = {0};
	struct power_state *s = test_machine.tree.sections[0].state;
	assert_int_equal(unit_uncovered(&power_state_class), sizeof(struct power_state));
	*s = (struct power_state){
		.status = 0x100, .enable = 0x120, .control = 0x1400, .timer_base_ns = ~0ull};
	struct power_state before = *s;
	assert_int_equal(state_round_trip(&err), 0);
	assert_memory_equal(s, &before, sizeof(before));
	inn(TIMER, 4); /* a base in the future is nonsense, not undefined */
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_timer),		T(test_button), T(test_level_again),	T(test_sleep),
		T(test_sleep_by_bytes), T(test_reset),	T(test_keyboard_reset), T(test_state),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
