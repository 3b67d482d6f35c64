/* SPDX-License-Identifier: MIT */
#include "tests/unit/unit.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "vmm/base/error.h"
#include "vmm/base/fd.h"
#include "vmm/base/log.h"

static void errors_carry_object_cause_and_remedy(void **state)
{
	struct error err;
	assert_int_equal(error_errno(&err, ENOENT, "file %s", "x"), -ENOENT);
	assert_string_equal(err.text, "file x: No such file or directory");
	assert_string_equal(err.hint, "");
	assert_int_equal(err.exit, EXIT_INTERNAL);
	assert_int_equal(error_hint(&err, "make %s", "it"), -ENOENT);
	assert_int_equal(error_prefix(&err, "device %d", 3), -ENOENT);
	assert_int_equal(error_exit(&err, EXIT_CONFIG), -ENOENT);
	assert_string_equal(err.text, "device 3: file x: No such file or directory");
	assert_string_equal(err.hint, "make it");
	assert_int_equal(err.exit, EXIT_CONFIG);
	assert_int_equal(error_set(&err, EINVAL, "plain"), -EINVAL);
	assert_string_equal(err.text, "plain");
	assert_string_equal(err.hint, "");
}

/* What is short is not the object's, whatever that was: nobody's remedy takes the place of this one. */
static void the_limit_of_descriptors_has_its_own_remedy(void **state)
{
	const struct rlimit limit = {77, 1024};
	struct error err;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
	error_errno(&err, EMFILE, "file x");
	error_hint(&err, "chmod 755 x");
	error_prefix(&err, "device");
	assert_string_equal(err.text, "device: file x: Too many open files");
	assert_non_null(strstr(err.hint, "77"));
	assert_non_null(strstr(err.hint, "ulimit -n"));
	error_errno(&err, ENOENT, "file x");
	assert_string_equal(err.hint, "");
}

static void the_soft_limit_of_descriptors_is_raised(void **state)
{
	struct rlimit files;
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &files), 0);
	files.rlim_cur = 50;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &files), 0);
	fd_limit_raise();
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &files), 0);
	assert_true(files.rlim_max > 50);
	assert_int_equal(files.rlim_cur, files.rlim_max);
}

static void errors_never_overflow(void **state)
{
	struct error err;
	char big[2000];
	memset(big, 'a', sizeof(big) - 1);
	big[sizeof(big) - 1] = 0;
	error_errno(&err, EIO, "%s", big);
	assert_int_equal(strlen(err.text), sizeof(err.text) - 1);
	error_prefix(&err, "%s", big);
	assert_int_equal(strlen(err.text), sizeof(err.text) - 1);
	error_hint(&err, "%s", big);
	assert_int_equal(strlen(err.hint), sizeof(err.hint) - 1);
	assert_int_equal(error_errno(NULL, EIO, "%s", big), -EIO);
}

static void ranges_do_not_wrap(void **state)
{
	assert_true(range_fits(0, 0, 0));
	assert_true(range_fits(4, 4, 8));
	assert_false(range_fits(4, 5, 8));
	assert_false(range_fits(9, 0, 8));
	assert_false(range_fits(4, UINT64_MAX, 8));
	assert_false(range_fits(UINT64_MAX, 2, 8));
	assert_true(ranges_overlap(0, 10, 9, 1));
	assert_true(ranges_overlap(9, 1, 0, 10));
	assert_false(ranges_overlap(0, 10, 10, 1));
	assert_false(ranges_overlap(10, 1, 0, 10));
	assert_false(ranges_overlap(5, 0, 0, 10));
	assert_true(ranges_overlap(UINT64_MAX - 1, 2, UINT64_MAX, 1));
	assert_false(ranges_overlap(UINT64_MAX, 1, 1, 5));
}

static void alignment_and_loads(void **state)
{
	uint8_t b[8] = {1, 2, 3, 4, 5, 6, 7, 8};
	assert_int_equal(align_up(4097, 4096), 8192);
	assert_int_equal(align_down(4097, 4096), 4096);
	assert_true(is_pow2(4096) && !is_pow2(0) && !is_pow2(12));
	assert_int_equal(load_le(b, 2), 0x0201);
	assert_true(load_le(b, 8) == 0x0807060504030201);
	assert_true(load_le(b, 99) == 0x0807060504030201);
	store_le(b, 0xaabb, 1);
	assert_int_equal(b[0], 0xbb);
	assert_int_equal(b[1], 2);
}

