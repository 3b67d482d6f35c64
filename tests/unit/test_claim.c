/* SPDX-License-Identifier: MIT */
/* Paths of sockets and links: taken once, what the dead have left is replaced, and nothing else is touched. */
#include <fcntl.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "cpr/state/fdset.h"
#include "tests/unit/unit.h"
#include "vmm/claim.h"

static char dir[64], path[128], lock[136];
static struct fdset fds;
static struct error err;

static int setup(void **state)
{
	snprintf(dir, sizeof(dir), "%s", "/tmp/molt-test-claim.XXXXXX");
	assert_non_null(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/name", dir);
	snprintf(lock, sizeof(lock), "%s.lock", path);
	err = (struct error){0};
	return 0;
}

static int teardown(void **state)
{
	fdset_close(&fds, "lock");
	unlink(path);
	unlink(lock);
	return rmdir(dir);
}

static int claim(struct fdset *set, unsigned type)
{
	return claim_path(set, "lock", "--console", path, type, &err);
}

static bool exists(const char *name)
{
	struct stat st;
	return !lstat(name, &st);
}

/* The number of the file at @name. */
static ino_t number(const char *name)
{
	struct stat st;
	assert_int_equal(lstat(name, &st), 0);
	return st.st_ino;
}

static void assert_refused(int rc, int code, const char *text)
{
	assert_int_equal(rc, -code);
	assert_int_equal(err.exit, EXIT_CONFIG);
	assert_non_null(strstr(err.text, "--console"));
	if (!strstr(err.text, text))
		fail_msg("'%s' has no '%s'", err.text, text);
	assert_true(err.hint[0]);
}

static void test_twice(void **state)
{
	static struct fdset other;
	assert_int_equal(claim(&fds, S_IFSOCK), 0);
	assert_true(exists(lock));
	/* Another process holds another open file: here another set of descriptors does. */
	assert_refused(claim(&other, S_IFSOCK), EADDRINUSE, "is in use by");
	assert_int_equal(fdset_get(&other, "lock"), -1);
	fdset_close(&fds, "lock");
	assert_int_equal(claim(&other, S_IFSOCK), 0);
	fdset_close(&other, "lock");
}

/* The program that took over: its socket is there, and stays. */
static void test_ours_since_before(void **state)
{
	assert_int_equal(claim(&fds, S_IFSOCK), 0);
	int fd = claim_listen("--console", path, 1, &err);
	assert_true(fd >= 0);
	ino_t before = number(path);
	assert_int_equal(claim(&fds, S_IFSOCK), 0);
	assert_int_equal(number(path), before);
	close(fd);
}

static void test_stale_socket(void **state)
{
	int fd = claim_listen("--console", path, 1, &err);
	assert_true(fd >= 0);
	close(fd);
	assert_int_equal(claim(&fds, S_IFSOCK), 0);
	assert_false(exists(path));
}

/* Its owner may know nothing of our lock. */
static void test_live_socket(void **state)
{
	int fd = claim_listen("--console", path, 1, &err);
	assert_true(fd >= 0);
	assert_refused(claim(&fds, S_IFSOCK), EADDRINUSE, "is in use by");
	assert_true(exists(path));
	close(fd);
}

static void test_stale_link(void **state)
{
	assert_int_equal(symlink("/nowhere", path), 0);
	assert_int_equal(claim(&fds, S_IFLNK), 0);
	assert_false(exists(path));
}

/* A file of the user's, and a link to it, are not ours to remove. */
static void test_other_kind(void **state)
{
	int fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	close(fd);
	assert_refused(claim(&fds, S_IFSOCK), EEXIST, "exists and is no socket");
	fdset_close(&fds, "lock");
	assert_refused(claim(&fds, S_IFLNK), EEXIST, "exists and is no symbolic link");
	fdset_close(&fds, "lock");
	assert_int_equal(unlink(path), 0);
	assert_int_equal(symlink(lock, path), 0);
	assert_refused(claim(&fds, S_IFSOCK), EEXIST, "exists and is no socket");
	assert_true(exists(path));
}

/* A link in place of the lock would have another file created or opened. */
static void test_lock_is_a_link(void **state)
{
	assert_int_equal(symlink(path, lock), 0);
	assert_int_equal(claim(&fds, S_IFSOCK), -ELOOP);
	assert_false(exists(path));
}

static void test_lengths(void **state)
{
	const size_t longest = member_len(struct sockaddr_un, sun_path) - 1;
	char name[CLAIM_PATH_LEN + 1];
	memset(name, 'n', sizeof(name) - 1);
	name[sizeof(name) - 1] = 0;
	assert_refused(claim_path(&fds, "lock", "--console", name, S_IFLNK, &err), ENAMETOOLONG,
		       "longer than 255 bytes");
	name[longest + 1] = 0;
	assert_refused(claim_path(&fds, "lock", "--console", name, S_IFSOCK, &err), ENAMETOOLONG,
		       "longer than 107 bytes");
	/* The longest one reaches the file system, in a folder that is not there. */
	memcpy(name, "/none/", 6);
	name[longest] = 0;
	assert_int_equal(claim_path(&fds, "lock", "--console", name, S_IFSOCK, &err), -ENOENT);
}

/* Never open to others, not for a moment: the mode is the socket's own before it has a name. */
static void test_mode(void **state)
{
	struct stat st;
	mode_t before = umask(0);
	int fd = claim_listen("--console", path, 1, &err);
	umask(before);
	assert_true(fd >= 0);
	assert_int_equal(lstat(path, &st), 0);
	assert_int_equal(st.st_mode, S_IFSOCK | 0600);
	assert_int_equal(claim_listen("--console", path, 1, &err), -EADDRINUSE);
	close(fd);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_twice),		T(test_ours_since_before), T(test_stale_socket),
		T(test_live_socket),	T(test_stale_link),	   T(test_other_kind),
		T(test_lock_is_a_link), T(test_lengths),	   T(test_mode),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
