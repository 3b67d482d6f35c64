/* SPDX-License-Identifier: MIT */
/* The console's common part: the ring, input and its escapes, watching, state. */
#include "vmm/console/console.h"

#include <poll.h>
#include <signal.h>
#include <sys/epoll.h>

#include "vmm/console/backend.h"
#include "vmm/machine.h"

#define WRITE_MAX   1024 /* at once, where the descriptor may be one that blocks */
#define DROP_LEN    (CONSOLE_RING_LEN / 4)
#define CTRL_A	    1
#define QUIT_STATUS (128 + SIGTERM)
#define STUCK_NS    NS_PER_S /* a guest that takes no input for so long is not waited for */
#define READS_MAX   64	     /* at once: more than a terminal holds back */

static const struct console_backend *const backends[] = {
	&console_stdio, &console_file, &console_pty, &console_unix, &console_none,
};

static const struct field console_fields[] = {
	FIELD_U(struct console_state, escape),
	FIELD_U(struct console_state, raw),
	FIELD_U(struct console_state, refused),
	FIELD_U(struct console_state, unsent),
	FIELD_RAW(struct console_state, termios),
	FIELD_OPAQUE_LEN(struct console_state, in, in_len),
	FIELD_OPAQUE_LEN(struct console_state, ring, ring_len),
};
STATE_CLASS(console_state_class, "console", 1, struct console_state, console_fields);

static void on_input(void *opaque, uint32_t events);
static void on_output(void *opaque, uint32_t events);

/* --- watching --- */

/* A descriptor of which nothing is wanted is not watched at all: epoll would report its hangup for ever. */
static int watch_fd(struct console *con, int fd, uint32_t *now, uint32_t want, loop_handler handler)
{
	struct loop *loop = &con->m->loop;
	int rc = 0;
	if (fd < 0 || *now == want)
		return 0;
	if (!*now)
		rc = loop_add(loop, fd, want, handler, con, NULL);
	else if (!want)
		loop_remove(loop, fd);
	else
		rc = loop_modify(loop, fd, want);
	if (!rc)
		*now = want;
	return rc;
}

void console_watch(struct console *con)
{
	const struct console_state *s = &con->state;
	/* While input waits for the guest the host holds back the rest. A terminal tells of each new
	 * key all the same: it may be an escape. */
	uint32_t busy = con->terminal ? EPOLLIN | EPOLLET : 0;
	uint32_t in = con->unwatched ? 0 : s->in_len ? busy : EPOLLIN;
	uint32_t out = s->unsent ? EPOLLOUT : 0;
	int rc;

	if (!con->started)
		return;
	viewers_watch(con);
	if (con->in_fd == con->out_fd) {
		rc = watch_fd(con, con->in_fd, &con->in_events, in | out, on_input);
	} else {
		rc = watch_fd(con, con->in_fd, &con->in_events, in, on_input);
		/* EPERM: a regular file, which takes all at once. */
		watch_fd(con, con->out_fd, &con->out_events, out, on_output);
	}
	if (rc == -EPERM)
		con->unwatched = true;
	else if (rc && log_guest_ok(&con->complaints, 3))
		log_warn("console: cannot wait for input: %s", strerror(-rc));
}

void console_detach(struct console *con)
{
	watch_fd(con, con->in_fd, &con->in_events, 0, on_input);
	if (con->out_fd != con->in_fd)
		watch_fd(con, con->out_fd, &con->out_events, 0, on_output);
	con->in_fd = con->out_fd = -1;
}

/* --- output --- */

static void drop_oldest(struct console_state *s, uint32_t n)
{
	memmove(s->ring, s->ring + n, s->ring_len - n);
	s->ring_len -= n;
	explicit_bzero(s->ring + s->ring_len, n);
	if (s->unsent > s->ring_len)
		s->unsent = s->ring_len;
}

