/* SPDX-License-Identifier: MIT */
/* The thread of the control socket: handlers of its loop, whose lock is held. */
#include <signal.h>
#include <sys/socket.h>

#include "vmm/control/server.h"

/* Looks whether a whole line has come; it stays where it is. */
static void on_client(void *opaque, uint32_t events)
{
	struct control_client *c = opaque;
	char line[CONTROL_LINE_LEN], text[CONTROL_ERROR_LEN];
	struct error err;

	if (c->line_len || c->asked)
		return; /* the leader's turn: it is not even looked whether the client is still there */
	ssize_t n = recv(c->fd, line, sizeof(line), MSG_PEEK | MSG_DONTWAIT);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		control_drop(c);
		return;
	}
	char *end = memchr(line, '\n', (size_t)n);
	if (end) {
		c->line_len = (size_t)(end - line) + 1;
		pthread_kill(c->ctl->m->leader, MACHINE_WAKE_SIGNAL);
	} else if (n == (ssize_t)sizeof(line) || (events & (EPOLLRDHUP | EPOLLHUP))) {
		error_set(&err, EINVAL, "no line of at most %zu bytes", sizeof(line));
		control_tell(c, text, control_error_record(text, &err));
		if (c->role != ROLE_FREE)
			control_drop(c);
	}
}

int control_watch(struct control_client *c, struct error *err)
{
	return loop_add(&c->ctl->loop, c->fd, CONTROL_EDGES, on_client, c, err);
}

bool control_peer_allowed(unsigned peer, unsigned self)
{
	return peer == self || peer == 0;
}

/* The client that has been idle for the longest time makes room. */
static struct control_client *make_room(struct control *ctl)
{
	struct control_client *idlest = NULL;
	for (struct control_client *c = ctl->clients; c < ctl->clients + CONTROL_CLIENTS; c++)
		if (c->role == ROLE_IDLE && !c->line_len && !c->asked &&
		    (!idlest || c->turn < idlest->turn))
			idlest = c;
	if (idlest)
		control_drop(idlest);
	return idlest;
}

/* Takes @fd as a client; on failure it stays the caller's. */
static int admit(struct control *ctl, int fd, struct error *err)
{
	char name[FDSET_NAME_LEN];
	struct ucred peer;
	socklen_t len = sizeof(peer);
	struct machine *m = ctl->m;

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) < 0)
		return error_errno(err, errno, "control socket: who the client is");
	if (!control_peer_allowed(peer.uid, geteuid()))
		return error_set(err, EACCES, "user %u may not control this guest", peer.uid);
	struct control_client *c = control_find_free(ctl) ?: make_room(ctl);
	if (!c)
		return error_set(err, EBUSY, "%d clients are connected already", CONTROL_CLIENTS);
	pthread_mutex_lock(&m->lock);
	int rc = fdset_keep(&m->fds, control_role_name(c, ROLE_IDLE, name), fd, err);
	pthread_mutex_unlock(&m->lock);
	if (rc)
		return rc;
	*c = (struct control_client){.ctl = ctl, .fd = fd, .role = ROLE_IDLE, .turn = ++ctl->turns};
	if (control_watch(c, err))
		control_drop(c);
	return 0;
}

static void on_connection(void *opaque, uint32_t events)
{
	struct control *ctl = opaque;
	struct error err = {0};
	char text[CONTROL_ERROR_LEN];

	fd_auto int fd = accept4(ctl->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (fd < 0)
		return; /* short of descriptors: the next one that comes brings the next edge */
	if (admit(ctl, fd, &err))
		send(fd, text, control_error_record(text, &err), MSG_DONTWAIT | MSG_NOSIGNAL);
	else
		fd = -1;
	loop_modify(&ctl->loop, ctl->listen_fd, CONTROL_EDGES); /* there may be more */
}

int control_watch_door(struct control *ctl, struct error *err)
{
	return loop_add(&ctl->loop, ctl->listen_fd, CONTROL_EDGES, on_connection, ctl, err);
}
