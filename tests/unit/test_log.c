/* SPDX-License-Identifier: MIT */
#include "tests/unit/unit.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "vmm/base/error.h"
#include "vmm/base/log.h"

static int saved, standard, file;
static int64_t fake_s = 1;
static char text[8192];

/* Instead of the C library's. */
int clock_gettime(clockid_t clock, struct timespec *ts)
{
	*ts = (struct timespec){.tv_sec = fake_s, .tv_nsec = 7999999};
	return 0;
}

static int setup(void **state)
{
	saved = dup(STDERR_FILENO);
	standard = memfd_create("stderr", 0);
	file = memfd_create("log", MFD_CLOEXEC);
	dup2(standard, STDERR_FILENO);
	return 0;
}

static int teardown(void **state)
{
	dup2(saved, STDERR_FILENO);
	return 0;
}

static const char *written(int fd)
{
	ssize_t n = pread(fd, text, sizeof(text) - 1, 0);
	text[n > 0 ? n : 0] = 0;
	assert_int_equal(ftruncate(fd, 0), 0);
	lseek(fd, 0, SEEK_SET);
	return text;
}

static void to_standard_error(void **state)
{
	struct error err = {.text = "no", .hint = "yes"};
	log_info("one %d", 1);
	log_set_name("web");
	log_warn("two");
	log_error(&err);
	log_set_name(NULL);
	log_set_raw(true);
	log_info("three");
	log_set_raw(false);
	assert_string_equal(written(standard), "molt: one 1\n"
					       "molt[web]: warning: two\n"
					       "molt[web]: error: no\n"
					       "molt[web]:   remedy: yes\n"
					       "molt: three\r\n");
}

static void levels(void **state)
{
	struct error err = {.text = "no", .hint = "yes"};
	log_set_level(LOG_LEVEL_WARNING);
	log_info("left out");
	log_info("  with what belongs to it");
	log_warn("seen");
	log_info("  remedy: seen as well");
	assert_string_equal(written(standard),
			    "molt: warning: seen\nmolt:   remedy: seen as well\n");
	log_set_level(LOG_LEVEL_ERROR);
	log_warn("left out");
	log_info("  remedy: left out as well");
	log_error(&err);
	assert_string_equal(written(standard), "molt: error: no\nmolt:   remedy: yes\n");
	log_set_level(LOG_LEVEL_INFO);
}

static void lines_never_overflow(void **state)
{
	char big[4000];
	memset(big, 'a', sizeof(big) - 1);
	big[sizeof(big) - 1] = 0;
	log_set_name("a-name-that-has-thirty-two-letter");
	log_info("%s", big);
	log_signal(big);
	const char *lines = written(standard), *second = strchr(lines, '\n') + 1;
	assert_in_range(second - lines, 1000, 1600);
	assert_int_equal(strlen(second), 1600 - 1); /* a CR would have room */
}

/* Errors are for both: who has started molt in a terminal shall see why it ends. */
static void to_a_file(void **state)
{
	struct error err = {.text = "no", .hint = ""};
	assert_int_equal(log_file(), -1);
	assert_int_equal(log_set_file(file), 0);
	assert_int_equal(fcntl(log_file(), F_GETFD), FD_CLOEXEC);
	log_set_name("web");
	log_info("one");
	fake_s = 951868799; /* the last second of a leap day */
	log_warn("two");
	log_info("  more");
	fake_s = 4107542400; /* 2100 is no leap year: the day after 28 February */
	log_error(&err);
	assert_string_equal(written(file), "1970-01-01T00:00:01.007Z info molt[web]: one\n"
					   "2000-02-29T23:59:59.007Z warning molt[web]: two\n"
					   "2000-02-29T23:59:59.007Z warning molt[web]:   more\n"
					   "2100-03-01T00:00:00.007Z error molt[web]: no\n");
	assert_string_equal(written(standard), "molt[web]: error: no\n");

	int next = memfd_create("rotated", MFD_CLOEXEC), number = log_file();
	assert_int_equal(log_set_file(next), 0);
	assert_int_equal(log_file(), number);
	assert_int_equal(log_set_file(-1), -EBADF);
	log_info("three");
	assert_non_null(strstr(written(next), "three"));
	assert_string_equal(written(file), "");
}

/* The next one has a line of its own. */
static void no_room_for_a_whole_line(void **state)
{
	struct rlimit before, low;
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
	low = (struct rlimit){10, before.rlim_max};
	signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &low), 0);
	log_info("cut");
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
	log_info("next");
	log_info("after it");
	const char *lines = written(log_file());
	assert_true(!strncmp(lines, "2100-03-01\n2100-03-01T", 22));
	assert_non_null(strstr(lines, ": next\n2100-03-01T"));
}

static void of_a_hostile_process(void **state)
{
	log_set_name("web");
	log_adopt("a\nb", LOG_LEVEL_INFO, -1);
	log_adopt("blank in it", LOG_LEVEL_INFO, -1);
	log_adopt("other", LOG_LEVEL_INFO + 1, -1);
	log_adopt("other", -1, -1);
	log_adopt("other", 1ll << 32, -1);
	log_warn("same");
	assert_non_null(strstr(written(log_file()), " warning molt[web]: same\n"));
	log_adopt("other", LOG_LEVEL_WARNING, -1);
	log_info("less");
	log_warn("more");
	assert_non_null(strstr(written(log_file()), "warning molt[other]: more\n"));
	log_adopt("web", LOG_LEVEL_INFO, -1);
}

/* A full disk, say. */
static void what_the_file_does_not_take(void **state)
{
	int closed = open("/dev/full", O_WRONLY | O_CLOEXEC);
	assert_int_equal(log_set_file(closed), 0);
	errno = EXDEV;
	log_info("kept");
	assert_int_equal(errno, EXDEV);
	assert_string_equal(written(standard), "molt[web]: kept\n");
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	/* In this order: a file stays the log's once there is one. */
	const struct CMUnitTest tests[] = {T(to_standard_error),	  T(levels),
					   T(lines_never_overflow),	  T(to_a_file),
					   T(no_room_for_a_whole_line),	  T(of_a_hostile_process),
					   T(what_the_file_does_not_take)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
