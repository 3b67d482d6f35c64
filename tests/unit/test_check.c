/* SPDX-License-Identifier: MIT */
/* What is said of a program file that cannot be run. */
#include "tests/unit/unit.h"

#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include "cpr/handover/check.h"
#include "vmm/base/base.h"

static char folder[32], path[64];
static struct error err;

static void write_text(const char *name, const char *text)
{
	int fd = open(name, O_WRONLY | O_CLOEXEC);
	if (fd >= 0)
		fd_write_all(fd, text, strlen(text));
	fd_close(&fd);
}

/* This process and its mounts are nobody else's from here on. -1: it may not. */
static int own_mounts(void)
{
	char map[32];
	uid_t uid = getuid();
	if (uid) {
		if (unshare(CLONE_NEWUSER))
			return -1;
		snprintf(map, sizeof(map), "0 %u 1", uid);
		write_text("/proc/self/uid_map", map);
	}
	return unshare(CLONE_NEWNS) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL);
}

static int setup(void **state)
{
	strcpy(folder, "/tmp/molt-check.XXXXXX");
	return mkdtemp(folder) ? 0 : -1;
}

static int teardown(void **state)
{
	umount(folder);
	unlink(path);
	return rmdir(folder);
}

static void make_file(unsigned mode)
{
	snprintf(path, sizeof(path), "%s/molt", folder);
	int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0700);
	assert_true(fd >= 0);
	assert_int_equal(fd_write_all(fd, "molt", 4), 0);
	assert_int_equal(fchmod(fd, mode), 0);
	close(fd);
	memset(&err, 0, sizeof(err));
}

static void assert_refused(const char *text, const char *hint)
{
	if (!strstr(err.text, path) || !strstr(err.text, text))
		fail_msg("'%s' does not say '%s'", err.text, text);
	if (!strstr(err.hint, hint))
		fail_msg("'%s' does not advise '%s'", err.hint, hint);
}

static void not_executable(void **state)
{
	make_file(0644);
	assert_int_equal(check_program(path, false, &err), -EACCES);
	assert_refused("not executable", "chmod 755");
}

/* Whatever its mode is. */
static void on_a_mount_with_noexec(void **state)
{
	if (own_mounts() || mount("none", folder, "tmpfs", MS_NOEXEC, NULL))
		skip();
	make_file(0755);
	assert_int_equal(check_program(path, false, &err), -EACCES);
	assert_refused("noexec", "remount,exec");
	make_file(0644);
	assert_int_equal(check_program(path, false, &err), -EACCES);
	assert_refused("noexec", "remount,exec");
}

static void no_program(void **state)
{
	strcpy(path, folder);
	assert_int_equal(check_program(path, false, &err), -EISDIR);
	assert_refused("a directory", "path of a molt");
	make_file(0755);
	assert_int_equal(truncate(path, 0), 0);
	assert_int_equal(check_program(path, false, &err), -ENOEXEC);
	assert_refused("is empty", "path of a molt");
	unlink(path);
	assert_int_equal(mkfifo(path, 0700), 0);
	assert_int_equal(check_program(path, false, &err), -ENOEXEC);
	assert_refused("not a regular file", "path of a molt");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(not_executable),
		TEST(on_a_mount_with_noexec),
		TEST(no_program),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
