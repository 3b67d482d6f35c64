/* SPDX-License-Identifier: MIT */
/* `molt console`: this terminal and a guest's console. */
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>

#include "vmm/console/terminal.h"
#include "vmm/control/client.h"

#define CTRL_A 1

static const char help[] =
	"\r\nCtrl-a x  leave the console, and so does Ctrl-a d; the guest runs on\r\n"
	"Ctrl-a a  send Ctrl-a to the guest\r\n"
	"Ctrl-a ?  this help\r\n";

static void on_end(int sig)
{
	terminal_restore();
	_exit(128 + sig);
}

static void say(const char *text)
{
	fd_write_all(STDOUT_FILENO, text, strlen(text));
}

/* Takes escapes out of @n bytes, which become at most n + 1; -1: the user leaves. */
static int filter(const char *from, ssize_t n, char *to, bool *escape)
{
	int k = 0;
	for (ssize_t i = 0; i < n; i++) {
		char c = from[i];
		if (!*escape) {
			*escape = c == CTRL_A;
			if (c != CTRL_A)
				to[k++] = c;
			continue;
		}
		*escape = false;
		if (c == 'x' || c == 'd')
			return -1;
		if (c == '?') {
			say(help);
			continue;
		}
		to[k++] = CTRL_A;
		if (c != 'a' && c != CTRL_A)
			to[k++] = c;
	}
	return k;
}

/* False: it is over. A guest that reads nothing must not keep the user from leaving: then keys are dropped. */
static bool pass_input(int fd, bool terminal, bool *escape)
{
	char from[512], to[sizeof(from) + 1];
	ssize_t n = read(STDIN_FILENO, from, sizeof(from));
	if (n <= 0)
		return n < 0 && errno == EINTR;
	int k = terminal ? filter(from, n, to, escape) : (int)n;
	if (k > 0)
		send(fd, terminal ? to : from, (size_t)k,
		     MSG_NOSIGNAL | (terminal ? MSG_DONTWAIT : 0));
	return k >= 0;
}

/* 1: it was passed on. 0: the guest has ended. */
static int pass_output(int fd, struct error *err)
{
	char buf[4096];
	ssize_t n = read(fd, buf, sizeof(buf));
	if (n <= 0)
		return n < 0 && errno == EINTR;
	int rc = fd_write_all(STDOUT_FILENO, buf, (size_t)n);
	return rc ? error_errno(err, -rc, "standard output") : 1;
}

static int relay(int fd, bool terminal, struct error *err)
{
	struct pollfd p[] = {{.fd = STDIN_FILENO, .events = POLLIN}, {.fd = fd, .events = POLLIN}};
	bool escape = false;
	for (;;) {
		if (poll(p, ARRAY_LEN(p), -1) < 0 && errno != EINTR)
			return error_errno(err, errno, "waiting for the console");
		int rc = p[1].revents ? pass_output(fd, err) : 1;
		if (rc <= 0)
			return rc;
		if (p[0].revents && !pass_input(fd, terminal, &escape))
			return 0;
		p[0].revents = p[1].revents = 0;
	}
}

int client_console(int fd, struct error *err)
{
	static const int ends[] = {SIGTERM, SIGHUP, SIGINT};
	uint8_t saved[TERMINAL_STATE_LEN];
	bool terminal = terminal_usable(STDIN_FILENO);
	for (unsigned i = 0; i < ARRAY_LEN(ends); i++)
		if (signal(ends[i], on_end) == SIG_IGN)
			signal(ends[i], SIG_IGN);
	int rc = terminal ? terminal_raw(STDIN_FILENO, saved, err) : 0;
	if (!rc && terminal)
		say("attached; Ctrl-a ? helps, Ctrl-a x leaves\r\n");
	rc = rc ?: relay(fd, terminal, err);
	if (terminal)
		say("\r\n");
	terminal_restore();
	return rc;
}