static void descriptors(void **state)
{
	char buf[16];
	int fd = memfd_create("test", MFD_CLOEXEC);
	assert_int_equal(fd_write_all(fd, "hello\n\n", 7), 0);
	assert_int_equal(fd_pread_all(fd, buf, 5, 0), 0);
	assert_memory_equal(buf, "hello", 5);
	assert_int_equal(fd_pread_all(fd, buf, 8, 0), -ENODATA);
	assert_int_equal(fd_set_cloexec(fd, false), 0);
	assert_int_equal(fcntl(fd, F_GETFD), 0);
	assert_int_equal(fd_set_cloexec(fd, true), 0);
	assert_int_equal(fcntl(fd, F_GETFD), FD_CLOEXEC);
	assert_int_equal(fd_set_nonblock(fd, true), 0);
	assert_true(fcntl(fd, F_GETFL) & O_NONBLOCK);

	char path[32];
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	assert_int_equal(file_read_text(path, buf, sizeof(buf)), 5);
	assert_string_equal(buf, "hello");
	assert_int_equal(file_read_text(path, buf, 4), 3);
	assert_string_equal(buf, "hel");
	assert_int_equal(file_read_text("/nowhere/at/all", buf, 4), -ENOENT);

	errno = EXDEV;
	fd_close(&fd);
	assert_int_equal(errno, EXDEV);
	assert_int_equal(fd, -1);
	assert_int_equal(fd_set_cloexec(-1, true), -EBADF);
}

/* Whatever the limit is by now. */
static void paths_become_absolute(void **state)
{
	static const char *const words[][2] = {
		{"/bin/x", "/bin/x"}, {"x", "/tmp/x"},	     {"./x", "/tmp/x"},
		{"././x", "/tmp/x"},  {"../x", "/tmp/../x"}, {"./.x", "/tmp/.x"},
	};
	char before[4096], path[64];
	assert_non_null(getcwd(before, sizeof(before)));
	assert_int_equal(chdir("/tmp"), 0);
	for (unsigned i = 0; i < ARRAY_LEN(words); i++) {
		assert_int_equal(file_absolute(words[i][0], path, sizeof(path)), 0);
		assert_string_equal(path, words[i][1]);
	}
	assert_int_equal(file_absolute("x", path, 7), 0);
	assert_int_equal(file_absolute("x", path, 6), -ENAMETOOLONG);
	assert_int_equal(file_absolute("x", path, 4), -ENAMETOOLONG);
	assert_int_equal(file_absolute("/bin/x", path, 6), -ENAMETOOLONG);
	assert_int_equal(chdir("/"), 0);
	assert_int_equal(file_absolute("./x", path, sizeof(path)), 0);
	assert_string_equal(path, "/x");
	assert_int_equal(chdir(before), 0);
}

static void what_was_inherited_is_closed(void **state)
{
	pid_t pid = fork();
	if (!pid) {
		const struct rlimit low = {100, 1024};
		int kept = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 700);
		int many[] = {dup(STDERR_FILENO), dup(STDERR_FILENO),
			      fcntl(STDERR_FILENO, F_DUPFD, 800)};
		setrlimit(RLIMIT_NOFILE, &low);
		fd_close_inherited();
		bool fine = kept >= 700 && many[2] >= 800 && fcntl(kept, F_GETFD) >= 0 &&
			    fcntl(STDERR_FILENO, F_GETFD) >= 0;
		for (unsigned i = 0; i < ARRAY_LEN(many); i++)
			fine = fine && fcntl(many[i], F_GETFD) < 0;
		_exit(fine ? 0 : 1);
	}
	int status;
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

static void guest_messages_are_limited(void **state)
{
	unsigned counter = 0, shown = 0;
	for (int i = 0; i < 1000; i++)
		shown += log_guest_ok(&counter, 3);
	assert_int_equal(shown, 3);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(errors_carry_object_cause_and_remedy),
		cmocka_unit_test(the_limit_of_descriptors_has_its_own_remedy),
		cmocka_unit_test(the_soft_limit_of_descriptors_is_raised),
		cmocka_unit_test(errors_never_overflow),
		cmocka_unit_test(ranges_do_not_wrap),
		cmocka_unit_test(alignment_and_loads),
		cmocka_unit_test(descriptors),
		cmocka_unit_test(paths_become_absolute),
		cmocka_unit_test(what_was_inherited_is_closed),
		cmocka_unit_test(guest_messages_are_limited),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
