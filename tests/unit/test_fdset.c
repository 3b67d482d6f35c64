/* SPDX-License-Identifier: MIT */
/* Kept descriptors: the table, and what adoption refuses. */
#include "tests/unit/unit.h"

#include <errno.h>
#include <stdio.h>
#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/unit/blob.h"
#include "vmm/base/pool.h"

static struct fdset set;
static uint64_t buf[8192];
static size_t len;

static int keep_some(void **state)
{
	set.n = 0;
	fdset_keep(&set, "ram0", memfd_create("a", MFD_CLOEXEC), NULL);
	fdset_keep(&set, "null", open("/dev/null", O_RDONLY | O_CLOEXEC), NULL);
	fdset_keep(&set, "irq", eventfd(0, EFD_CLOEXEC), NULL);
	return 0;
}

static int drop_all(void **state)
{
	while (set.n)
		fdset_close(&set, set.e[0].name);
	return 0;
}

static int save(void)
{
	static const struct state_header header = {"v", "b"};
	struct state_tree none = {.n = 0};
	return state_save(&none, &set, &header, buf, sizeof(buf), &len, NULL);
}

static int adopt(struct fdset *into, struct error *err)
{
	struct state_blob blob;
	into->n = 0;
	assert_int_equal(state_open(&blob, buf, len, err), 0);
	return fdset_list(into, &blob, err);
}

static void table(void **state)
{
	struct error err;
	char name[FDSET_NAME_LEN + 1];
	int fd = set.e[1].fd;
	assert_int_equal(fdset_get(&set, "null"), fd);
	assert_int_equal(fdset_get(&set, "other"), -1);
	assert_int_equal(fdset_keep(&set, "null", 0, &err), -EEXIST);
	assert_int_equal(fdset_keep(&set, "closed", 9999, &err), -EBADF);
	memset(name, 'x', sizeof(name));
	name[FDSET_NAME_LEN] = 0;
	assert_int_equal(fdset_keep(&set, name, 0, &err), -EINVAL);
	fdset_close(&set, "null");
	assert_int_equal(fcntl(fd, F_GETFD), -1);
	assert_int_equal(fdset_get(&set, "null"), -1);
	assert_true(fdset_get(&set, "ram0") >= 0);
	assert_true(fdset_get(&set, "irq") >= 0);
	fdset_close(&set, "null");
	assert_int_equal(set.n, 2);
}

static void grows_up_to_its_limit(void **state)
{
	struct fdset big = {0};
	struct error err;
	char name[16];
	for (int i = 0; i < 2000; i++) {
		snprintf(name, sizeof(name), "fd%d", i);
		assert_int_equal(fdset_keep(&big, name, STDERR_FILENO, &err), 0);
	}
	/* The other entries are not looked at: names differ. */
	struct fdset full = {
		.e = pool_alloc(FDSET_MAX, sizeof(*full.e)), .n = FDSET_MAX, .room = FDSET_MAX};
	assert_non_null(full.e);
	memcpy(full.e, big.e, big.n * sizeof(*big.e));
	assert_int_equal(fdset_keep(&full, "more", STDERR_FILENO, &err), -ENOSPC);
	pool_free(full.e);
	pool_free(big.e);
}

static void adoption(void **state)
{
	struct fdset other = {0};
	struct error err;
	assert_int_equal(save(), 0);
	assert_int_equal(adopt(&other, &err), 0);
	assert_int_equal(other.n, 3);
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(fdset_get(&other, set.e[i].name), set.e[i].fd);
	assert_int_equal(fdset_get(&other, "other"), -1);
	pool_free(other.e);
}

static void untaken_ones_are_closed(void **state)
{
	struct fdset other = {0};
	struct error err;
	assert_int_equal(save(), 0);
	assert_int_equal(adopt(&other, &err), 0);
	fdset_get(&other, "null");
	fdset_close_untaken(&other);
	assert_int_equal(other.n, 1);
	assert_int_equal(fcntl(set.e[0].fd, F_GETFD), -1);
	assert_true(fcntl(set.e[1].fd, F_GETFD) >= 0);
	assert_int_equal(fcntl(set.e[2].fd, F_GETFD), -1);
	fdset_close(&other, "null");
	set.n = 0;
	pool_free(other.e);
}

struct raw {
	const char *names;
	int names_len;
	uint32_t number[3];
	int count, id_count;
};

