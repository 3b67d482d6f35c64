/* SPDX-License-Identifier: MIT */
/* For the console's tests: a machine with a serial port that takes what it is told to, and an event
 * loop that the test turns by hand. */
#ifndef MOLT_TESTS_CONSOLE_H
#define MOLT_TESTS_CONSOLE_H

#include "tests/unit/unit.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include "vmm/base/pool.h"
#include "vmm/console/backend.h"
#include "vmm/machine.h"

/* --- the fakes --- */

static struct {
	int fd;
	loop_handler handler;
	void *opaque;
} watches[8];
static int epoll_fd = -1;

static int stopped;
static int loop_error; /* what adding a descriptor fails with, negative */

void machine_end(struct machine *m, int code, const char *reason)
{
	stopped = code;
}

static inline int watch_of(int fd)
{
	for (int i = 0; i < 8; i++)
		if (watches[i].handler && watches[i].fd == fd)
			return i;
	return -1;
}

int loop_add(struct loop *loop, int fd, uint32_t events, loop_handler handler, void *opaque,
	     struct error *err)
{
	struct stat st;
	int i = 0;
	assert_int_equal(watch_of(fd), -1);
	assert_int_equal(fstat(fd, &st), 0);
	if (S_ISREG(st.st_mode))
		return -EPERM;
	if (loop_error)
		return loop_error;
	while (watches[i].handler)
		i++;
	watches[i].fd = fd;
	watches[i].handler = handler;
	watches[i].opaque = opaque;
	struct epoll_event ev = {.events = events, .data.u32 = (uint32_t)i};
	assert_int_equal(epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &ev), 0);
	return 0;
}

int loop_modify(struct loop *loop, int fd, uint32_t events)
{
	int i = watch_of(fd);
	assert_int_not_equal(i, -1);
	struct epoll_event ev = {.events = events, .data.u32 = (uint32_t)i};
	return epoll_ctl(epoll_fd, EPOLL_CTL_MOD, fd, &ev);
}

void loop_remove(struct loop *loop, int fd)
{
	int i = watch_of(fd);
	assert_int_not_equal(i, -1);
	watches[i].handler = NULL;
	assert_int_equal(epoll_ctl(epoll_fd, EPOLL_CTL_DEL, fd, NULL), 0);
}

static loop_handler timer;
static void *timer_opaque;

void loop_call_at(struct loop *loop, uint64_t at_ns, loop_handler handler, void *opaque)
{
	timer = handler;
	timer_opaque = opaque;
}

/* The timer's time has come. False: there is none. */
static inline bool time_passes(void)
{
	loop_handler now = timer;
	timer = NULL;
	if (now)
		now(timer_opaque, 0);
	return now;
}

/* Forgets all that is watched, as a new program does. */
static inline void loop_renew(void)
{
	timer = NULL;
	memset(watches, 0, sizeof(watches));
	close(epoll_fd);
	epoll_fd = epoll_create1(EPOLL_CLOEXEC);
}

/* Runs handlers until nothing is ready any more; a loop that never rests fails. */
static inline void turn(void)
{
	struct epoll_event ev;
	for (int round = 0; round < 8000; round++) {
		if (epoll_wait(epoll_fd, &ev, 1, 0) <= 0)
			return;
		watches[ev.data.u32].handler(watches[ev.data.u32].opaque, ev.events);
	}
	fail_msg("the event loop never rests");
}

/* --- a machine with a serial port that takes what it is told to --- */

static struct machine m;
static struct error err;
static char got[65536];
static size_t ngot, appetite;
static int drained;
static char folder[32];
static int saved_in = -1, saved_out = -1;

static inline size_t reader(void *opaque, const uint8_t *buf, size_t len)
{
	size_t n = len < appetite ? len : appetite;
	memcpy(got + ngot, buf, n);
	ngot += n;
	appetite -= n;
	return n;
}

static inline void on_drained(void *opaque)
{
	drained++;
}

static inline int open_console(const char *spec)
{
	memset(&err, 0, sizeof(err));
	m.console = NULL;
	m.opt.console = spec;
	int rc = console_open(&m, spec, &m.console, &err);
	if (!rc)
		console_attach(m.console, reader, on_drained, NULL);
	return rc;
}

static inline void start(const char *spec)
{
	if (open_console(spec) || console_start(m.console, &err))
		fail_msg("console %s: %s", spec, err.text);
}

static inline size_t guest_writes(const char *text)
{
	return console_write(m.console, (const uint8_t *)text, strlen(text));
}

/* What the update does to a console: state out, program gone, descriptors stay, state in. */
static inline void take_over(const char *spec)
{
	static uint64_t blob_data[16384];
	static const struct state_header header = {"v", "b"};
	static struct state_blob blob;
	struct fdset fds = {0};
	size_t len;

	if (state_save(&m.tree, &m.fds, &header, blob_data, sizeof(blob_data), &len, &err))
		fail_msg("save: %s", err.text);
	loop_renew();
	pool_free(m.console);
	pool_free(m.fds.e);
	m.fds = fds;
	m.tree.n = 0;
	assert_int_equal(state_open(&blob, blob_data, len, &err), 0);
	if (fdset_list(&m.fds, &blob, &err))
		fail_msg("adopt: %s", err.text);
	assert_int_equal(open_console(spec), 0);
	if (state_load(&blob, &m.tree, &err))
		fail_msg("load: %s", err.text);
	for (unsigned i = 0; i < m.fds.n; i++)
		if (!m.fds.e[i].taken)
			fail_msg("descriptor %s was not taken", m.fds.e[i].name);
	assert_int_equal(console_start(m.console, &err), 0);
}

static inline int setup(void **state)
{
	loop_renew();
	memset(&m, 0, sizeof(m));
	pthread_mutex_init(&m.lock, NULL);
	ngot = 0;
	appetite = sizeof(got);
	drained = stopped = loop_error = 0;
	saved_in = fcntl(0, F_DUPFD_CLOEXEC, 100);
	saved_out = fcntl(1, F_DUPFD_CLOEXEC, 100);
	strcpy(folder, "/tmp/molt-console.XXXXXX");
	return mkdtemp(folder) ? 0 : -1;
}

static inline int teardown(void **state)
{
	char command[64];
	terminal_restore();
	while (m.fds.n)
		fdset_close(&m.fds, m.fds.e[0].name);
	pool_free(m.fds.e);
	pool_free(m.console);
	dup2(saved_in, 0);
	dup2(saved_out, 1);
	close(saved_in);
	close(saved_out);
	snprintf(command, sizeof(command), "rm -r %s", folder);
	return system(command);
}

/* All that is readable at @fd now, NUL-terminated. */
static inline const char *read_all(int fd)
{
	static char buf[262144];
	size_t n = 0;
	struct pollfd p = {.fd = fd, .events = POLLIN};
	while (poll(&p, 1, 0) > 0 && (p.revents & POLLIN)) {
		ssize_t k = read(fd, buf + n, sizeof(buf) - 1 - n);
		if (k <= 0)
			break;
		n += (size_t)k;
	}
	buf[n] = 0;
	return buf;
}

static inline void put(int fd, const char *text)
{
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
}

/* Puts pipes in the place of stdin and stdout; the ends to use are in to[1] and from[0]. */
static inline void pipes(int to[2], int from[2])
{
	assert_int_equal(pipe2(to, O_CLOEXEC), 0);
	assert_int_equal(pipe2(from, O_CLOEXEC), 0);
	dup2(to[0], 0);
	dup2(from[1], 1);
	close(to[0]);
	close(from[1]);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

#endif
