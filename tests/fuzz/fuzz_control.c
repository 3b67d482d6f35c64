/* SPDX-License-Identifier: MIT */
/*
 * The control socket as its peers see it: they connect, send lines in pieces, read or do not, shut down,
 * hang up; the leader serves or is late; updates come in between. The doorman's thread is this one:
 * its handlers run when the input says. Whoever sent whole lines, and stayed, gets as many answers; and
 * no connection outlives its peer.
 */
#include "tests/fuzz/fuzz.h"

#include <errno.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "vmm/base/pool.h"
#include "vmm/control/server.h"

#define PEERS	    8 /* fewer than there is room for, unless the leader is late with those who left */
#define MAX_PIECE   32
#define MAX_UPDATES 4 /* of one input */

static const char *const words[] = {
	"status",
	"update",
	"stop",
	"events",
	"version",
	" check",
	" exe=",
	"/bin/molt",
	"\n",
	"status\n",
	"events\n",
	"update\n",
	"update check exe=/a b\n",
	"version\n",
};

static struct peer {
	int fd; /* -1: none */
	bool shut;
	unsigned lines, answers; /* sent, received */
	bool events;		 /* is told more than it asked for */
	size_t sent;		 /* since its last newline */
	bool bad;		 /* sent a line that is too long: it may be dropped */
	bool gone;		 /* molt has hung up */
} peers[PEERS];

static struct machine m;
static char path[CONTROL_PATH_LEN];
static bool
	crowded; /* there was no room left: an idle peer may have had to go, or one that comes waits */

/* What vmm/loop.c's thread does in one round, without waiting. */
static bool doorman(void)
{
	struct epoll_event ev[16];
	struct loop *loop = &m.control->loop;
	int n = epoll_wait(loop->epoll_fd, ev, ARRAY_LEN(ev), 0);
	pthread_mutex_lock(&m.control->lock);
	for (int i = 0; i < n; i++) {
		struct loop_watch *w = ev[i].data.ptr;
		if (!w->dead)
			w->handler(w->opaque, ev[i].events);
	}
	crowded = crowded || !control_find_free(m.control);
	bool waited = loop->timer_ns; /* for room: however long */
	if (waited) {
		loop->timer_ns = 0;
		loop->timer(loop->timer_opaque, 0);
	}
	bool came = waited && !loop->timer_ns;
	pthread_mutex_unlock(&m.control->lock);
	return n > 0 || came;
}

static void say(const char *text)
{
	control_answer(m.control, text, strlen(text));
}

static bool somebody_asks(void)
{
	for (unsigned i = 0; i < CONTROL_CLIENTS; i++)
		if (m.control->clients[i].line_len)
			return true;
	return false;
}

/* What cpr/handover/serve.c does; an update ends at once. */
static bool leader(void)
{
	struct control_request req;
	if (!somebody_asks())
		return false;
	if (!control_take(m.control, &req))
		return true; /* it made no sense, and was answered */
	fuzz_expect(req.word <= CONTROL_TAKE && memchr(req.exe, 0, sizeof(req.exe)) &&
			    (!req.exe[0] || req.exe[0] == '/'),
		    "word %d", req.word);
	fuzz_expect(req.word == CONTROL_UPDATE || (!req.check && !req.exe[0]), "details");
	fuzz_expect(req.word == CONTROL_TAKE || req.peer < 0, "a peer");
	fd_close(&req.peer);
	if (req.word == CONTROL_UPDATE && !req.check) {
		control_await_update(m.control);
		control_update_ended(m.control, "{\"event\":\"update\"}\n", 19);
		return true;
	}
	if (req.word == CONTROL_EVENTS)
		control_subscribe(m.control);
	say("{\"event\":\"answer\"}\n");
	return true;
}

static void open_control(void)
{
	struct error err = {0};
	m.opt.control = path;
	fuzz_expect(!control_open(&m, &err), "%s", err.text);
	/* As control_start, without its thread. */
	fuzz_expect(!control_watch(m.control, &err), "%s", err.text);
}

static void close_control(void)
{
	struct loop *loop = &m.control->loop;
	close(loop->epoll_fd);
	for (struct loop_watch *w; (w = loop->watches);) {
		loop->watches = w->next;
		free(w);
	}
	pool_free(m.control);
	m.control = NULL;
}

/* The next program finds the descriptors by their names, and takes all of them. */
static void update(void)
{
	close_control();
	for (unsigned i = 0; i < m.fds.n; i++)
		m.fds.e[i].taken = false;
	open_control();
	for (unsigned i = 0; i < m.fds.n; i++)
		fuzz_expect(m.fds.e[i].taken, "%s", m.fds.e[i].name);
}

/* ---- the peers ---- */

