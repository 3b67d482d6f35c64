/* SPDX-License-Identifier: MIT */
#include "tests/unit/unit.h"

#include <errno.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "vmm/notify.h"

static char folder[32], path[64];
static int supervisor = -1;

static void listen_at(const char *name)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	strcpy(addr.sun_path, name);
	if (name[0] == '@')
		addr.sun_path[0] = 0;
	supervisor = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(supervisor, (struct sockaddr *)&addr,
			      (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(name))),
			 0);
	setenv("NOTIFY_SOCKET", name, 1);
}

static const char *received(void)
{
	static char text[2048];
	ssize_t n = recv(supervisor, text, sizeof(text) - 1, MSG_DONTWAIT);
	text[n > 0 ? n : 0] = 0;
	return text;
}

static void at_a_path(void **state)
{
	listen_at(path);
	notify_send("READY=1", "update %d", 7);
	assert_string_equal(received(), "READY=1\nSTATUS=update 7");
	notify_send("", "waiting");
	assert_string_equal(received(), "STATUS=waiting");
}

static void at_an_abstract_name(void **state)
{
	char name[64];
	snprintf(name, sizeof(name), "@molt-test-%d", (int)getpid());
	listen_at(name);
	notify_send("STOPPING=1", "x");
	assert_string_equal(received(), "STOPPING=1\nSTATUS=x");
}

static void around_an_update(void **state)
{
	uint64_t before = now_ns() / 1000;
	unsigned long long us;
	listen_at(path);
	notify_reloading();
	assert_int_equal(
		sscanf(received(), "RELOADING=1\nMONOTONIC_USEC=%llu\nSTATUS=updating", &us), 1);
	assert_true(us >= before && us <= now_ns() / 1000);
}

/* A reason may come from a program that is not trusted. */
static void a_status_is_one_line(void **state)
{
	listen_at(path);
	notify_send("READY=1", "%s", "failed\nMAINPID=1\r\x01");
	assert_string_equal(received(), "READY=1\nSTATUS=failed MAINPID=1  ");
	static char big[5000];
	memset(big, 'x', sizeof(big) - 1);
	notify_send("READY=1", "%s", big);
	assert_int_equal(strlen(received()), 1023);
}

static void nobody_there(void **state)
{
	static const char *const names[] = {"/nowhere/at/all", "relative", "", "@", "vsock:2:1"};
	unsetenv("NOTIFY_SOCKET");
	notify_send("READY=1", "x");
	for (unsigned i = 0; i < ARRAY_LEN(names); i++) {
		setenv("NOTIFY_SOCKET", names[i], 1);
		notify_send("READY=1", "x");
	}
	char name[300];
	memset(name, '/', sizeof(name) - 1);
	name[sizeof(name) - 1] = 0;
	setenv("NOTIFY_SOCKET", name, 1);
	notify_send("READY=1", "x");
}

/* It never waits, so this test ends. */
static void nobody_reads(void **state)
{
	listen_at(path);
	for (int i = 0; i < 10000; i++)
		notify_send("READY=1", "update %d", i);
	assert_string_equal(received(), "READY=1\nSTATUS=update 0");
}

static int setup(void **state)
{
	strcpy(folder, "/tmp/molt-notify.XXXXXX");
	if (!mkdtemp(folder))
		return -1;
	snprintf(path, sizeof(path), "%s/notify", folder);
	return 0;
}

static int teardown(void **state)
{
	if (supervisor >= 0)
		close(supervisor);
	supervisor = -1;
	unlink(path);
	return rmdir(folder);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(at_a_path),	TEST(at_an_abstract_name),
		TEST(around_an_update), TEST(a_status_is_one_line),
		TEST(nobody_there),	TEST(nobody_reads),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
