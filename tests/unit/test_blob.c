/* SPDX-License-Identifier: MIT */
/* The memfd of the state: sealed whatever else of the system holds its pages, and only so adopted. */
#include "tests/unit/unit.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#include "cpr/handover/blob.h"
#include "cpr/state/fdset.h"
#include "vmm/base/error.h"

static struct blob blob;
static struct fdset fds;
static struct state_tree tree;
static struct error err;

static int made(void **state)
{
	return blob_create(&blob, &tree, &fds, &err);
}

static int closed(void **state)
{
	blob_close(&blob);
	return 0;
}

/* A pipe holds a page, as reclaim or migration do at times: F_SEAL_WRITE would fail with EBUSY. */
static void sealed_while_a_page_is_held(void **state)
{
	struct iovec page = {.iov_len = 4096};
	int pipes[2];

	page.iov_base = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_POPULATE, blob.fd, 0);
	assert_ptr_not_equal(page.iov_base, MAP_FAILED);
	assert_int_equal(pipe(pipes), 0);
	assert_int_equal(vmsplice(pipes[1], &page, 1, 0), 4096);
	assert_int_equal(fcntl(blob.fd, F_ADD_SEALS, F_SEAL_WRITE), -1);
	assert_int_equal(errno, EBUSY);
	assert_int_equal(blob_write(&blob, &tree, &fds, &err), 0);
	close(pipes[0]);
	close(pipes[1]);
	munmap(page.iov_base, 4096);
}

static void nothing_changes_it(void **state)
{
	assert_int_equal(blob_write(&blob, &tree, &fds, &err), 0);
	assert_int_equal(pwrite(blob.fd, "x", 1, 0), -1);
	assert_int_equal(ftruncate(blob.fd, 0), -1);
	assert_int_equal(ftruncate(blob.fd, 1 << 20), -1);
	assert_int_equal(fallocate(blob.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096),
			 -1);
	assert_ptr_equal(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, blob.fd, 0),
			 MAP_FAILED);
	assert_int_equal(fcntl(blob.fd, F_ADD_SEALS, F_SEAL_WRITE), -1);
}

static void adopted_only_sealed(void **state)
{
	struct blob next;

	assert_int_equal(blob_adopt(&next, blob.fd, &err), -EBADMSG);
	assert_non_null(strstr(err.text, "is no sealed memfd"));
	assert_int_equal(blob_write(&blob, &tree, &fds, &err), 0);
	assert_int_equal(blob_adopt(&next, dup(blob.fd), &err), 0);
	assert_memory_equal(next.map, blob.text, blob.len);
	blob_close(&next);
}

/* The successor maps it before it is written. */
static void expected_and_arrived(void **state)
{
	struct blob next;

	assert_int_equal(ftruncate(blob.fd, 1), -1); /* it never takes a page away */
	assert_int_equal(blob_expect(&next, dup(blob.fd), &err), 0);
	assert_int_equal(blob_arrived(&next, 1, &err), -EBADMSG);
	assert_non_null(strstr(err.text, "is not sealed"));
	assert_int_equal(blob_write(&blob, &tree, &fds, &err), 0);
	assert_int_equal(blob_arrived(&next, 0, &err), -EBADMSG);
	assert_int_equal(blob_arrived(&next, next.size + 1, &err), -EBADMSG);
	assert_int_equal(blob_arrived(&next, (size_t)-1, &err), -EBADMSG);
	assert_int_equal(blob_arrived(&next, blob.len, &err), 0);
	assert_memory_equal(next.map, blob.text, blob.len);
	blob_close(&next);
}

static void expected_in_vain(void **state)
{
	const int seals[] = {0, F_SEAL_GROW, F_SEAL_SHRINK};
	struct blob next;
	int ends[2];

	for (unsigned i = 0; i < ARRAY_LEN(seals); i++) { /* the last one is empty */
		int fd = memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING);
		assert_int_equal(ftruncate(fd, i == 2 ? 0 : 4096), 0);
		assert_int_equal(fcntl(fd, F_ADD_SEALS, seals[i]), 0);
		assert_int_equal(blob_expect(&next, fd, &err), -EBADMSG);
		blob_close(&next);
		assert_int_equal(fcntl(fd, F_GETFD), -1); /* the blob's, also on failure */
	}
	assert_int_equal(pipe(ends), 0);
	assert_int_equal(blob_expect(&next, ends[0], &err), -EBADMSG);
	blob_close(&next);
	close(ends[1]);
	assert_int_equal(blob_expect(&next, -1, &err), -EBADMSG);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(sealed_while_a_page_is_held, made, closed),
		cmocka_unit_test_setup_teardown(nothing_changes_it, made, closed),
		cmocka_unit_test_setup_teardown(adopted_only_sealed, made, closed),
		cmocka_unit_test_setup_teardown(expected_and_arrived, made, closed),
		cmocka_unit_test(expected_in_vain),
	};
	return cmocka_run_group_tests_name("blob", tests, NULL, NULL);
}