static int adopt_raw(const struct raw *r, struct error *err)
{
	struct fdset other = {0};
	uint32_t numbers[6];
	uint64_t ids[9];
	for (int i = 0; i < 3; i++) {
		struct stat st = {0};
		fstat((int)r->number[i], &st);
		numbers[2 * i] = cpu_to_fdt32(r->number[i]);
		numbers[2 * i + 1] = cpu_to_fdt32(st.st_mode & S_IFMT);
		ids[3 * i] = cpu_to_fdt64(st.st_dev);
		ids[3 * i + 1] = cpu_to_fdt64(st.st_ino);
		ids[3 * i + 2] = cpu_to_fdt64(st.st_rdev);
	}
	blob_begin(buf, sizeof(buf) / 2);
	fdt_begin_node(buf, "fds");
	fdt_property(buf, "names", r->names, r->names_len);
	fdt_property(buf, "numbers", numbers, r->count);
	fdt_property(buf, "identities", ids, r->id_count);
	fdt_end_node(buf);
	len = blob_end(buf);
	int rc = adopt(&other, err);
	pool_free(other.e);
	return rc;
}

static void hostile_tables(void **state)
{
	const uint32_t a = (uint32_t)set.e[0].fd, b = (uint32_t)set.e[1].fd;
	static const char longest[] =
		"0123456789012345678901234567890123456789012345678901234567890123";
	const struct {
		struct raw raw;
		int rc;
	} cases[] = {
		{{"a\0b", 4, {a, b}, 16, 48}, 0},
		{{"", 0, {0}, 0, 0}, 0},
		{{"a\0a", 4, {a, b}, 16, 48}, -EBADMSG},    /* one name twice */
		{{"a\0b", 3, {a, b}, 16, 48}, -EBADMSG},    /* the last one has no end */
		{{"a", 2, {a, b}, 16, 48}, -EBADMSG},	    /* too few names */
		{{"a\0b\0c", 6, {a, b}, 16, 48}, -EBADMSG}, /* too many */
		{{"a\0\0b", 5, {a, b}, 16, 48}, -EBADMSG},  /* an empty one */
		{{"a\0b", 4, {a, b}, 16, 24}, -EBADMSG},    /* fewer identities than numbers */
		{{"a\0b", 4, {a, b}, 15, 48}, -EBADMSG},    /* half a number */
		{{"a\0b", 4, {a, b}, 16, 47}, -EBADMSG},    /* half an identity */
		{{"a\0b", 4, {a, a}, 16, 48}, -EBADMSG},    /* one number twice */
		{{"a\0b", 4, {a, 2}, 16, 48}, -EBADMSG},    /* stderr is nobody's */
		{{"a\0b", 4, {a, 0xffffffff}, 16, 48}, -EBADMSG},
		{{"a\0stdin", 8, {a, 0}, 16, 48}, 0},
		{{"a\0stdin", 8, {a, 0x80000000}, 16, 48}, -EBADMSG},
		{{longest, sizeof(longest), {a}, 8, 24}, -EBADMSG},
		{{longest + 1, sizeof(longest) - 1, {a}, 8, 24}, 0},
	};
	for (unsigned i = 0; i < ARRAY_LEN(cases); i++) {
		struct error err = {.text = "fine"};
		int rc = adopt_raw(&cases[i].raw, &err);
		if (rc != cases[i].rc)
			print_error("case %u: %d, expected %d: %s\n", i, rc, cases[i].rc, err.text);
		assert_int_equal(rc, cases[i].rc);
	}
}

static void a_blob_without_the_table(void **state)
{
	struct fdset other = {0};
	struct error err;
	blob_begin(buf, sizeof(buf) / 2);
	len = blob_end(buf);
	assert_int_equal(adopt(&other, &err), -EBADMSG);
	blob_begin(buf, sizeof(buf) / 2);
	fdt_begin_node(buf, "fds");
	fdt_end_node(buf);
	len = blob_end(buf);
	assert_int_equal(adopt(&other, &err), -EBADMSG);
}

/* Every byte of a signed table changed: no crash, nothing out of bounds. */
static void changed_and_signed(void **state)
{
	assert_int_equal(save(), 0);
	size_t n = len;
	unsigned refused = 0;
	for (size_t i = 0; i < n - BLOB_TRAILER_LEN; i++) {
		struct fdset other = {0};
		struct state_blob blob;
		struct error err;
		uint8_t *p = malloc(n);
		memcpy(p, buf, n);
		p[i] ^= 0x41;
		blob_sign(p, n);
		refused += state_open(&blob, p, n, &err) || fdset_list(&other, &blob, &err);
		pool_free(other.e);
		free(p);
	}
	assert_true(refused > 100);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(table, keep_some, drop_all),
		cmocka_unit_test_setup_teardown(grows_up_to_its_limit, keep_some, drop_all),
		cmocka_unit_test_setup_teardown(adoption, keep_some, drop_all),
		cmocka_unit_test_setup_teardown(untaken_ones_are_closed, keep_some, drop_all),
		cmocka_unit_test_setup_teardown(hostile_tables, keep_some, drop_all),
		cmocka_unit_test_setup_teardown(a_blob_without_the_table, keep_some, drop_all),
		cmocka_unit_test_setup_teardown(changed_and_signed, keep_some, drop_all),
	};
	int rc = cmocka_run_group_tests(tests, NULL, NULL);
	pool_free(set.e);
	return rc;
}
