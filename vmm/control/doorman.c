/* SPDX-License-Identifier: MIT */
/* The control socket is opened or taken over; its thread, the doorman; its end. */
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "vmm/claim.h"
#include "vmm/control/server.h"

#define IDLE_NS	 NS_PER_S /* who came or was answered only now may be about to ask */
#define AGAIN_NS (20 * NS_PER_MS)

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

static int watch(struct control_client *c, struct error *err)
{
	return loop_add(&c->ctl->loop, c->fd, CONTROL_EDGES, on_client, c, err);
}

bool control_peer_allowed(unsigned peer, unsigned self)
{
	return peer == self || peer == 0;
}

/* The client that has been idle for the longest time: it can make room. */
static struct control_client *idlest(struct control *ctl)
{
	struct control_client *found = NULL;
	uint64_t now = now_ns();
	each_client(c, ctl)
		if (c->role == ROLE_IDLE && !c->line_len && !c->asked &&
		    now - c->since_ns >= IDLE_NS && (!found || c->since_ns < found->since_ns))
			found = c;
	return found;
}

/* Who waits for events may stay for ever. All others are answered, or idle, before long. */
static bool room_will_come(struct control *ctl)
{
	each_client(c, ctl)
		if (c->role != ROLE_EVENTS)
			return true;
	return false;
}

/* Takes @fd as the client @c, which may be an idle one that makes room; on failure it stays the caller's. */
static int admit(struct control *ctl, struct control_client *c, int fd, struct error *err)
{
	char name[FDSET_NAME_LEN];
	struct ucred peer;
	socklen_t len = sizeof(peer);
	struct machine *m = ctl->m;

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) < 0)
		return error_errno(err, errno, "control socket: who the client is");
	if (!control_peer_allowed(peer.uid, geteuid()))
		return error_set(err, EACCES, "user %u may not control this guest", peer.uid);
	if (!c) {
		error_set(err, EBUSY, "%d clients wait for events already", CONTROL_CLIENTS);
		return error_hint(err, "end one of them (molt events)");
	}
	if (c->role != ROLE_FREE)
		control_drop(c);
	pthread_mutex_lock(&m->lock);
	int rc = fdset_keep(&m->fds, control_role_name(c, ROLE_IDLE, name), fd, err);
	pthread_mutex_unlock(&m->lock);
	if (rc)
		return rc;
	*c = (struct control_client){.ctl = ctl, .fd = fd, .role = ROLE_IDLE, .since_ns = now_ns()};
	if (watch(c, err))
		control_drop(c);
	return 0;
}

