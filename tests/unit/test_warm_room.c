/* SPDX-License-Identifier: MIT */
/* How much memory warming may take: what page tables cost, and what host and cgroups leave. */
#include "tests/unit/folder.h"

#include "vmm/warm.h"

static int setup(void **state)
{
	folder_make();
	folder_put("proc/meminfo", "MemTotal: 99 kB\nMemAvailable:    4194304 kB\n");
	return 0;
}

static int teardown(void **state)
{
	return folder_remove();
}

static void what_page_tables_take(void **state)
{
	assert_int_equal(warm_cost(GIB, PAGE_LEN), 4 * MIB + 256 * KIB);
	assert_int_equal(warm_cost(GIB, 2 * MIB), 8 * KIB + 512);
	assert_int_equal(warm_cost(0, PAGE_LEN), 0);
	assert_true(warm_cost(UINT64_MAX, PAGE_LEN) > warm_cost(1024 * GIB, PAGE_LEN));
}

static struct warm_room room(void)
{
	struct warm_room r;
	warm_room(folder, &r);
	return r;
}

static void room_in_cgroups_of_version_2(void **state)
{
	assert_int_equal(room().len, 4 * GIB);
	assert_string_equal(room().limit, "MemAvailable");
	folder_put("proc/self/cgroup", "0::/a/b\n");
	assert_int_equal(room().len, 4 * GIB); /* nothing to be seen there */
	folder_put("sys/fs/cgroup/a/b/memory.max", "max\n");
	folder_put("sys/fs/cgroup/a/b/memory.high", "max\n");
	folder_put("sys/fs/cgroup/a/b/memory.current", "1000000\n");
	assert_int_equal(room().len, 4 * GIB);
	folder_put("sys/fs/cgroup/a/memory.max", "3000000\n");
	folder_put("sys/fs/cgroup/a/memory.current", "1100000\n");
	assert_int_equal(room().len, 1900000);
	assert_string_equal(room().limit, "memory.max of /a");
	folder_put("sys/fs/cgroup/a/b/memory.high", "2500000\n");
	assert_int_equal(room().len, 1500000);
	assert_string_equal(room().limit, "memory.high of /a/b");
	folder_put("sys/fs/cgroup/a/b/memory.current", "2600000\n"); /* over it */
	assert_int_equal(room().len, 0);
	/* A container sees its own group as the root. */
	folder_put("proc/self/cgroup", "0::/\n");
	folder_put("sys/fs/cgroup/memory.max", "5000\n");
	folder_put("sys/fs/cgroup/memory.current", "4000\n");
	assert_int_equal(room().len, 1000);
	assert_string_equal(room().limit, "memory.max of /");
}

static void room_in_cgroups_of_version_1(void **state)
{
	folder_put("proc/self/cgroup", "5:devices:/x\n4:memory:/a/b\n3:cpu,cpuacct:/\n0::/\n");
	folder_put("sys/fs/cgroup/memory/a/b/memory.limit_in_bytes", "9223372036854771712\n");
	folder_put("sys/fs/cgroup/memory/a/b/memory.usage_in_bytes", "70000\n");
	assert_int_equal(room().len, 4 * GIB);
	folder_put("sys/fs/cgroup/memory/memory.limit_in_bytes", "100000\n");
	folder_put("sys/fs/cgroup/memory/memory.usage_in_bytes", "90000\n");
	assert_int_equal(room().len, 10000);
	/* and version 2 beside it */
	folder_put("sys/fs/cgroup/unified/memory.max", "7000\n");
	folder_put("sys/fs/cgroup/unified/memory.current", "1\n");
	assert_int_equal(room().len, 6999);
}

static void cgroup_files_that_say_nothing(void **state)
{
	folder_put("proc/self/cgroup", "\n:\n::\n0::\n0::nothing\nmemory\n4:memory:\n");
	assert_int_equal(room().len, 4 * GIB);
	folder_put("proc/meminfo", "MemFree: 1 kB\n");
	assert_true(room().len == UINT64_MAX);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_page_tables_take),
		TEST(room_in_cgroups_of_version_2),
		TEST(room_in_cgroups_of_version_1),
		TEST(cgroup_files_that_say_nothing),
	};
	return cmocka_run_group_tests_name("warm_room", tests, NULL, NULL);
}
