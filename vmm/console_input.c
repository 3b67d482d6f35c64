/* SPDX-License-Identifier: MIT */
/* The console's input: what the host sends, its escapes, and the reader it goes to. */
#include <signal.h>
#include <sys/epoll.h>

#include "vmm/console_backend.h"
#include "vmm/machine.h"

#define CTRL_A	    1
#define QUIT_STATUS (128 + SIGTERM)

static void show_help(struct console *con)
{
	static const char text[] = "\r\nCtrl-a x  end molt and the guest\r\n"
				   "Ctrl-a a  send Ctrl-a to the guest\r\n"
				   "Ctrl-a ?  this help\r\n";
	console_write(con, (const uint8_t *)text, sizeof(text) - 1);
}

/* Takes escapes out of what the terminal sent: @n bytes to at most n + 1. What is no escape goes on
 * to the guest, Ctrl-a included. */
static uint32_t filter_escapes(struct console *con, const uint8_t *from, uint32_t n, uint8_t *to)
{
	uint32_t k = 0;
	for (uint32_t i = 0; i < n; i++) {
		uint8_t c = from[i];
		if (!con->state.escape) {
			con->state.escape = c == CTRL_A;
			if (c != CTRL_A)
				to[k++] = c;
			continue;
		}
		con->state.escape = 0;
		if (c == 'x') {
			machine_stop(con->m, QUIT_STATUS, "quit from the console");
		} else if (c == '?') {
			show_help(con);
		} else {
			to[k++] = CTRL_A;
			if (c != 'a' && c != CTRL_A)
				to[k++] = c;
		}
	}
	return k;
}

static void deliver(struct console *con)
{
	struct console_state *s = &con->state;
	if (!s->in_len || !con->reader || con->delivering)
		return;
	con->delivering = true;
	size_t n = con->reader(con->opaque, s->in, s->in_len);
	con->delivering = false;
	s->in_len -= (uint32_t)n;
	memmove(s->in, s->in + n, s->in_len);
	explicit_bzero(s->in + s->in_len, n); /* it may have been a password */
}

/* Reads once, when the reader has taken all there was. Returns false at the end, for now or ever.
 */
static bool read_input(struct console *con)
{
	struct console_state *s = &con->state;
	uint8_t buf[CONSOLE_INPUT_LEN - 1]; /* filter_escapes may add one */

	if (s->in_len || con->in_fd < 0)
		return false;
	ssize_t n = read(con->in_fd, buf, sizeof(buf));
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return false;
	if (n <= 0) {
		if (con->be->hangup) {
			con->be->hangup(con);
		} else {
			console_watch_fd(con, con->in_fd, &con->in_events, 0, console_on_input);
			con->in_fd = -1; /* it stays in the table of kept ones */
		}
		return false;
	}
	if (con->terminal) {
		s->in_len = filter_escapes(con, buf, (uint32_t)n, s->in);
	} else {
		memcpy(s->in, buf, (size_t)n);
		s->in_len = (uint32_t)n;
	}
	explicit_bzero(buf, sizeof(buf));
	deliver(con);
	return true;
}

void console_on_input(void *opaque, uint32_t events)
{
	struct console *con = opaque;
	if (con->in_fd == con->out_fd && (events & EPOLLOUT))
		console_on_output(con, events);
	if (events & (EPOLLIN | EPOLLHUP | EPOLLERR))
		read_input(con);
	console_watch(con);
}

void console_ready(struct console *con)
{
	deliver(con);
	while (con->started && con->unwatched && !con->delivering && read_input(con))
		;
	console_watch(con);
}