/* Without room for it a client waits in the socket's queue. */
static void on_connection(void *opaque, uint32_t events)
{
	struct control *ctl = opaque;
	struct control_client *c = control_find_free(ctl) ?: idlest(ctl);
	struct error err = {0};
	char text[CONTROL_ERROR_LEN];

	if (!c && room_will_come(ctl)) {
		loop_call_at(&ctl->loop, now_ns() + AGAIN_NS, on_connection, ctl);
		return;
	}
	fd_auto int fd = accept4(ctl->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (fd < 0)
		return; /* short of descriptors: the next one that comes brings the next edge */
	if (admit(ctl, c, fd, &err))
		send(fd, text, control_error_record(text, &err), MSG_DONTWAIT | MSG_NOSIGNAL);
	else
		fd = -1;
	loop_modify(&ctl->loop, ctl->listen_fd, CONTROL_EDGES); /* there may be more */
}

/* The folder of named guests' sockets, made if it is not there; nobody else may put names into it. */
static int make_rundir(struct error *err)
{
	char dir[CONTROL_PATH_LEN];
	struct stat st;
	int rc = control_rundir(dir, sizeof(dir), err);
	if (rc)
		return rc;
	if ((mkdir(dir, 0700) < 0 && errno != EEXIST) || lstat(dir, &st) < 0)
		return error_file(err, errno, "folder %s of the control socket", dir);
	if (!S_ISDIR(st.st_mode) || st.st_uid != geteuid() || (st.st_mode & (S_IWGRP | S_IWOTH))) {
		error_end(err, EXIT_CONFIG, EPERM, "%s: not a folder that only this user may write",
			  dir);
		return error_hint(err, "remove it, or chmod 700 %s", dir);
	}
	return 0;
}

static int listen_anew(struct control *ctl, struct error *err)
{
	static const char what[] = "control socket";
	const struct options *opt = &ctl->m->opt;
	struct fdset *fds = &ctl->m->fds;
	char path[CONTROL_PATH_LEN];
	int rc = (opt->control ? 0 : make_rundir(err))
			 ?: control_socket_path(opt->control ?: opt->name, path, err)
			 ?: claim_path(fds, "control-lock", what, path, S_IFSOCK, err);
	if (rc == -EADDRINUSE && !opt->control)
		return error_hint(err, "end that guest (molt stop %s), or choose another --name",
				  opt->name);
	if (rc)
		return rc;
	fd_auto int fd = claim_listen(what, path, CONTROL_CLIENTS, err);
	if (fd < 0)
		return fd;
	rc = fdset_keep(fds, "control", fd, err);
	if (rc)
		return rc;
	ctl->listen_fd = fd;
	fd = -1;
	strcpy(ctl->path, path);
	return 0;
}

/* What an update kept: the socket, which knows its path, and the clients. */
static void take_over(struct control *ctl)
{
	struct fdset *fds = &ctl->m->fds;
	struct sockaddr_un addr = {0};
	socklen_t len = sizeof(addr);
	char name[FDSET_NAME_LEN];

	fdset_get(fds, "control-lock");
	if (!getsockname(ctl->listen_fd, (struct sockaddr *)&addr, &len))
		memcpy(ctl->path, addr.sun_path, sizeof(ctl->path) - 1);
	each_client(c, ctl)
		for (enum control_role role = ROLE_IDLE; role <= ROLE_EVENTS && c->fd < 0; role++) {
			c->fd = fdset_get(fds, control_role_name(c, role, name));
			c->role = c->fd < 0 ? ROLE_FREE : role;
		}
	int asked = fdset_get(fds, "control-client");
	struct control_client *c = asked < 0 ? NULL : control_find_free(ctl);
	if (c) {
		c->fd = asked;
		c->role = ROLE_CLIENT;
	}
}

int control_open(struct machine *m, struct error *err)
{
	bool wanted = m->opt.control ? strcmp(m->opt.control, "none") != 0 : m->opt.name != NULL;
	if (!wanted || m->control)
		return 0;
	struct control *ctl = pool_alloc(1, sizeof(*ctl));
	if (!ctl)
		return error_errno(err, ENOMEM, "control socket");
	ctl->m = m;
	pthread_mutex_init(&ctl->lock, NULL);
	each_client(c, ctl)
		*c = (struct control_client){.ctl = ctl, .fd = -1};
	pthread_mutex_lock(&m->lock);
	ctl->listen_fd = fdset_get(&m->fds, "control");
	int rc = loop_init(&ctl->loop, "molt-control", SECCOMP_CONTROL, &ctl->lock, err);
	if (!rc && ctl->listen_fd < 0)
		rc = listen_anew(ctl, err);
	else if (!rc)
		take_over(ctl);
	pthread_mutex_unlock(&m->lock);
	if (rc) {
		fd_close(&ctl->loop.epoll_fd);
		pool_free(ctl);
		return rc;
	}
	m->control = ctl;
	return 0;
}

int control_watch(struct control *ctl, struct error *err)
{
	int rc = 0;
	pthread_mutex_lock(&ctl->lock);
	each_client(c, ctl)
		rc = rc || c->role == ROLE_FREE ? rc : watch(c, err);
	if (!rc)
		rc = loop_add(&ctl->loop, ctl->listen_fd, CONTROL_EDGES, on_connection, ctl, err);
	pthread_mutex_unlock(&ctl->lock);
	return rc;
}

int control_start(struct control *ctl, struct error *err)
{
	return ctl ? control_watch(ctl, err) ?: loop_start(&ctl->loop, err) : 0;
}

void control_park(struct control *ctl)
{
	if (ctl)
		loop_park(&ctl->loop);
}

void control_unpark(struct control *ctl)
{
	if (ctl)
		loop_unpark(&ctl->loop);
}

void control_close(struct control *ctl)
{
	if (!ctl)
		return;
	control_park(ctl);
	unlink(ctl->path);
}
