/* SPDX-License-Identifier: MIT */
/* The client's side of the control socket: finding it, and whole lines. */
#include <dirent.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "vmm/control/client.h"
#include "vmm/control/request.h"

#define LINE_MAX_LEN (1 << 20)

/* Names of the sockets in the folder of named guests: "a, b, c", or "". */
static void list_guests(char *buf, size_t size)
{
	static const char end[] = ".sock";
	char dir[CONTROL_PATH_LEN];
	size_t n = 0;
	buf[0] = 0;
	DIR *d = control_rundir(dir, sizeof(dir), NULL) ? NULL : opendir(dir);
	for (struct dirent *e; d && (e = readdir(d));) {
		size_t len = strlen(e->d_name), stem = len - strlen(end);
		if (len <= strlen(end) || strcmp(e->d_name + stem, end) || stem + n + 3 > size)
			continue;
		n += (size_t)snprintf(buf + n, size - n, "%s%.*s", n ? ", " : "", (int)stem,
				      e->d_name);
	}
	if (d)
		closedir(d);
}

static int no_guest(const char *target, const char *path, int code, struct error *err)
{
	char names[400], dir[CONTROL_PATH_LEN] = "the run directory";
	if (code == ECONNREFUSED)
		error_set(err, code, "guest %.100s: nobody listens at %s: it has ended", target,
			  path);
	else
		error_errno(err, code, "guest %.100s: %s", target, path);
	list_guests(names, sizeof(names));
	control_rundir(dir, sizeof(dir), NULL);
	if (code == EACCES)
		error_hint(err, "ask as the user who runs the guest, or as root");
	else if (names[0])
		error_hint(err, "guests with a socket in %s: %s", dir, names);
	else
		error_hint(err,
			   "no guest has a socket in %s: molt run --name NAME makes one; "
			   "for --control PATH give that path, with a slash in it",
			   dir);
	return error_exit(err, EXIT_CONFIG);
}

int client_connect(struct client_link *l, const char *target, struct error *err)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	*l = (struct client_link){.fd = -1};
	int rc = control_socket_path(target, addr.sun_path, err);
	if (rc)
		return rc;
	l->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (l->fd < 0)
		return error_errno(err, errno, "socket");
	if (!connect(l->fd, (const struct sockaddr *)&addr, sizeof(addr)))
		return 0;
	rc = no_guest(target, addr.sun_path, errno, err);
	client_close(l);
	return rc;
}

int client_send(struct client_link *l, const char *line, struct error *err)
{
	size_t len = strlen(line);
	while (len) {
		ssize_t n = send(l->fd, line, len, MSG_NOSIGNAL);
		if (n < 0 && errno == EINTR)
			continue;
		/* What it has to say about that can still be read. */
		if (n < 0 && errno == EPIPE)
			return 0;
		if (n < 0)
			return error_errno(err, errno, "asking the guest");
		line += n;
		len -= (size_t)n;
	}
	return 0;
}

int client_send_fd(struct client_link *l, const char *line, int fd, struct error *err)
{
	union {
		struct cmsghdr align;
		char room[CMSG_SPACE(sizeof(int))];
	} control = {0};
	struct iovec part = {(void *)line, strlen(line)};
	struct msghdr msg = {.msg_iov = &part,
			     .msg_iovlen = 1,
			     .msg_control = control.room,
			     .msg_controllen = sizeof(control.room)};
	struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(c), &fd, sizeof(int));
	if (sendmsg(l->fd, &msg, MSG_NOSIGNAL) != (ssize_t)part.iov_len)
		return error_errno(err, errno, "asking the guest");
	return 0;
}

static int make_room(struct client_link *l, struct error *err)
{
	if (l->len < l->room)
		return 0;
	size_t room = l->room ? 2 * l->room : 16384;
	if (room > LINE_MAX_LEN)
		return error_set(err, EMSGSIZE, "the guest answers with a line of over %d bytes",
				 LINE_MAX_LEN / 2);
	char *buf = realloc(l->buf, room);
	if (!buf)
		return error_errno(err, ENOMEM, "an answer of %zu bytes", room);
	l->buf = buf;
	l->room = room;
	return 0;
}

char *client_line(struct client_link *l, struct error *err)
{
	l->len -= l->used;
	if (l->used)
		memmove(l->buf, l->buf + l->used, l->len);
	l->used = 0;
	for (;;) {
		char *end = l->len ? memchr(l->buf, '\n', l->len) : NULL;
		if (end) {
			*end = 0;
			l->used = (size_t)(end - l->buf) + 1;
			return l->buf;
		}
		if (make_room(l, err))
			return NULL;
		ssize_t n = recv(l->fd, l->buf + l->len, l->room - l->len, 0);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0) {
			error_set(err, EPIPE, "the connection was closed without an answer");
			return NULL;
		}
		l->len += (size_t)n;
	}
}

void client_close(struct client_link *l)
{
	fd_close(&l->fd);
	free(l->buf);
	*l = (struct client_link){.fd = -1};
}
