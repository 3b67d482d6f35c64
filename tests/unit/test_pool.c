/* SPDX-License-Identifier: MIT */
/* Memory of a machine's objects: the room, what comes after it, what is refused. */
#include "tests/unit/unit.h"

#include <stdint.h>
#include <string.h>

#include "vmm/base/pool.h"

static void test_zeroed_apart_and_aligned(void **state)
{
	uint8_t *last = NULL;
	for (size_t size = 1; size < 400; size += 13) {
		uint8_t *p = pool_alloc(3, size);
		assert_non_null(p);
		assert_int_equal((uintptr_t)p % _Alignof(max_align_t), 0);
		for (size_t i = 0; i < 3 * size; i++)
			assert_int_equal(p[i], 0);
		memset(p, 0xff, 3 * size);
		if (last)
			assert_int_equal(last[0], 0xff);
		pool_free(last);
		last = p;
	}
	pool_free(last);
	pool_free(NULL);
}

static void test_after_the_room_comes_the_heap(void **state)
{
	enum { N = 5, LEN = POOL_ROOM / 2 };
	uint8_t *p[N];
	for (unsigned i = 0; i < N; i++) {
		p[i] = pool_alloc(1, LEN);
		assert_non_null(p[i]);
		assert_int_equal(p[i][LEN - 1], 0);
		memset(p[i], (int)i + 1, LEN);
	}
	for (unsigned i = 0; i < N; i++) {
		assert_int_equal(p[i][0], i + 1);
		assert_int_equal(p[i][LEN - 1], i + 1);
		pool_free(p[i]);
	}
	uint8_t *large = pool_alloc(2, POOL_ROOM);
	assert_non_null(large);
	pool_free(large);
	pool_free(pool_alloc(0, 8)); /* none is an object, too */
}

static void test_too_much(void **state)
{
	volatile size_t half = SIZE_MAX / 2;
	assert_null(pool_alloc(half, 3));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_zeroed_apart_and_aligned),
		cmocka_unit_test(test_after_the_room_comes_the_heap),
		cmocka_unit_test(test_too_much),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