/* Makes room for @want bytes, as far as the back-end allows. */
static void make_room(struct console *con, uint32_t want)
{
	struct console_state *s = &con->state;
	uint32_t room = CONSOLE_RING_LEN - s->ring_len;
	if (want <= room)
		return;
	/* In large steps, so that a byte does not cost a move of the whole ring. */
	uint32_t n = want - room > DROP_LEN ? want - room : DROP_LEN;
	uint32_t limit = con->be->lossless ? s->ring_len - s->unsent : s->ring_len;
	if (n > limit)
		n = limit;
	if (n > s->ring_len - s->unsent) {
		con->m->counters.state.console_dropped += n - (s->ring_len - s->unsent);
		if (con->be->overflow)
			con->be->overflow(con);
	}
	drop_oldest(s, n);
}

/* What the host takes at once of [buf, buf + len), or -errno. poll first and little at a time: the
 * descriptor may be one that we share and so must not make non-blocking. */
static ssize_t host_write(int fd, const uint8_t *buf, size_t len)
{
	struct pollfd p = {.fd = fd, .events = POLLOUT};
	if (poll(&p, 1, 0) <= 0)
		return -EAGAIN;
	ssize_t n = write(fd, buf, len < WRITE_MAX ? len : WRITE_MAX);
	return n < 0 ? -errno : n;
}

static void send_unsent(struct console *con)
{
	struct console_state *s = &con->state;
	while (s->unsent && con->out_fd >= 0) {
		ssize_t n = host_write(con->out_fd, s->ring + s->ring_len - s->unsent, s->unsent);
		if (n == -EINTR)
			continue;
		if (n == -EAGAIN)
			break;
		if (n < 0 && con->be->hangup) {
			con->be->hangup(con);
			break;
		}
		if (n < 0) {
			if (!con->warned) {
				log_warn("--console %s: what the guest writes is lost: %s",
					 con->m->opt.console, strerror((int)-n));
				log_info("  remedy: make room for it; what comes later is written "
					 "again");
			}
			con->warned = true;
			con->m->counters.state.console_dropped += s->unsent;
			s->unsent = 0; /* a full disk may have room again for what comes next */
			break;
		}
		s->unsent -= (uint32_t)n;
	}
	if (con->out_fd < 0 && con->be->lossless)
		s->unsent = 0; /* there is nobody left to wait for */
	if (!s->unsent && !con->be->history) {
		explicit_bzero(s->ring, s->ring_len);
		s->ring_len = 0;
	}
}

size_t console_write(struct console *con, const uint8_t *buf, size_t len)
{
	struct console_state *s = &con->state;
	size_t done = 0;

	while (done < len) {
		uint32_t want = len - done < DROP_LEN ? (uint32_t)(len - done) : DROP_LEN;
		make_room(con, want);
		uint32_t room = CONSOLE_RING_LEN - s->ring_len, n = want < room ? want : room;
		memcpy(s->ring + s->ring_len, buf + done, n);
		s->ring_len += n;
		s->unsent += n;
		viewers_write(con, buf + done, n);
		done += n;
		send_unsent(con);
		if (!n && s->unsent == CONSOLE_RING_LEN) {
			s->refused = 1;
			break;
		}
	}
	console_watch(con);
	return done;
}

static void on_output(void *opaque, uint32_t events)
{
	struct console *con = opaque;
	struct console_state *s = &con->state;
	send_unsent(con);
	if (s->refused && s->unsent < CONSOLE_RING_LEN) {
		s->refused = 0;
		if (con->drained)
			con->drained(con->opaque);
	}
	console_watch(con);
}

void console_replay(struct console *con)
{
	struct console_state *s = &con->state;
	const uint8_t *line = NULL;
	if (s->ring_len > CONSOLE_RING_LEN - DROP_LEN) /* its start may be cut off */
		line = memchr(s->ring, '\n', s->ring_len);
	s->unsent = line ? s->ring_len - (uint32_t)(line + 1 - s->ring) : s->ring_len;
	send_unsent(con);
}

/* --- input --- */

static void show_help(struct console *con)
{
	static const char text[] = "\r\nCtrl-a x  end molt and the guest\r\n"
				   "Ctrl-a a  send Ctrl-a to the guest\r\n"
				   "Ctrl-a ?  this help\r\n";
	console_write(con, (const uint8_t *)text, sizeof(text) - 1);
}

/* Takes escapes out of @n bytes of a terminal, which become at most n + 1; the rest is the
 * guest's. */
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
			machine_end(con->m, QUIT_STATUS, "quit from the console");
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
	if (n)
		con->taken_ns = now_ns();
	memmove(s->in, s->in + n, s->in_len);
	explicit_bzero(s->in + s->in_len, n); /* it may have been a password */
}

