/* SPDX-License-Identifier: MIT */
#include "tests/unit/device_test.h"

#include <time.h>

#include "devices/pc/pc.h"

static struct device *dev;
static struct timespec fake_now;

/* Instead of the C library's: the tests say what time it is. */
int clock_gettime(clockid_t clock, struct timespec *ts)
{
	*ts = fake_now;
	return 0;
}

static int setup(void **state)
{
	dev = device_new(&cmos_class);
	fake_now = (struct timespec){.tv_sec = 1785671959}; /* Sun Aug  2 11:59:19 UTC 2026 */
	return 0;
}

static int teardown(void **state)
{
	device_destroy(dev);
	return 0;
}

static uint8_t get(uint8_t index)
{
	outn(0x70, 1, index);
	return (uint8_t)inn(0x71, 1);
}

static void set(uint8_t index, uint8_t value)
{
	outn(0x70, 1, index);
	outn(0x71, 1, value);
}

static void assert_clock(const uint8_t want[8])
{
	static const uint8_t index[] = {0, 2, 4, 6, 7, 8, 9, 0x32};
	for (unsigned i = 0; i < sizeof(index); i++)
		assert_int_equal(get(index[i]), want[i]);
}

static void test_time(void **state)
{
	/* seconds, minutes, hours, weekday (Sunday is 1), day, month, year, century */
	assert_clock((uint8_t[]){0x19, 0x59, 0x11, 0x01, 0x02, 0x08, 0x26, 0x20});
	set(0x0b, 0x06); /* binary */
	assert_clock((uint8_t[]){19, 59, 11, 1, 2, 8, 26, 20});
	set(0x00, 5); /* cannot be set */
	assert_int_equal(get(0x00), 19);
}

static void test_twelve_hours(void **state)
{
	static const uint8_t want[][2] = {{0, 0x12},  {1, 0x01},  {11, 0x11},
					  {12, 0x92}, {13, 0x81}, {23, 0x91}};
	set(0x0b, 0x00);
	for (unsigned i = 0; i < ARRAY_LEN(want); i++) {
		fake_now.tv_sec = want[i][0] * 3600;
		assert_int_equal(get(0x04), want[i][1]);
	}
}

static void test_century(void **state)
{
	fake_now.tv_sec = 946684799; /* 1999-12-31 23:59:59 */
	assert_int_equal(get(0x09), 0x99);
	assert_int_equal(get(0x32), 0x19);
	fake_now.tv_sec++;
	assert_int_equal(get(0x09), 0x00);
	assert_int_equal(get(0x32), 0x20);
}

static void test_update_in_progress(void **state)
{
	assert_int_equal(get(0x0a), 0x26);
	fake_now.tv_nsec = 999999999;
	assert_int_equal(get(0x0a), 0xa6);
	fake_now.tv_nsec = 1000000000 - 2228000 - 1;
	assert_int_equal(get(0x0a), 0x26);
	set(0x0a, 0xff); /* the guest cannot set the bit */
	assert_int_equal(get(0x0a), 0x7f);
}

static void test_registers(void **state)
{
	assert_int_equal(get(0x0c), 0); /* no interrupt ever */
	assert_int_equal(get(0x0d), 0x80);
	for (unsigned i = 0x0e; i < 0x80; i++)
		if (i != 0x32)
			set((uint8_t)i, (uint8_t)~i);
	for (unsigned i = 0x0e; i < 0x80; i++)
		if (i != 0x32)
			assert_int_equal(get((uint8_t)i), (uint8_t)~i);
	outn(0x70, 1, 0x8e); /* with the NMI mask */
	assert_int_equal(inn(0x71, 1), 0xf1);
	assert_int_equal(inn(0x70, 1), 0xff);
	assert_int_equal(inn(0x70, 2), 0xffff);
}

static void test_state(void **state)
{
	struct error err = {0};
	struct cmos_state *s = test_machine.tree.sections[0].state;
	assert_int_equal(unit_uncovered(&cmos_state_class), sizeof(struct cmos_state));
	for (unsigned i = 0; i < sizeof(s->nvram); i++)
		s->nvram[i] = (uint8_t)(i * 7);
	s->index = 0x7f;
	struct cmos_state before = *s;
	assert_int_equal(state_round_trip(&err), 0);
	assert_memory_equal(s, &before, sizeof(before));
	assert_int_equal(inn(0x71, 1), (uint8_t)(0x7f * 7));
	s->index = 0x80;
	assert_int_equal(state_round_trip(&err), -EBADMSG);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_time),	   T(test_twelve_hours),
		T(test_century),   T(test_update_in_progress),
		T(test_registers), T(test_state),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
