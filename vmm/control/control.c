/* SPDX-License-Identifier: MIT */
/* The leader's half of the control socket: takes requests, answers, publishes events. */
#include "vmm/control/control.h"

#include <signal.h>
#include <sys/socket.h>

#include "vmm/base/json.h"
#include "vmm/control/server.h"

/* ---- a client: its descriptor has a name in the table that an update keeps ---- */

const char *control_role_name(const struct control_client *c, enum control_role role, char *buf)
{
	if (role == ROLE_CLIENT)
		return "control-client";
	snprintf(buf, FDSET_NAME_LEN, "control-%s:%u", role == ROLE_EVENTS ? "events" : "idle",
		 (unsigned)(c - c->ctl->clients));
	return buf;
}

void control_set_role(struct control_client *c, enum control_role role)
{
	char from[FDSET_NAME_LEN], to[FDSET_NAME_LEN];
	struct machine *m = c->ctl->m;
	pthread_mutex_lock(&m->lock);
	fdset_rename(&m->fds, control_role_name(c, c->role, from), control_role_name(c, role, to));
	pthread_mutex_unlock(&m->lock);
	c->role = role;
}

void control_drop(struct control_client *c)
{
	char name[FDSET_NAME_LEN];
	struct machine *m = c->ctl->m;
	loop_remove(&c->ctl->loop, c->fd);
	pthread_mutex_lock(&m->lock);
	fdset_close(&m->fds, control_role_name(c, c->role, name));
	pthread_mutex_unlock(&m->lock);
	if (c->ctl->asker == c)
		c->ctl->asker = NULL;
	*c = (struct control_client){.ctl = c->ctl, .fd = -1};
}

void control_tell(struct control_client *c, const char *text, size_t len)
{
	if (send(c->fd, text, len, MSG_DONTWAIT | MSG_NOSIGNAL) != (ssize_t)len)
		control_drop(c);
}

size_t control_error_record(char *buf, const struct error *err)
{
	struct json j;
	json_begin(&j, buf, CONTROL_ERROR_LEN);
	json_open(&j, NULL, '{');
	json_string(&j, "event", "request");
	json_string(&j, "result", "error");
	json_string(&j, "reason", err->text);
	json_string(&j, "remedy", err->hint);
	json_close(&j, '}');
	return json_end(&j) ? j.len : 0;
}

struct control_client *control_find_free(struct control *ctl)
{
	each_client(c, ctl)
		if (c->role == ROLE_FREE)
			return c;
	return NULL;
}

/* ---- the leader ---- */

/* Of those who have asked, the one who was served longest ago. */
static struct control_client *next_ready(struct control *ctl)
{
	struct control_client *next = NULL;
	each_client(c, ctl)
		if (c->line_len && (!next || c->since_ns < next->since_ns))
			next = c;
	return next;
}

