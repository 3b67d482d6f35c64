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
	for (int i = 0; i < FDSET_MAX; i++) {
		snprintf(name, sizeof(name), "fd%d", i);
		assert_int_equal(fdset_keep(&big, name, STDERR_FILENO, &err), 0);
	}
	assert_int_equal(fdset_keep(&big, "more", STDERR_FILENO, &err), -ENOSPC);
	pool_free(big.e);
}

/* How many entries are looked at until each is found once. Each entry is in one chain. */
static unsigned steps(const struct fdset *s, enum fdset_key by)
{
	unsigned sum = 0, found = 0;
	for (unsigned i = 0; i < s->room; i++) {
		unsigned depth = 0;
		for (unsigned at = s->first[by * s->room + i]; at; at = s->e[at - 1].next[by]) {
			assert_true(at <= s->n);
			assert_true(++depth <= s->n);
			sum += depth;
			found++;
		}
	}
	assert_int_equal(found, s->n);
	return sum;
}

static void assert_found_at_once(struct fdset *s)
{
	for (unsigned i = 0; i < s->n; i++)
		assert_int_equal(fdset_get(s, s->e[i].name), s->e[i].fd);
	assert_true(steps(s, FDSET_BY_NAME) <= 2 * s->n);
	assert_int_equal(steps(s, FDSET_BY_NUMBER), s->n);
}

#define MANY 600

/* Adds, removes, renames and receives, beside a list of the names that must be there. */
static void found_at_once_whatever_has_changed(void **state)
{
	struct fdset s = {0}, listed = {0};
	struct error err;
	char name[2][FDSET_NAME_LEN];
	struct {
		int fd; /* -1: not there */
		bool renamed;
	} want[MANY];
	for (unsigned i = 0; i < MANY; i++) {
		want[i].fd = -1;
		want[i].renamed = false;
	}
	uint32_t random = 1;
	for (unsigned round = 0; round < 6 * MANY; round++) {
		random = random * 1664525 + 1013904223;
		unsigned i = round < MANY ? round : (random >> 8) % MANY;
		snprintf(name[0], sizeof(name[0]), "vfio:0000:00:05.0:msix:%u", i);
		snprintf(name[1], sizeof(name[1]), "renamed:%u", i);
		const char *now = name[want[i].renamed];
		assert_int_equal(fdset_get(&s, now), want[i].fd);
		assert_int_equal(fdset_get(&s, name[!want[i].renamed]), -1);
		if (want[i].fd < 0 || random >> 30 == 0) {
			want[i].fd = eventfd(0, EFD_CLOEXEC);
			int rc = random >> 29 & 1 ? fdset_receive(&s, now, round, want[i].fd, &err)
						  : fdset_replace(&s, now, want[i].fd, &err);
			assert_int_equal(rc, 0);
		} else if (random >> 30 == 1) {
			fdset_rename(&s, now, name[!want[i].renamed]);
			want[i].renamed = !want[i].renamed;
		} else {
			fdset_close(&s, now);
			want[i].fd = -1;
		}
		if (round % 100 == 0 || round == MANY)
			assert_found_at_once(&s);
	}
	/* And a table that is read, twice into the same one. */
	static uint64_t large[1 << 14];
	static const struct state_header header = {"v", "b"};
	struct state_tree none = {.n = 0};
	struct state_blob blob;
	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(state_save(&none, &s, &header, large, sizeof(large), &len, &err),
				 0);
		assert_int_equal(state_open(&blob, large, len, &err), 0);
		assert_int_equal(fdset_list(&listed, &blob, &err), 0);
		assert_int_equal(listed.n, s.n);
		assert_found_at_once(&listed);
		assert_int_equal(state_open(&blob, large, len, &err), 0);
		assert_int_equal(fdset_match(&s, &listed, &blob, &err), 0);
		fdset_close(&s, s.e[0].name);
	}
	while (s.n)
		fdset_close(&s, s.e[s.n / 2].name);
	assert_int_equal(steps(&s, FDSET_BY_NAME), 0);
	pool_free(s.e);
	pool_free(listed.e);
}

/* What is compared in the pause needs no memory then, though there are more descriptors by now. */
static void room_is_made_ahead(void **state)
{
	static uint64_t large[1 << 14];
	static const struct state_header header = {"v", "b"};
	struct state_tree none = {.n = 0};
	struct fdset s = {0}, listed = {0};
	struct state_blob blob;
	struct error err;
	char name[FDSET_NAME_LEN];
	assert_int_equal(fdset_reserve(&s, 3000, &err) ?: fdset_reserve(&listed, 3000, &err), 0);
	const struct fdset_entry *had = s.e, *had_listed = listed.e;
	for (unsigned i = 0; i < MANY; i++) {
		snprintf(name, sizeof(name), "vfio:0000:00:05.0:msix:%u", i);
		assert_int_equal(fdset_keep(&s, name, eventfd(0, EFD_CLOEXEC), &err), 0);
	}
	assert_int_equal(state_save(&none, &s, &header, large, sizeof(large), &len, &err), 0);
	assert_int_equal(state_open(&blob, large, len, &err), 0);
	assert_int_equal(fdset_match(&s, &listed, &blob, &err), 0);
	assert_int_equal(listed.n, MANY);
	assert_ptr_equal(s.e, had);
	assert_ptr_equal(listed.e, had_listed);
	while (s.n)
		fdset_close(&s, s.e[s.n / 2].name);
	pool_free(s.e);
	pool_free(listed.e);
	/* Whoever has more than there may be has room for those. */
	s = (struct fdset){0};
	assert_int_equal(fdset_reserve(&s, 2 * FDSET_MAX, &err), 0);
	assert_int_equal(s.room, FDSET_MAX);
	pool_free(s.e);
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
	pool_free(other.e);
	pool_free(set.e);
	set = (struct fdset){0};
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
		cmocka_unit_test(found_at_once_whatever_has_changed),
		cmocka_unit_test(room_is_made_ahead),
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
