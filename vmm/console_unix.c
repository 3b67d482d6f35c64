/* SPDX-License-Identifier: MIT */
/* The console's unix back-end: a listening socket and one client at a time; and names in the file
 * system that must not be stolen from a living owner. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "vmm/base/fd.h"
#include "vmm/base/log.h"
#include "vmm/console_backend.h"
#include "vmm/machine.h"

/* Does somebody accept connections at this socket? Its owner may be a program without our lock. */
static bool socket_is_live(const struct sockaddr_un *addr)
{
	fd_auto int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return true;
	return !connect(fd, (const struct sockaddr *)addr, sizeof(*addr)) || errno != ECONNREFUSED;
}

static int in_use(const char *path, struct error *err)
{
	error_set(err, EADDRINUSE, "console: %.200s is in use by another process", path);
	return error_hint(err, "end that process, or give another path");
}

static int remove_stale(const char *path, unsigned type, struct error *err)
{
	struct stat st;
	if (lstat(path, &st) < 0)
		return errno == ENOENT ? 0 : error_errno(err, errno, "console: %.200s", path);
	if ((st.st_mode & S_IFMT) != type)
		return error_set(err, EEXIST, "console: %.200s exists and is no %s", path,
				 type == S_IFSOCK ? "socket" : "symbolic link");
	if (type == S_IFSOCK) {
		struct sockaddr_un addr = {.sun_family = AF_UNIX};
		memcpy(addr.sun_path, path, strlen(path));
		if (socket_is_live(&addr))
			return in_use(path, err);
	}
	return unlink(path) < 0 ? error_errno(err, errno, "console: removing stale %.200s", path)
				: 0;
}

int console_claim_path(struct console *con, const char *path, unsigned type, struct error *err)
{
	char lock[sizeof(con->path) + 8];
	size_t room = type == S_IFSOCK ? member_len(struct sockaddr_un, sun_path) - 1
				       : sizeof(con->path) - 1;
	if (strlen(path) > room)
		return error_set(err, ENAMETOOLONG, "console: path %.200s is longer than %zu bytes",
				 path, room);
	strcpy(con->path, path);
	if (fdset_take(&con->m->fds, "console-lock") >= 0)
		return 0; /* ours since before the update */
	con->path[0] = 0;
	snprintf(lock, sizeof(lock), "%s.lock", path);
	int fd = open(lock, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return error_errno(err, errno, "console: lock file %.200s", lock);
	/* The lock belongs to the open file: it goes over exec, and with its last holder. The file
	 * itself stays: removing it would let two owners lock two files of that name. */
	if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
		close(fd);
		return in_use(path, err);
	}
	int rc = console_keep(con, "console-lock", &fd, err);
	if (!rc)
		rc = remove_stale(path, type, err);
	if (!rc)
		strcpy(con->path, path);
	return rc;
}

static int unix_listen(struct console *con, const char *path, struct error *err)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	int rc = console_claim_path(con, path, S_IFSOCK, err);
	if (rc)
		return rc;
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return error_errno(err, errno, "console: socket");
	memcpy(addr.sun_path, path, strlen(path));
	/* bind gives the file the socket's own mode (less the umask): never open to others. */
	if (fchmod(fd, 0600) < 0 || bind(fd, (const struct sockaddr *)&addr, sizeof(addr)) < 0 ||
	    listen(fd, 4) < 0) {
		rc = error_errno(err, errno, "console: socket %.200s", path);
		close(fd);
		return rc;
	}
	rc = console_keep(con, "console-listen", &fd, err);
	con->listen_fd = fd;
	return rc;
}

static int unix_open(struct console *con, const char *arg, struct error *err)
{
	con->listen_fd = fdset_take(&con->m->fds, "console-listen");
	if (con->listen_fd < 0)
		return unix_listen(con, arg, err);
	con->in_fd = con->out_fd = fdset_take(&con->m->fds, "console-client");
	return console_claim_path(con, arg, S_IFSOCK, err);
}

static void unix_accept(struct console *con)
{
	static const char busy[] = "molt: this console has a client already\r\n";
	int fd = accept4(con->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (fd < 0)
		return;
	if (con->in_fd >= 0) {
		send(fd, busy, sizeof(busy) - 1, MSG_DONTWAIT | MSG_NOSIGNAL);
		close(fd);
		return;
	}
	struct error err;
	if (console_keep(con, "console-client", &fd, &err)) {
		log_error(&err);
		return;
	}
	con->in_fd = con->out_fd = fd;
	console_replay(con);
	console_watch(con);
}

static void unix_hangup(struct console *con)
{
	console_detach(con);
	fdset_close(&con->m->fds, "console-client");
}

const struct console_backend console_unix = {
	.name = "unix",
	.history = true,
	.open = unix_open,
	.accept = unix_accept,
	.hangup = unix_hangup,
};
