/* SPDX-License-Identifier: MIT */
/* Where the console's bytes go: stdio, file, pty, unix, none. */
#include <fcntl.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <termios.h>

#include "vmm/console/backend.h"
#include "vmm/machine.h"

/* --- stdio --- */

/* The descriptor @number under @name: opened anew, so that it can be non-blocking without making
 * the shell's so. Where that is not possible (a socket, another user's terminal) the given one. -1:
 * it is closed. */
static int take_standard(struct console *con, const char *name, int number, int mode)
{
	int fd = fdset_get(&con->m->fds, name);
	char path[32];
	struct stat st;

	if (fd >= 0 || fstat(number, &st) < 0)
		return fd;
	/* A regular file opened anew would have an offset of its own. */
	if (S_ISCHR(st.st_mode) || S_ISFIFO(st.st_mode)) {
		snprintf(path, sizeof(path), "/proc/self/fd/%d", number);
		fd = open(path, mode | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	}
	if (fd < 0)
		fd = number;
	if (fdset_keep(&con->m->fds, name, fd, NULL) && fd != number) {
		close(fd);
		fd = -1;
	}
	return fd;
}

static int stdio_open(struct console *con, const char *arg, struct error *err)
{
	con->in_fd = take_standard(con, "stdin", STDIN_FILENO, O_RDONLY);
	con->out_fd = take_standard(con, "stdout", STDOUT_FILENO, O_WRONLY);
	if (con->in_fd >= 0 && isatty(con->in_fd)) {
		con->terminal = terminal_usable(con->in_fd);
		if (!con->terminal) {
			con->in_fd = -1;
			if (con->m->fresh)
				log_info("console: in the background, no input from the terminal");
		}
	}
	return 0;
}

const struct console_backend console_stdio = {
	.name = "stdio",
	.lossless = true,
	.open = stdio_open,
};

const struct console_backend console_none = {
	.name = "none",
	.lossless = true,
};

/* --- file --- */

static int file_anew(const char *arg, struct error *err)
{
	/* Non-blocking for what is no regular file: a serial line, a FIFO. */
	int fd = open(arg, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, 0600);
	if (fd >= 0)
		return fd;
	int rc = error_file(err, errno, "console: file %.300s", arg);
	return rc == -ENXIO ? error_hint(err, "start the reader of that FIFO first") : rc;
}

static void file_reload(struct console *con)
{
	con->out_fd = fdset_get(&con->m->fds, "console");
}

static int file_open(struct console *con, const char *arg, struct error *err)
{
	file_reload(con);
	if (con->out_fd >= 0)
		return 0;
	con->out_fd = file_anew(arg, err);
	if (con->out_fd < 0)
		return con->out_fd;
	return console_keep(con, "console", &con->out_fd, err);
}

const struct console_backend console_file = {
	.name = "file",
	.lossless = true,
	.open = file_open,
	.anew = file_anew,
	.reload = file_reload,
};

/* Takes @path: nothing but a stale @type (S_IFSOCK, S_IFLNK) may be there, and is removed
 * (claim.h). */
static int claim(struct console *con, const char *path, unsigned type, struct error *err)
{
	int rc = claim_path(&con->m->fds, "console-lock", "console", path, type, err);
	if (!rc)
		snprintf(con->path, sizeof(con->path), "%s", path);
	return rc;
}

/* --- pty --- */

/* The other side stays open here too: then its settings stay, and a reader that leaves is no
 * hangup. It is also the way to what the kernel holds for a reader. */
static int pty_open_slave(struct console *con, const char *path, struct error *err)
{
	struct termios t;
	int fd = open(path, O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (fd < 0)
		return error_errno(err, errno, "console: %s", path);
	if (tcgetattr(fd, &t) < 0 || (cfmakeraw(&t), tcsetattr(fd, TCSANOW, &t)) < 0)
		log_warn("console: %s: raw mode: %s", path, strerror(errno));
	return console_keep(con, "console-slave", &fd, err);
}

/* A stable name for the terminal. */
static int pty_link(struct console *con, const char *link, const char *path, struct error *err)
{
	int rc = claim(con, link, S_IFLNK, err);
	if (rc)
		return rc;
	if (symlink(path, link) < 0)
		return error_file(err, errno, "console: link %.300s", link);
	return 0;
}

static int pty_open(struct console *con, const char *arg, struct error *err)
{
	char path[64];
	int rc;

	con->in_fd = con->out_fd = fdset_get(&con->m->fds, "console");
	if (con->in_fd >= 0) {
		fdset_get(&con->m->fds, "console-slave");
		return arg ? claim(con, arg, S_IFLNK, err) : 0;
	}
	int fd = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0)
		return error_errno(err, errno, "console: pseudo terminal");
	if (grantpt(fd) < 0 || unlockpt(fd) < 0 || (rc = ptsname_r(fd, path, sizeof(path))) != 0) {
		rc = error_errno(err, errno, "console: pseudo terminal");
		close(fd);
		return rc;
	}
	rc = console_keep(con, "console", &fd, err);
	con->in_fd = con->out_fd = fd;
	if (!rc)
		rc = pty_open_slave(con, path, err);
	if (!rc && arg)
		rc = pty_link(con, arg, path, err);
	if (!rc)
		log_info("console: %s", path);
	return rc;
}

/* Nobody reads: the kernel's buffer holds what is older than the ring's oldest. Without it a reader
 * that comes late gets the last lines without a gap. */
static void pty_overflow(struct console *con)
{
	int slave = fdset_get(&con->m->fds, "console-slave");
	if (slave >= 0)
		tcflush(slave, TCIFLUSH);
}

const struct console_backend console_pty = {
	.name = "pty",
	.open = pty_open,
	.overflow = pty_overflow,
};

/* --- unix: a listening socket and one client at a time --- */

static int unix_listen(struct console *con, const char *path, struct error *err)
{
	int rc = claim(con, path, S_IFSOCK, err);
	int fd = rc ? rc : claim_listen("console", path, 4, err);
	if (fd < 0)
		return fd;
	rc = console_keep(con, "console-listen", &fd, err);
	con->listen_fd = fd;
	return rc;
}

static int unix_open(struct console *con, const char *arg, struct error *err)
{
	con->listen_fd = fdset_get(&con->m->fds, "console-listen");
	if (con->listen_fd < 0)
		return unix_listen(con, arg, err);
	con->in_fd = con->out_fd = fdset_get(&con->m->fds, "console-client");
	return claim(con, arg, S_IFSOCK, err);
}

static void unix_reload(struct console *con)
{
	con->in_fd = con->out_fd = fdset_get(&con->m->fds, "console-client");
}

static void unix_hangup(struct console *con)
{
	console_detach(con);
	fdset_close(&con->m->fds, "console-client");
}

/* Its end is not seen while what it has sent waits for the guest. */
static bool unix_left(const struct console *con)
{
	struct pollfd p = {.fd = con->in_fd};
	return console_stuck(con) && poll(&p, 1, 0) > 0 && (p.revents & POLLHUP);
}

static void unix_accept(void *opaque, uint32_t events)
{
	struct console *con = opaque;
	static const char busy[] = "molt: this console has a client already\r\n";
	int fd = accept4(con->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (fd < 0)
		return;
	if (con->in_fd >= 0 && unix_left(con))
		unix_hangup(con);
	if (con->in_fd >= 0) {
		send(fd, busy, sizeof(busy) - 1, MSG_DONTWAIT | MSG_NOSIGNAL);
		close(fd);
		return;
	}
	struct error err;
	if (console_keep(con, "console-client", &fd, &err)) {
		if (log_guest_ok(&con->complaints, 3))
			log_error(&err);
		return;
	}
	con->in_fd = con->out_fd = fd;
	console_replay(con);
	console_watch(con);
}

const struct console_backend console_unix = {
	.name = "unix",
	.history = true,
	.open = unix_open,
	.reload = unix_reload,
	.accept = unix_accept,
	.hangup = unix_hangup,
};
