/* SPDX-License-Identifier: MIT */
/* The control socket with its real thread: what the files test_control*.c share. The test is the leader, and the
 * clients. */
#ifndef MOLT_TESTS_CONTROL_H
#define MOLT_TESTS_CONTROL_H

#include "tests/unit/unit.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cpr/state/state.h"
#include "tests/unit/fds.h"
#include "vmm/base/json.h"
#include "vmm/base/pool.h"
#include "vmm/control/control.h"
#include "vmm/control/request.h"
#include "vmm/machine.h"

static struct machine m;
static struct control_request req;
static struct error err;
static char folder[32], path[64];
static sigset_t wake;

static inline int open_control(void)
{
	memset(&err, 0, sizeof(err));
	m.opt.control = path;
	return control_open(&m, &err);
}

static inline void start(void)
{
	if (open_control() || control_start(m.control, &err))
		fail_msg("%s", err.text);
}

static inline int client(void)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	strcpy(addr.sun_path, path);
	assert_int_equal(connect(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	return fd;
}

static inline void say(int fd, const char *text)
{
	assert_int_equal(send(fd, text, strlen(text), MSG_NOSIGNAL), strlen(text));
}

/* The next line, "" at the end of the connection. Waits: ctest's deadline ends what never comes. */
static inline const char *hear(int fd)
{
	static char line[16384];
	size_t n = 0;
	while (n < sizeof(line) - 1 && recv(fd, line + n, 1, 0) == 1 && line[n++] != '\n')
		;
	line[n] = 0;
	return line;
}

static inline bool closed(int fd)
{
	char c;
	return recv(fd, &c, 1, 0) <= 0;
}

static inline bool heard(int fd, const char *key, const char *part)
{
	char text[512];
	return strstr(json_text(json_get(hear(fd), key), text, sizeof(text)), part) != NULL;
}

/* The leader: sleeps until somebody asks something that makes sense. */
static inline void take(void)
{
	do
		assert_int_equal(sigwaitinfo(&wake, NULL), MACHINE_WAKE_SIGNAL);
	while (!control_take(m.control, &req));
}

static inline void answer(const char *text)
{
	control_answer(m.control, text, strlen(text));
}

/* Until the doorman has seen all that was sent before: a new client is served after those. */
static inline void settle(void)
{
	int fd = client();
	say(fd, "version\n");
	take();
	assert_int_equal(req.word, CONTROL_VERSION);
	answer("1\n");
	assert_string_equal(hear(fd), "1\n");
	close(fd);
}

static inline unsigned kept(const char *prefix)
{
	unsigned n = 0;
	pthread_mutex_lock(&m.lock);
	for (unsigned i = 0; i < m.fds.n; i++)
		n += !strncmp(m.fds.e[i].name, prefix, strlen(prefix));
	pthread_mutex_unlock(&m.lock);
	return n;
}

static int setup(void **state)
{
	memset(&m, 0, sizeof(m));
	pthread_mutex_init(&m.lock, NULL);
	m.leader = pthread_self();
	strcpy(folder, "/tmp/molt-control.XXXXXX");
	if (!mkdtemp(folder))
		return -1;
	snprintf(path, sizeof(path), "%s/sock", folder);
	return 0;
}

static int teardown(void **state)
{
	static const struct timespec none;
	char command[64];
	control_close(m.control); /* parked for good: then its descriptors may go */
	while (m.fds.n)
		fdset_close(&m.fds, m.fds.e[0].name);
	pool_free(m.fds.e);
	while (sigtimedwait(&wake, NULL, &none) > 0)
		;
	snprintf(command, sizeof(command), "rm -r %s", folder);
	return system(command);
}

static int block_wake(void **state)
{
	sigemptyset(&wake);
	sigaddset(&wake, MACHINE_WAKE_SIGNAL);
	return pthread_sigmask(SIG_BLOCK, &wake, NULL);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

#endif