static void peer_connect(struct peer *p)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	if (p->fd >= 0)
		return;
	*p = (struct peer){.fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)};
	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", path);
	if (connect(p->fd, (struct sockaddr *)&addr, sizeof(addr)) < 0) { /* too many wait */
		close(p->fd);
		p->fd = -1;
	}
}

static void peer_send(struct peer *p, const char *text, size_t len)
{
	ssize_t n = p->fd < 0 || p->shut ? 0 : send(p->fd, text, len, MSG_NOSIGNAL);
	for (ssize_t i = 0; i < n; i++) {
		if (text[i] != '\n') {
			p->bad = p->bad || ++p->sent >= CONTROL_LINE_LEN;
			continue;
		}
		p->lines++;
		p->sent = 0;
	}
}

static void peer_read(struct peer *p)
{
	char text[4096];
	ssize_t n = -1;
	errno = EAGAIN;
	while (p->fd >= 0 && (n = recv(p->fd, text, sizeof(text), 0)) > 0)
		for (ssize_t i = 0; i < n; i++)
			p->answers += text[i] == '\n';
	p->gone = p->gone || n >= 0 || errno != EAGAIN;
}

/* One round of the doorman's or the leader's. Everybody reads: who does not is dropped, and rightly. */
static bool serve(bool by_doorman)
{
	bool did = by_doorman ? doorman() : leader();
	for (unsigned i = 0; i < PEERS; i++)
		peer_read(&peers[i]);
	return did;
}

static void peer_close(struct peer *p)
{
	if (p->fd >= 0)
		close(p->fd);
	p->fd = -1;
}

static void act(struct input *in, unsigned *updates)
{
	unsigned op = input_below(in, 12);
	struct peer *p = &peers[input_below(in, PEERS)];
	char piece[MAX_PIECE], big[512];
	switch (op) {
	case 0:
	case 1:
		peer_connect(p);
		break;
	case 2:
	case 3:
	case 4: {
		const char *word = words[input_below(in, ARRAY_LEN(words))];
		p->events |= strstr(word, "events") != NULL;
		peer_send(p, word, strlen(word));
		break;
	}
	case 5: {
		size_t len = input_below(in, sizeof(piece) + 1);
		input_bytes(in, piece, len);
		p->events = true; /* it may spell it */
		peer_send(p, piece, len);
		break;
	}
	case 6:
		memset(big, 'a', sizeof(big));
		peer_send(p, big, sizeof(big));
		break;
	case 7:
		if (p->fd >= 0) {
			shutdown(p->fd, SHUT_WR);
			p->shut = true;
		}
		break;
	case 8:
		peer_close(p);
		break;
	case 9:
		serve(true);
		break;
	case 10:
		serve(false);
		break;
	default:
		if ((*updates)++ < MAX_UPDATES)
			update();
		control_publish(m.control, "{\"event\":\"x\"}\n", 14);
	}
}

/* Everything that was sent is served; then who is still there has its answers. */
static void settle(void)
{
	while (serve(true) || serve(false))
		;
	for (struct peer *p = peers; p < peers + PEERS; p++) {
		if (p->fd < 0)
			continue;
		fuzz_expect(!p->gone || p->shut || p->bad || crowded, "a peer was hung up on");
		fuzz_expect(p->answers >= p->lines || p->gone || crowded, "%u answers to %u lines",
			    p->answers, p->lines);
		/* A line that never ended is answered as well, and who finds no room. */
		fuzz_expect(p->events || crowded || p->answers <= p->lines + (p->shut || p->bad),
			    "%u answers to %u lines", p->answers, p->lines);
	}
}

static char folder[] = "/tmp/molt-fuzz.XXXXXX";

static void clean_up(void)
{
	char lock[CONTROL_PATH_LEN + 8];
	snprintf(lock, sizeof(lock), "%s.lock", path);
	unlink(path);
	unlink(lock);
	rmdir(folder);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	signal(MACHINE_WAKE_SIGNAL, SIG_IGN);
	pthread_mutex_init(&m.lock, NULL);
	m.leader = pthread_self();
	fuzz_expect(mkdtemp(folder), "%s", folder);
	snprintf(path, sizeof(path), "%s/sock", folder);
	atexit(clean_up);
	open_control();
	for (unsigned i = 0; i < PEERS; i++)
		peers[i].fd = -1;
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct input in = {data, len};
	unsigned updates = 0;
	crowded = false;
	while (in.n)
		act(&in, &updates);
	settle();
	for (unsigned i = 0; i < PEERS; i++)
		peer_close(&peers[i]);
	while (serve(true) || serve(false))
		;
	for (unsigned i = 0; i < CONTROL_CLIENTS; i++)
		fuzz_expect(m.control->clients[i].role == ROLE_FREE, "client %u is still there", i);
	fuzz_expect(m.fds.n == 2, "%u descriptors, not socket and lock alone", m.fds.n);
	update(); /* and it is as if new */
	return 0;
}