bool console_stuck(const struct console *con)
{
	return con->state.in_len && now_ns() - con->taken_ns >= STUCK_NS;
}

/* Adds what fits to what waits for the guest. */
static void append(struct console *con, const uint8_t *buf, uint32_t n)
{
	struct console_state *s = &con->state;
	uint32_t room = CONSOLE_INPUT_LEN - s->in_len;
	if (!s->in_len)
		con->taken_ns = now_ns();
	if (n > room && log_guest_ok(&con->complaints, 3))
		log_warn("console: the guest reads no input: keys are dropped; Ctrl-a x ends it");
	if (n > room)
		n = room;
	memcpy(s->in + s->in_len, buf, n);
	s->in_len += n;
}

void console_type(struct console *con, const uint8_t *buf, uint32_t len)
{
	append(con, buf, len);
	deliver(con);
}

/* Reads once, if the guest has taken all that came before; from a terminal, for the escapes, also if the guest is
 * stuck. False: nothing came, or there is nothing any more. */
static bool read_input(struct console *con)
{
	struct console_state *s = &con->state;
	uint8_t buf[CONSOLE_INPUT_LEN - 1]; /* filter_escapes may add one */
	uint8_t keys[CONSOLE_INPUT_LEN];

	if (con->in_fd < 0 || (s->in_len && !(con->terminal && console_stuck(con))))
		return false;
	ssize_t n = read(con->in_fd, buf, sizeof(buf));
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return false;
	if (n <= 0) {
		if (con->be->hangup) {
			con->be->hangup(con);
		} else {
			watch_fd(con, con->in_fd, &con->in_events, 0, on_input);
			con->in_fd = -1; /* it stays in the table of kept ones */
		}
		return false;
	}
	if (con->terminal)
		append(con, keys, filter_escapes(con, buf, (uint32_t)n, keys));
	else
		append(con, buf, (uint32_t)n);
	explicit_bzero(buf, sizeof(buf));
	explicit_bzero(keys, sizeof(keys));
	deliver(con);
	return true;
}

/* Reads all that the terminal holds: with EPOLLET it only reports further keys. */
static void read_behind(struct console *con)
{
	struct pollfd p = {.fd = con->in_fd, .events = POLLIN};
	for (unsigned i = 0; i < READS_MAX && con->state.in_len; i++)
		if (poll(&p, 1, 0) <= 0 || !read_input(con))
			break;
}

static void on_time(void *opaque, uint32_t events)
{
	on_input(opaque, events | EPOLLIN);
}

/* A terminal that is full (4 KiB) tells of no further key, and an escape may be behind what it holds back: it is
 * looked at when the guest counts as stuck. */
static void look_again(struct console *con)
{
	struct pollfd p = {.fd = con->in_fd, .events = POLLIN};
	if (con->terminal && con->state.in_len && poll(&p, 1, 0) > 0 && (p.revents & POLLIN))
		loop_call_at(&con->m->loop, con->taken_ns + STUCK_NS, on_time, con);
}

static void on_input(void *opaque, uint32_t events)
{
	struct console *con = opaque;
	if (con->in_fd == con->out_fd && (events & EPOLLOUT))
		on_output(con, events);
	if (events & (EPOLLIN | EPOLLHUP | EPOLLERR)) {
		if (con->state.in_len)
			read_behind(con);
		else
			read_input(con);
		look_again(con);
	}
	console_watch(con);
}

void console_ready(struct console *con)
{
	deliver(con);
	while (con->started && con->unwatched && !con->delivering && read_input(con))
		;
	console_watch(con);
}

/* --- life --- */

void console_attach(struct console *con, console_reader reader, console_drained drained,
		    void *opaque)
{
	con->reader = reader;
	con->drained = drained;
	con->opaque = opaque;
}

/* Clears what a longer state, loaded before, has left behind the end of this one: it may be secret. */
static void clear_rest(uint8_t *buf, uint32_t len, uint32_t *before)
{
	if (*before > len)
		explicit_bzero(buf + len, *before - len);
	*before = len;
}

