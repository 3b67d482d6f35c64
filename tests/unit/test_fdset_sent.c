/* SPDX-License-Identifier: MIT */
/* Kept descriptors on their way to a successor: generations, what is received, what must match the state. */
#include "tests/unit/unit.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/unit/blob.h"
#include "vmm/base/pool.h"

static struct fdset set, other; /* the incumbent's, the successor's */
static uint64_t buf[8192];
static size_t len;

static int save(void)
{
	static const struct state_header header = {"v", "b"};
	struct state_tree none = {.n = 0};
	return state_save(&none, &set, &header, buf, sizeof(buf), &len, NULL);
}

static int keep_and_send(void **state)
{
	struct error err;
	fdset_keep(&set, "ram0", memfd_create("a", MFD_CLOEXEC), NULL);
	fdset_keep(&set, "null", open("/dev/null", O_RDONLY | O_CLOEXEC), NULL);
	fdset_keep(&set, "irq", eventfd(0, EFD_CLOEXEC), NULL);
	for (unsigned i = 0; i < set.n; i++) {
		const struct fdset_entry *e = &set.e[i];
		int fd = fcntl(e->fd, F_DUPFD_CLOEXEC, 0);
		assert_int_equal(fdset_receive(&other, e->name, e->generation, fd, &err), 0);
		set.e[i].sent = true;
	}
	return 0;
}

static int drop_both(void **state)
{
	struct fdset *const both[] = {&set, &other};
	for (unsigned i = 0; i < 2; i++) {
		while (both[i]->n)
			fdset_close(both[i], both[i]->e[0].name);
		pool_free(both[i]->e);
		*both[i] = (struct fdset){0};
	}
	return 0;
}

static int match(struct error *err)
{
	struct state_blob blob;
	assert_int_equal(save(), 0);
	assert_int_equal(state_open(&blob, buf, len, err), 0);
	struct fdset listed = {0};
	int rc = fdset_match(&other, &listed, &blob, err);
	pool_free(listed.e);
	return rc;
}

static void assert_not_the_same(const char *name, const char *text)
{
	unsigned n = other.n;
	struct error err = {0};
	assert_int_equal(match(&err), -EBADF);
	assert_non_null(strstr(err.text, name));
	assert_non_null(strstr(err.text, text));
	assert_int_equal(other.n, n); /* nothing is closed then */
}

static uint64_t generation(const struct fdset *in, const char *name)
{
	for (unsigned i = 0; i < in->n; i++)
		if (!strcmp(in->e[i].name, name))
			return in->e[i].generation;
	fail_msg("no %s", name);
	return 0;
}

/* An eventfd that is closed and opened anew looks the same to fstat. */
static void each_has_a_generation_of_its_own(void **state)
{
	struct error err;
	uint64_t last = 0;
	for (unsigned i = 0; i < set.n; i++) {
		assert_true(set.e[i].generation > last);
		last = set.e[i].generation;
	}
	fdset_close(&set, "irq");
	assert_int_equal(fdset_keep(&set, "irq", eventfd(0, EFD_CLOEXEC), &err), 0);
	assert_true(generation(&set, "irq") > last);
	uint64_t now = generation(&set, "irq");
	fdset_rename(&set, "irq", "renamed");
	assert_int_equal(generation(&set, "renamed"), now); /* it is the same one */
	assert_int_equal(fdset_keep(&set, "closed", 9999, &err), -EBADF);
	assert_int_equal(fdset_keep(&set, "irq", eventfd(0, EFD_CLOEXEC), &err), 0);
	assert_int_equal(generation(&set, "irq"), now + 1);
}

static void received_ones(void **state)
{
	struct error err;
	for (unsigned i = 0; i < set.n; i++) {
		assert_string_equal(other.e[i].name, set.e[i].name);
		assert_int_equal(other.e[i].generation, set.e[i].generation);
		assert_false(other.e[i].taken || other.e[i].sent);
	}
	/* What this process keeps itself later is never taken for one of those. */
	assert_int_equal(fdset_keep(&other, "new", eventfd(0, EFD_CLOEXEC), &err), 0);
	assert_true(generation(&other, "new") > generation(&set, "irq"));
	assert_int_equal(fdset_receive(&other, "far", 1000, eventfd(0, EFD_CLOEXEC), &err), 0);
	assert_int_equal(fdset_receive(&other, "near", 7, eventfd(0, EFD_CLOEXEC), &err), 0);
	assert_int_equal(fdset_keep(&other, "newer", eventfd(0, EFD_CLOEXEC), &err), 0);
	assert_int_equal(generation(&other, "newer"), 1001);
}

static void received_instead_of_another(void **state)
{
	struct error err;
	int old = other.e[1].fd, fd = eventfd(0, EFD_CLOEXEC);
	other.e[1].taken = true;
	assert_int_equal(fdset_receive(&other, "null", 77, fd, &err), 0);
	assert_int_equal(fcntl(old, F_GETFD), -1);
	assert_int_equal(other.n, set.n);
	assert_int_equal(generation(&other, "null"), 77);
	assert_int_equal(fdset_get(&other, "null"), fd);
}

