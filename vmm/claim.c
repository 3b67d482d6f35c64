/* SPDX-License-Identifier: MIT */
/* Takes a path for a socket or link, unless somebody who lives has it. */
#include "vmm/claim.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "cpr/state/fdset.h"
#include "vmm/base/users.h"

/* Does somebody accept connections at this socket? Its owner may be a program without our lock. */
static bool socket_is_live(const struct sockaddr_un *addr)
{
	fd_auto int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return true;
	return !connect(fd, (const struct sockaddr *)addr, sizeof(*addr)) || errno != ECONNREFUSED;
}

/* @file: what its user has open. */
static int in_use(const char *what, const char *path, const char *file, struct error *err)
{
	char users[FILE_USERS_LEN];
	file_users("/proc", file, users, sizeof(users));
	error_end(err, EXIT_CONFIG, EADDRINUSE, "%s: %.200s is in use by %s", what, path, users);
	return error_hint(err, "end that process, or give another path");
}

static int remove_stale(const char *what, const char *path, unsigned type, struct error *err)
{
	struct stat st;
	if (lstat(path, &st) < 0)
		return errno == ENOENT ? 0 : error_file(err, errno, "%s: %.200s", what, path);
	if ((st.st_mode & S_IFMT) != type) {
		error_end(err, EXIT_CONFIG, EEXIST, "%s: %.200s exists and is no %s", what, path,
			  type == S_IFSOCK ? "socket" : "symbolic link");
		return error_hint(err, "remove it, or give another path");
	}
	if (type == S_IFSOCK) {
		struct sockaddr_un addr = {.sun_family = AF_UNIX};
		memcpy(addr.sun_path, path, strlen(path));
		if (socket_is_live(&addr))
			return in_use(what, path, path, err);
	}
	return unlink(path) < 0 ? error_file(err, errno, "%s: removing stale %.200s", what, path)
				: 0;
}

static bool is_at(int fd, const char *path)
{
	struct stat a, b;
	return !fstat(fd, &a) && !stat(path, &b) && a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

int claim_path(struct fdset *fds, const char *lock_name, const char *what, const char *path,
	       unsigned type, struct error *err)
{
	char lock[CLAIM_PATH_LEN + 8];
	size_t room = type == S_IFSOCK ? member_len(struct sockaddr_un, sun_path) - 1
				       : CLAIM_PATH_LEN - 1;
	if (strlen(path) > room) {
		error_end(err, EXIT_CONFIG, ENAMETOOLONG,
			  "%s: path %.200s is longer than %zu bytes", what, path, room);
		return error_file_hint(err);
	}
	if (fdset_get(fds, lock_name) >= 0)
		return 0; /* ours since before the update */
	snprintf(lock, sizeof(lock), "%s.lock", path);
	fd_auto int fd = -1;
	do {
		fd_close(&fd);
		fd = open(lock, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
		if (fd < 0)
			return error_file(err, errno, "%s: lock file %.200s", what, lock);
		/* The lock belongs to the open file: it goes over exec, and with its last holder. */
		if (flock(fd, LOCK_EX | LOCK_NB) < 0)
			return in_use(what, path, lock, err);
		/* molt list removes what ended guests have left: then what was locked has no name any more. */
	} while (!is_at(fd, lock));
	int rc = fdset_keep(fds, lock_name, fd, err);
	if (rc)
		return rc;
	fd = -1;
	return remove_stale(what, path, type, err);
}

int claim_listen(const char *what, const char *path, int backlog, struct error *err)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	fd_auto int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return error_errno(err, errno, "%s: socket", what);
	memcpy(addr.sun_path, path, strlen(path));
	/* bind gives the file the socket's own mode (less the umask): never open to others. */
	if (fchmod(fd, 0600) < 0 || bind(fd, (const struct sockaddr *)&addr, sizeof(addr)) < 0 ||
	    listen(fd, backlog) < 0)
		return error_file(err, errno, "%s: socket %.200s", what, path);
	int listening = fd;
	fd = -1;
	return listening;
}
