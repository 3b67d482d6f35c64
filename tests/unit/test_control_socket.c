/* SPDX-License-Identifier: MIT */
/* The control socket's name, and what comes over it beside lines. */
#include "tests/unit/control.h"

#define NOBODY 65534

/* ---- the socket's name ---- */

static void stale_and_live_sockets(void **state)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	static struct machine other;
	char lock[80];
	strcpy(addr.sun_path, path);
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	assert_int_equal(listen(fd, 1), 0);
	assert_int_equal(open_control(), -EADDRINUSE); /* of somebody who knows no lock */
	assert_int_equal(err.exit, EXIT_CONFIG);
	assert_null(m.control);
	fdset_close(&m.fds, "control-lock");
	close(fd);

	/* Of a molt that is about to listen. */
	snprintf(lock, sizeof(lock), "%s.lock", path);
	fd = open(lock, O_RDWR | O_CLOEXEC);
	assert_int_equal(flock(fd, LOCK_EX), 0);
	assert_int_equal(open_control(), -EADDRINUSE);
	assert_int_equal(access(path, F_OK), 0);
	close(fd);

	start(); /* nobody is behind it any more */
	settle();

	other.opt.control = path;
	pthread_mutex_init(&other.lock, NULL);
	assert_int_equal(control_open(&other, &err), -EADDRINUSE);
	assert_non_null(strstr(err.text, path));
	settle(); /* the first one is still served */
	control_close(m.control);
	assert_int_equal(access(path, F_OK), -1);
	pool_free(other.fds.e);
}

static void what_is_no_socket_stays(void **state)
{
	close(open(path, O_WRONLY | O_CREAT, 0600));
	assert_int_equal(open_control(), -EEXIST);
	assert_int_equal(access(path, F_OK), 0);
}

/* Two guests of one name. Root's are in /run/molt, which is not the test's. */
static void a_name_that_is_taken(void **state)
{
	static struct machine other;
	uid_t user = geteuid();
	setenv("XDG_RUNTIME_DIR", folder, 1);
	if (!user)
		assert_int_equal(chown(folder, NOBODY, NOBODY) || seteuid(NOBODY), 0);
	m.opt.control = NULL;
	m.opt.name = other.opt.name = "web";
	assert_int_equal(control_open(&m, &err) ?: control_start(m.control, &err), 0);
	pthread_mutex_init(&other.lock, NULL);
	assert_int_equal(control_open(&other, &err), -EADDRINUSE);
	assert_non_null(strstr(err.hint, "molt stop web"));
	m.opt.name = NULL;
	assert_int_equal(seteuid(user), 0);
	pool_free(other.fds.e);
}

static void no_socket_wanted(void **state)
{
	m.opt.control = "none";
	m.opt.name = "x";
	assert_int_equal(control_open(&m, &err), 0);
	m.opt.control = NULL;
	m.opt.name = NULL;
	assert_int_equal(control_open(&m, &err), 0);
	assert_null(m.control);
	assert_int_equal(control_start(m.control, &err), 0);
	assert_false(control_take(m.control, &req));
	control_park(m.control);
	control_unpark(m.control);
	control_answer(m.control, "x\n", 2);
	control_update_ended(m.control, "x\n", 2);
	control_close(m.control);
}

/* ---- descriptors ---- */

/* With @n descriptors. */
static void say_with(int fd, const char *text, unsigned n)
{
	union {
		struct cmsghdr align;
		char room[CMSG_SPACE(3 * sizeof(int))];
	} control = {0};
	struct iovec part = {(void *)text, strlen(text)};
	struct msghdr msg = {.msg_iov = &part,
			     .msg_iovlen = 1,
			     .msg_control = control.room,
			     .msg_controllen = CMSG_SPACE(n * sizeof(int))};
	struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(n * sizeof(int));
	for (unsigned i = 0; i < n; i++)
		memcpy(CMSG_DATA(c) + i * sizeof(int), &fd, sizeof(int));
	assert_int_equal(sendmsg(fd, &msg, MSG_NOSIGNAL), strlen(text));
}

/* Descriptors that nobody has a use for are closed. */
static void descriptors_come_along(void **state)
{
	start();
	int fd = client();
	while (kept("control-idle:") < 1) /* the doorman has let it in */
		sched_yield();
	unsigned before = fds_open();
	for (unsigned n = 1; n <= 3; n++) {
		say_with(fd, "console\n", n);
		take();
		assert_int_equal(req.word, CONTROL_CONSOLE);
		assert_true(req.peer >= 0);
		close(req.peer);
		answer("a\n");
		assert_string_equal(hear(fd), "a\n");
		say_with(fd, "status\n", n);
		take();
		assert_int_equal(req.peer, -1);
		answer("b\n");
		assert_string_equal(hear(fd), "b\n");
	}
	assert_int_equal(fds_open(), before);
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(stale_and_live_sockets), TEST(what_is_no_socket_stays),
		TEST(a_name_that_is_taken),   TEST(no_socket_wanted),
		TEST(descriptors_come_along),
	};
	return cmocka_run_group_tests(tests, block_wake, NULL);
}