static int post_load(void *opaque, struct error *err)
{
	struct console *con = opaque;
	struct console_state *s = &con->state;
	clear_rest(s->ring, s->ring_len, &con->ring_loaded);
	clear_rest(s->in, s->in_len, &con->in_loaded);
	if (s->unsent > s->ring_len || s->escape > 1 || s->raw > 1 || s->refused > 1)
		return error_set(err, EBADMSG, "console: the state contradicts itself");
	if (con->be->reload)
		con->be->reload(con);
	viewers_load(con);
	con->terminal = s->raw && con->in_fd >= 0;
	return 0;
}

int console_keep(struct console *con, const char *name, int *fd, struct error *err)
{
	int rc = fdset_keep(&con->m->fds, name, *fd, err);
	if (rc) {
		close(*fd);
		*fd = -1;
	}
	return rc;
}

int console_open(struct machine *m, const char *spec, struct console **out, struct error *err)
{
	const char *colon = strchr(spec, ':');
	size_t n = colon ? (size_t)(colon - spec) : strlen(spec);
	struct console *con = pool_alloc(1, sizeof(*con));
	if (!con)
		return error_errno(err, ENOMEM, "console");
	con->m = m;
	con->in_fd = con->out_fd = con->listen_fd = -1;
	viewers_load(con);
	for (unsigned i = 0; i < ARRAY_LEN(backends); i++)
		if (!strncmp(backends[i]->name, spec, n) && !backends[i]->name[n])
			con->be = backends[i];
	con->arg = colon ? colon + 1 : NULL;
	int rc = con->be ? 0 : error_set(err, EINVAL, "console: no kind %.100s", spec);
	if (!rc && con->be->open)
		rc = con->be->open(con, con->arg, err);
	struct state_section section = {
		.node = "console",
		.cls = &console_state_class,
		.state = &con->state,
		.opaque = con,
		.post_load = post_load,
	};
	if (!rc)
		rc = state_register(&m->tree, &section, err);
	if (!rc && m->kept)
		rc = state_load_section(m->kept, &section, err);
	/* It is put back if something fails before it is started. */
	if (!rc && con->terminal && con->state.raw)
		terminal_adopt(con->in_fd, con->state.termios);
	if (rc) {
		pool_free(con);
		error_exit(err, EXIT_CONFIG);
		return rc;
	}
	*out = con;
	/* A reader of stdout that goes away must not take the guest along. */
	signal(SIGPIPE, SIG_IGN);
	return 0;
}

int console_start(struct console *con, struct error *err)
{
	int rc = 0;
	if (con->started) /* it was the event loop that failed before */
		return 0;
	pthread_mutex_lock(&con->m->lock);
	if (con->terminal && con->state.raw)
		terminal_adopt(con->in_fd, con->state.termios);
	if (con->terminal && !con->state.raw) {
		rc = terminal_raw(con->in_fd, con->state.termios, err);
		con->state.raw = !rc;
		if (rc == -EIO) /* closed already: SIGHUP says what becomes of the guest */
			rc = 0;
	}
	if (!rc && con->listen_fd >= 0)
		rc = loop_add(&con->m->loop, con->listen_fd, EPOLLIN, con->be->accept, con, err);
	if (!rc) {
		con->started = true;
		con->taken_ns = now_ns();
		on_output(con, 0);
		console_ready(con);
	}
	pthread_mutex_unlock(&con->m->lock);
	return rc;
}

int console_reopen(struct console *con, struct error *err)
{
	int fd = con->be->anew ? con->be->anew(con->arg, err) : 0;
	if (fd <= 0)
		return fd;
	pthread_mutex_lock(&con->m->lock);
	watch_fd(con, con->out_fd, &con->out_events, 0, on_output);
	int rc = fdset_replace(&con->m->fds, "console", fd, err);
	if (rc)
		close(fd);
	con->out_fd = rc ? -1 : fd;
	con->warned = false;
	on_output(con, 0); /* sends what the former file has not taken */
	pthread_mutex_unlock(&con->m->lock);
	return rc;
}

void console_close(struct console *con)
{
	send_unsent(con);
	terminal_restore();
	if (con->path[0])
		unlink(con->path);
	con->path[0] = 0;
}
