/* SPDX-License-Identifier: MIT */
/* molt console on terminals of its own: two clients beside the guest's console, over updates; each way out puts the
 * terminal back. */
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include "tests/guest/cases/drives.h"
#include "tests/guest/runner/session.h"

#define BOOT_MS 30000
#define WAIT_MS 20000
#define CLIENTS 2

static struct client {
	int master, terminal;
	pid_t pid;
	struct termios before;
	char text[8192];
	size_t len;
} clients[CLIENTS];

static int attach(struct session *s, struct client *c)
{
	char path[96];
	int on = 0;
	*c = (struct client){.master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC)};
	if (c->master < 0 || ioctl(c->master, TIOCSPTLCK, &on))
		return session_fail(s, "no terminal");
	c->terminal = ioctl(c->master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
	tcgetattr(c->terminal, &c->before);
	snprintf(path, sizeof(path), "%s/ctl", s->dir);
	c->pid = fork();
	if (!c->pid) {
		setsid();
		for (int fd = 0; fd <= 2; fd++)
			dup2(c->terminal, fd);
		ioctl(0, TIOCSCTTY, 0);
		execl(s->set->molt, s->set->molt, "console", path, NULL);
		_exit(126);
	}
	return 0;
}

/* Until the client shows @part, from here on. */
static int shows(struct session *s, struct client *c, const char *part)
{
	uint64_t until = clock_ns() + WAIT_MS * 1000000ull * s->set->slow;
	struct pollfd p = {.fd = c->master, .events = POLLIN};
	char *found;
	while (!(found = strstr(c->text, part))) {
		if (clock_ns() > until || c->len == sizeof(c->text) - 1)
			return session_fail(s, "a client does not show '%s': '%.300s'", part,
					    c->text);
		if (poll(&p, 1, 10) <= 0)
			continue;
		ssize_t n = read(c->master, c->text + c->len, sizeof(c->text) - 1 - c->len);
		if (n <= 0)
			return session_fail(s, "a client has ended");
		c->len += (size_t)n;
	}
	found += strlen(part);
	c->len -= (size_t)(found - c->text);
	memmove(c->text, found, c->len + 1);
	memset(c->text + c->len, 0, sizeof(c->text) - c->len);
	return 0;
}

static int type(struct session *s, struct client *c, const char *keys)
{
	return write(c->master, keys, strlen(keys)) == (ssize_t)strlen(keys)
		       ? 0
		       : session_fail(s, "typing");
}

/* What one of them asks, all see. */
static int all_see(struct session *s, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		if (type(s, &clients[i], "r"))
			return -1;
		for (unsigned k = 0; k < n; k++)
			if (shows(s, &clients[k], "GAP "))
				return -1;
		if (session_expect(s, "GAP ", WAIT_MS))
			return -1;
	}
	if (session_ask(s, 'r', "GAP "))
		return -1;
	for (unsigned k = 0; k < n; k++)
		if (shows(s, &clients[k], "GAP "))
			return -1;
	return 0;
}

static int is_raw(struct session *s, const struct client *c, bool raw)
{
	struct termios now = {0}; /* the kernel fills less than the C library has */
	tcgetattr(c->terminal, &now);
	if (raw)
		return now.c_lflag & ICANON ? session_fail(s, "the terminal is not raw") : 0;
	return memcmp(&now, &c->before, sizeof(now))
		       ? session_fail(s, "the terminal is not put back")
		       : 0;
}

static int leaves(struct session *s, struct client *c, int status)
{
	uint64_t until = clock_ns() + WAIT_MS * 1000000ull * s->set->slow;
	int is;
	while (waitpid(c->pid, &is, WNOHANG) != c->pid)
		if (clock_ns() > until || session_idle(s) || usleep(10000))
			return session_fail(s, "the client does not end");
	if (!WIFEXITED(is) || WEXITSTATUS(is) != status)
		return session_fail(s, "the client has ended with %x", (unsigned)is);
	int rc = is_raw(s, c, false);
	close(c->master);
	close(c->terminal);
	return rc;
}

static int come(struct session *s, struct client *c)
{
	return attach(s, c) || shows(s, c, "attached") || is_raw(s, c, true) ? -1 : 0;
}

int drive_console(struct session *s, unsigned updates)
{
	struct client *one = &clients[0], *two = &clients[1];
	if (session_expect(s, "READY", BOOT_MS) || come(s, one) || come(s, two) || all_see(s, 2))
		return -1;
	for (unsigned i = 0; i < updates; i++)
		if (session_update(s) || all_see(s, 2))
			return -1;
	/* Each way to leave it; the other one and the guest stay. */
	if (type(s, two, "\001?") || shows(s, two, "this help") || type(s, two, "\001d") ||
	    leaves(s, two, 0) || all_see(s, 1) || come(s, two) || all_see(s, 2) ||
	    type(s, two, "\001x") || leaves(s, two, 0) || come(s, two) || kill(two->pid, SIGTERM) ||
	    leaves(s, two, 128 + SIGTERM) || session_update(s) || all_see(s, 1))
		return -1;
	/* And the guest's end. */
	if (session_send(s, "q", 1) || shows(s, one, "PASS"))
		return -1;
	if (session_finish(s))
		return -1;
	char pass[SESSION_LINE];
	memcpy(pass, s->line, sizeof(pass));
	int status;
	waitpid(one->pid, &status, 0);
	if (!WIFEXITED(status) || WEXITSTATUS(status) || is_raw(s, one, false))
		return session_fail(s, "the guest's end: %x, %s", (unsigned)status, s->error);
	memcpy(s->line, pass, sizeof(pass));
	return 0;
}