/* With the descriptor that may have come along: the first, where there are several. */
static ssize_t receive(int sock, char *line, size_t len, int *fd)
{
	union {
		struct cmsghdr align;
		char room[CMSG_SPACE(sizeof(int))];
	} control;
	struct iovec part = {line, len};
	struct msghdr msg = {.msg_iov = &part,
			     .msg_iovlen = 1,
			     .msg_control = control.room,
			     .msg_controllen = sizeof(control.room)};
	ssize_t n = recvmsg(sock, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	if (n > 0)
		fd_received(&msg, fd, 1);
	return n;
}

/* Consumes the line of @c. */
static int take_line(struct control_client *c, struct control_request *req, struct error *err)
{
	char line[CONTROL_LINE_LEN];
	size_t len = c->line_len;
	c->line_len = 0;
	c->asked = true;
	fd_auto int fd = -1;
	if (receive(c->fd, line, len, &fd) != (ssize_t)len)
		return error_errno(err, EIO, "reading the request");
	int rc = control_request_parse(req, line, len - 1, err);
	struct ucred peer = {0};
	socklen_t size = sizeof(peer);
	getsockopt(c->fd, SOL_SOCKET, SO_PEERCRED, &peer, &size);
	req->pid = (unsigned)peer.pid;
	req->uid = peer.uid;
	if (!rc && (req->word == CONTROL_TAKE || req->word == CONTROL_CONSOLE) && fd >= 0) {
		req->peer = fd;
		fd = -1;
	}
	return rc;
}

/* It may ask again; what it has said meanwhile brings an edge. */
static void answered(struct control_client *c)
{
	c->asked = false;
	c->since_ns = now_ns();
	loop_modify(&c->ctl->loop, c->fd, CONTROL_EDGES);
}

/* And it may be gone after this. */
static void answer(struct control_client *c, const char *text, size_t len)
{
	control_tell(c, text, len);
	if (c->role != ROLE_FREE)
		answered(c);
}

/* False: there is no control socket. */
static bool enter(struct control *ctl)
{
	return ctl && !pthread_mutex_lock(&ctl->lock);
}

bool control_take(struct control *ctl, struct control_request *req)
{
	char text[CONTROL_ERROR_LEN];
	struct error err = {0};
	int rc = -1;
	if (!enter(ctl))
		return false;
	struct control_client *c = ctl->asker = next_ready(ctl);
	if (c) {
		rc = take_line(c, req, &err);
		if (rc)
			answer(c, text, control_error_record(text, &err));
	}
	if (next_ready(ctl))
		pthread_kill(ctl->m->leader, MACHINE_WAKE_SIGNAL);
	pthread_mutex_unlock(&ctl->lock);
	return !rc;
}

void control_answer(struct control *ctl, const char *text, size_t len)
{
	if (!enter(ctl))
		return;
	if (ctl->asker)
		answer(ctl->asker, text, len);
	pthread_mutex_unlock(&ctl->lock);
}

void control_answer_error(struct control *ctl, const struct error *err)
{
	char text[CONTROL_ERROR_LEN];
	control_answer(ctl, text, control_error_record(text, err));
}

void control_subscribe(struct control *ctl)
{
	if (!enter(ctl))
		return;
	if (ctl->asker && ctl->asker->role == ROLE_IDLE)
		control_set_role(ctl->asker, ROLE_EVENTS);
	pthread_mutex_unlock(&ctl->lock);
}

void control_await_update(struct control *ctl)
{
	if (!enter(ctl))
		return;
	/* Who wants events gets the record anyway. */
	if (ctl->asker && ctl->asker->role == ROLE_IDLE)
		control_set_role(ctl->asker, ROLE_CLIENT);
	pthread_mutex_unlock(&ctl->lock);
}

static void tell_role(struct control *ctl, enum control_role role, const char *text, size_t len)
{
	each_client(c, ctl)
		if (c->role == role)
			control_tell(c, text, len);
}

void control_publish(struct control *ctl, const char *text, size_t len)
{
	if (!enter(ctl))
		return;
	tell_role(ctl, ROLE_EVENTS, text, len);
	pthread_mutex_unlock(&ctl->lock);
}

void control_answer_waiting(struct control *ctl, const char *text, size_t len)
{
	if (!enter(ctl))
		return;
	each_client(c, ctl) {
		if (c->role != ROLE_CLIENT)
			continue;
		control_set_role(c, ROLE_IDLE);
		answer(c, text, len);
	}
	pthread_mutex_unlock(&ctl->lock);
}

void control_update_ended(struct control *ctl, const char *record, size_t len)
{
	if (!enter(ctl))
		return;
	tell_role(ctl, ROLE_EVENTS, record, len);
	tell_role(ctl, ROLE_CLIENT, record, len);
	each_client(c, ctl) {
		if (c->role == ROLE_CLIENT)
			control_set_role(c, ROLE_IDLE);
		if (c->asked)
			answered(c);
	}
	snprintf(ctl->last, sizeof(ctl->last), "%.*s", (int)len, record);
	pthread_mutex_unlock(&ctl->lock);
}

const char *control_last_record(const struct control *ctl)
{
	return ctl ? ctl->last : "";
}
