/* SPDX-License-Identifier: MIT */
/* Which of parent and worker an image is: said by the one that starts it, and by nobody else. */
#include "tests/unit/unit.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>

#include "cpr/handover/link.h"
#include "tests/unit/fds.h"

static int link_fd, peer_fd;

static int setup(void **state)
{
	link_fd = open("/dev/null", O_RDWR); /* not close-on-exec, as after exec */
	peer_fd = open("/dev/null", O_RDWR);
	unsetenv(ROLE_ENV);
	return 0;
}

static int teardown(void **state)
{
	unsetenv(ROLE_ENV);
	return close(link_fd) | close(peer_fd);
}

static struct role incoming(const char *value)
{
	setenv(ROLE_ENV, value, 1);
	return role_incoming();
}

static void assert_confused(const char *value)
{
	unsigned before = fds_open();
	struct role role = incoming(value);
	if (role.kind != ROLE_CONFUSED)
		fail_msg("'%s': role %d, %d, %d", value, role.kind, role.link, role.peer);
	assert_int_equal(role.link, -1);
	assert_int_equal(role.peer, -1);
	assert_null(getenv(ROLE_ENV));
	assert_int_equal(fds_open(), before);
}

static void without_the_variable(void **state)
{
	struct role role = role_incoming();
	assert_int_equal(role.kind, ROLE_PERSON);
	assert_int_equal(role.link, -1);
	assert_int_equal(role.peer, -1);
}

static void round_trip(void **state)
{
	for (enum role_kind kind = ROLE_PARENT; kind < ROLE_CONFUSED; kind++) {
		const struct role out = {.kind = kind,
					 .link = link_fd,
					 .peer = kind == ROLE_SUCCESSOR ? peer_fd : -1,
					 .worker = kind == ROLE_PARENT ? INT_MAX : 0};
		char text[ROLE_ENV_LEN];
		fcntl(link_fd, F_SETFD, 0);
		fcntl(peer_fd, F_SETFD, 0);
		role_format(text, &out);
		assert_int_equal(strncmp(text, ROLE_ENV "=", strlen(ROLE_ENV) + 1), 0);
		struct role in = incoming(text + strlen(ROLE_ENV) + 1);
		assert_int_equal(in.kind, kind);
		assert_int_equal(in.link, out.link);
		assert_int_equal(in.peer, out.peer);
		assert_int_equal(in.worker, out.worker);
		assert_null(getenv(ROLE_ENV)); /* children of this image are told their own */
		assert_int_equal(fcntl(link_fd, F_GETFD), FD_CLOEXEC);
		assert_int_equal(fcntl(peer_fd, F_GETFD), kind == ROLE_SUCCESSOR ? FD_CLOEXEC : 0);
	}
}

/* A worker that begins its guest anew. */
static void a_worker_with_what_was_left(void **state)
{
	const struct role out = {.kind = ROLE_WORKER, .link = link_fd, .peer = peer_fd};
	char text[ROLE_ENV_LEN];
	role_format(text, &out);
	struct role in = incoming(text + sizeof(ROLE_ENV));
	assert_int_equal(in.kind, ROLE_WORKER);
	assert_int_equal(in.peer, peer_fd);
	assert_int_equal(fcntl(peer_fd, F_GETFD), FD_CLOEXEC);
	snprintf(text, sizeof(text), "worker,%d,%d,0", link_fd, link_fd);
	assert_confused(text);
	snprintf(text, sizeof(text), "worker,%d,1000000,0", link_fd);
	assert_confused(text);
}

static void the_longest(void **state)
{
	const struct role role = {
		.kind = ROLE_REHEARSAL, .link = INT_MIN, .peer = INT_MIN, .worker = INT_MIN};
	char text[ROLE_ENV_LEN];
	role_format(text, &role);
	assert_non_null(strstr(text, "-2147483648,-2147483648,-2147483648"));
}

/* Each with a descriptor that is open, so that it is the text that is refused. */
static void texts(void **state)
{
	static const char *const formats[] = {
		"",
		",",
		"worker",
		"worker,",
		"worker,%d",
		"worker,%d,-1",
		"worker,%d,-1,",
		"worker,%d,-1,0,",
		"worker,%d,-1,0 ",
		"worker,%d,-1,0x",
		"worker,%d,-1,0\n",
		"worker, %d,-1,0",
		"worker,+%d,-1,0",
		"worker,0%d,-1,0",
		"worker,%d,-1,00",
		"worker,%d.0,-1,0",
		" worker,%d,-1,0",
		"Worker,%d,-1,0",
		"person,%d,-1,0",
		"confused,%d,-1,0",
		"workerworkerworker,%d,-1,0",
		"%d,-1,0",
		"parent,%d,-1,0", /* of no worker; and kill(2) of -1 is everybody */
		"parent,%d,-1,-1",
		"parent,%d,-1,99999999999",
		"successor,%d,-1,0",
		"successor,%d,0,0",
		"successor,%d,1000000,0",
	};
	char text[128];
	for (unsigned i = 0; i < ARRAY_LEN(formats); i++) {
		snprintf(text, sizeof(text), formats[i], link_fd);
		assert_confused(text);
	}
	snprintf(text, sizeof(text), "successor,%d,%d,0", link_fd, link_fd);
	assert_confused(text);
	char *huge = malloc(100001);
	memset(huge, '7', 100000);
	huge[100000] = 0;
	assert_confused(huge);
	memset(huge, 'a', 100000);
	assert_confused(huge);
	free(huge);
}

static void numbers(void **state)
{
	static const char *const values[] = {
		"0",	       "1",	     "2",	"-1",
		"-2147483648", "2147483647", "1000000", "99999999999999999999"};
	char text[128];
	for (unsigned i = 0; i < ARRAY_LEN(values); i++) {
		snprintf(text, sizeof(text), "worker,%s,-1,0", values[i]);
		assert_confused(text);
		snprintf(text, sizeof(text), "successor,%d,%s,0", link_fd, values[i]);
		assert_confused(text);
	}
	/* An open descriptor, but for the bits above an int. */
	snprintf(text, sizeof(text), "worker,%lld,-1,0", (1ll << 32) + link_fd);
	assert_confused(text);
	/* Standard output is as it was. */
	assert_int_equal(fcntl(STDOUT_FILENO, F_GETFD), 0);
	assert_int_equal(fcntl(STDERR_FILENO, F_GETFD), 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(without_the_variable), TEST(round_trip), TEST(a_worker_with_what_was_left),
		TEST(the_longest),	    TEST(texts),      TEST(numbers),
	};
	return cmocka_run_group_tests_name("link", tests, NULL, NULL);
}
