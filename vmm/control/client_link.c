/* SPDX-License-Identifier: MIT */
/* A client's connection to a guest: finding the socket, and whole lines. */
#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>

#include "vmm/base/json.h"
#include "vmm/control/client.h"
#include "vmm/control/request.h"

#define EXPLAIN_S 5 /* a guest that is stopped says nothing */

#define LINE_MAX_LEN (1 << 20)

/* A guest's socket is in the run directory, or in the guest's own folder there. The latter has a guest of
 * molt@.service, whose user may not write to the run directory. */
static const char socket_end[] = ".sock", own_socket[] = "/control.sock";

static bool is_there(int dir, const char *name, const char *end)
{
	char path[CONTROL_PATH_LEN];
	struct stat st;
	int n = snprintf(path, sizeof(path), "%s%s", name, end);
	return (size_t)n < sizeof(path) && !fstatat(dir, path, &st, AT_SYMLINK_NOFOLLOW);
}

/* Of an entry of the run directory. No guest is found twice. */
static bool guest_of(int dir, const char *entry, char name[CLIENT_NAME_LEN])
{
	size_t len = strlen(entry), end = strlen(socket_end);
	if (len > end && !strcmp(entry + len - end, socket_end))
		len -= end;
	else if (!is_there(dir, entry, own_socket) || is_there(dir, entry, socket_end))
		return false;
	if (len >= CLIENT_NAME_LEN)
		return false;
	snprintf(name, CLIENT_NAME_LEN, "%.*s", (int)len, entry);
	return true;
}

int client_guests(char (**names)[CLIENT_NAME_LEN], struct error *err)
{
	char dir[CONTROL_PATH_LEN];
	struct dirent **found;
	int guests = 0;
	*names = NULL;
	int rc = control_rundir(dir, sizeof(dir), err);
	if (rc)
		return rc;
	fd_auto int dirfd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int n = scandir(dir, &found, NULL, alphasort);
	if (n < 0)
		return errno == ENOENT ? 0 : error_file(err, errno, "%s", dir);
	*names = calloc((size_t)n, sizeof(**names));
	for (int i = 0; i < n; i++) {
		if (*names && guest_of(dirfd, found[i]->d_name, (*names)[guests]))
			guests++;
		free(found[i]);
	}
	free(found);
	return *names ? guests : error_errno(err, ENOMEM, "names of %d guests", n);
}

int client_socket_path(const char *target, char *buf, struct error *err)
{
	char own[CONTROL_PATH_LEN];
	int rc = control_socket_path(target, buf, err);
	if (rc || strchr(target, '/') || is_there(AT_FDCWD, buf, ""))
		return rc;
	int len = (int)(strlen(buf) - strlen(socket_end));
	int n = snprintf(own, sizeof(own), "%.*s%s", len, buf, own_socket);
	if ((size_t)n < sizeof(own) && is_there(AT_FDCWD, own, ""))
		memcpy(buf, own, sizeof(own));
	return 0;
}

/* "a, b, c", or "". */
static void list_guests(char *buf, size_t size)
{
	char(*names)[CLIENT_NAME_LEN];
	int n = client_guests(&names, NULL);
	size_t used = 0;
	buf[0] = 0;
	for (int i = 0; i < n && used + strlen(names[i]) + 3 < size; i++)
		used += (size_t)snprintf(buf + used, size - used, "%s%s", used ? ", " : "",
					 names[i]);
	free(names);
}

static int silent(const struct client_link *l, struct error *err)
{
	error_end(err, EXIT_REFUSED, ETIMEDOUT, "no answer within %u s", l->timeout_s);
	return error_hint(err, "is it stopped (ps), or busy with a pause? --timeout 0 waits");
}

static int no_guest(const char *target, const char *path, int code, struct error *err)
{
	char names[400], dir[CONTROL_PATH_LEN] = "the run directory";
	struct stat st;
	if (code == ECONNREFUSED && !stat(path, &st) && !S_ISSOCK(st.st_mode))
		error_set(err, ENOTSOCK, "guest %.100s: %s is not a socket", target, path);
	else if (code == ECONNREFUSED)
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

int client_connect(struct client_link *l, const char *target, unsigned timeout_s, struct error *err)
{
	const struct timeval timeout = {.tv_sec = timeout_s};
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	*l = (struct client_link){.fd = -1, .data = -1, .timeout_s = timeout_s};
	int rc = client_socket_path(target, addr.sun_path, err);
	if (rc)
		return rc;
	l->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (l->fd < 0)
		return error_errno(err, errno, "socket");
	/* Also how long connect() waits where nobody accepts. */
	setsockopt(l->fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof(timeout));
	setsockopt(l->fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout));
	if (!connect(l->fd, (const struct sockaddr *)&addr, sizeof(addr)))
		return 0;
	rc = errno == EAGAIN ? silent(l, err) : no_guest(target, addr.sun_path, errno, err);
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
			return errno == EAGAIN ? silent(l, err)
					       : error_errno(err, errno, "asking the guest");
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

int client_send_pair(struct client_link *l, const char *line, struct error *err)
{
	int ends[2];
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends))
		return error_errno(err, errno, "socket pair");
	int rc = client_send_fd(l, line, ends[1], err);
	close(ends[1]);
	l->data = ends[0];
	return rc;
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
		if (n < 0 && errno == EAGAIN) {
			silent(l, err);
			return NULL;
		}
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
	fd_close(&l->data);
	free(l->buf);
	*l = (struct client_link){.fd = -1, .data = -1};
}

void client_explain(struct client_link *l, struct error *err)
{
	struct error ignored;
	char reason[sizeof(err->text)], remedy[sizeof(err->hint)];
	const struct timeval long_enough = {.tv_sec = EXPLAIN_S};
	shutdown(l->fd, SHUT_WR);
	setsockopt(l->fd, SOL_SOCKET, SO_RCVTIMEO, &long_enough, sizeof(long_enough));
	const char *answer = client_line(l, &ignored);
	if (!answer || !json_get(answer, "reason"))
		return;
	error_set(err, EOPNOTSUPP, "%s", json_get_text(answer, "reason", reason, sizeof(reason)));
	error_hint(err, "%s", json_get_text(answer, "remedy", remedy, sizeof(remedy)));
	error_exit(err, EXIT_REFUSED);
}