/* Then the descriptor is the caller's to close. */
static void received_in_vain(void **state)
{
	char name[FDSET_NAME_LEN + 1];
	struct error err;
	memset(name, 'x', sizeof(name));
	name[FDSET_NAME_LEN] = 0;
	int fd = eventfd(0, EFD_CLOEXEC);
	assert_int_equal(fdset_receive(&other, name, 9, fd, &err), -EINVAL);
	assert_int_equal(fdset_receive(&other, "closed", 9, 9999, &err), -EBADF);
	assert_int_equal(other.n, set.n);
	assert_int_equal(close(fd), 0);
}

static void all_match(void **state)
{
	struct error err = {0};
	assert_int_equal(match(&err), 0);
	assert_int_equal(other.n, set.n);
}

static void one_is_missing(void **state)
{
	fdset_close(&other, "null");
	assert_not_the_same("null", "was not sent");
}

static void one_was_opened_anew(void **state)
{
	struct error err;
	fdset_close(&set, "irq");
	assert_int_equal(fdset_keep(&set, "irq", eventfd(0, EFD_CLOEXEC), &err), 0);
	assert_not_the_same("irq", "another than the state's");
}

static void one_is_another_file(void **state)
{
	struct error err;
	uint64_t same = generation(&set, "ram0");
	assert_int_equal(fdset_receive(&other, "ram0", same, memfd_create("b", MFD_CLOEXEC), &err),
			 0);
	assert_not_the_same("ram0", "another than the state's");
}

static void every_part_of_the_identity_counts(void **state)
{
	struct fdset_entry *e = &other.e[1], good = *e;
	e->mode ^= S_IFCHR ^ S_IFREG;
	assert_not_the_same(e->name, "another than the state's");
	*e = good;
	e->dev++;
	assert_not_the_same(e->name, "another than the state's");
	*e = good;
	e->ino++;
	assert_not_the_same(e->name, "another than the state's");
	*e = good;
	e->rdev++;
	assert_not_the_same(e->name, "another than the state's");
	*e = good;
	struct error err = {0};
	assert_int_equal(match(&err), 0);
}

static void others_are_closed(void **state)
{
	struct error err = {0};
	int fd = fcntl(set.e[2].fd, F_DUPFD_CLOEXEC, 0);
	assert_int_equal(fdset_receive(&other, "later", 50, fd, &err), 0);
	fdset_close(&set, "irq");
	assert_int_equal(match(&err), 0);
	assert_int_equal(other.n, 2);
	assert_int_equal(fdset_get(&other, "later"), -1);
	assert_int_equal(fdset_get(&other, "irq"), -1);
	assert_int_equal(fcntl(fd, F_GETFD), -1);
}

/* A client of the control socket that waits for the update: its successor has to find it under the new name. */
static void a_renamed_one_is_sent_again(void **state)
{
	struct error err;
	for (unsigned i = 0; i < set.n; i++)
		assert_true(set.e[i].sent);
	fdset_rename(&set, "ram0", "ram1");
	fdset_close(&set, "null"); /* the last one gets its place */
	assert_int_equal(set.n, 2);
	for (unsigned i = 0; i < set.n; i++)
		assert_int_equal(set.e[i].sent, strcmp(set.e[i].name, "ram1") != 0);
	assert_not_the_same("ram1", "was not sent");
	int fd = fcntl(fdset_get(&set, "ram1"), F_DUPFD_CLOEXEC, 0);
	assert_int_equal(fdset_receive(&other, "ram1", generation(&set, "ram1"), fd, &err), 0);
	assert_int_equal(match(&err), 0);
	assert_int_equal(other.n, 2);
	assert_int_equal(fdset_keep(&set, "new", eventfd(0, EFD_CLOEXEC), &err), 0);
	assert_false(set.e[2].sent);
}

static void generations_of_another_number(void **state)
{
	static const uint64_t two[2]; /* none: the state of a version without them */
	struct fdset listed = {0};
	struct state_blob blob;
	struct error err;
	for (int n = -1; n <= 16; n++) {
		const uint32_t number[2] = {cpu_to_fdt32((uint32_t)set.e[0].fd), 0};
		const uint64_t ids[3] = {0};
		blob_begin(buf, sizeof(buf) / 2);
		fdt_begin_node(buf, "fds");
		fdt_property(buf, "names", "a", 2);
		fdt_property(buf, "numbers", number, 8);
		fdt_property(buf, "identities", ids, 24);
		if (n >= 0)
			fdt_property(buf, "generations", two, n);
		fdt_end_node(buf);
		len = blob_end(buf);
		assert_int_equal(state_open(&blob, buf, len, &err), 0);
		bool fine = n < 0 || n == 8;
		assert_int_equal(fdset_list(&listed, &blob, &err), fine ? 0 : -EBADMSG);
		assert_true(!fine || !listed.e[0].generation);
	}
	pool_free(listed.e);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, keep_and_send, drop_both)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(each_has_a_generation_of_its_own),
		TEST(received_ones),
		TEST(received_instead_of_another),
		TEST(received_in_vain),
		TEST(all_match),
		TEST(one_is_missing),
		TEST(one_was_opened_anew),
		TEST(one_is_another_file),
		TEST(others_are_closed),
		TEST(every_part_of_the_identity_counts),
		TEST(a_renamed_one_is_sent_again),
		TEST(generations_of_another_number),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
