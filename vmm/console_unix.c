/* SPDX-License-Identifier: MIT */
/* The console's unix back-end: a listening socket and one client at a time. */
#include <sys/socket.h>
#include <sys/stat.h>

#include "vmm/claim.h"
#include "vmm/console_backend.h"
#include "vmm/machine.h"

int console_claim_path(struct console *con, const char *path, unsigned type, struct error *err)
{
	int rc = claim_path(&con->m->fds, "console-lock", "console", path, type, err);
	if (!rc)
		snprintf(con->path, sizeof(con->path), "%s", path);
	return rc;
}

static int unix_listen(struct console *con, const char *path, struct error *err)
{
	int rc = console_claim_path(con, path, S_IFSOCK, err);
	int fd = rc ? rc : claim_listen("console", path, 4, err);
	if (fd < 0)
		return fd;
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

static void unix_reload(struct console *con)
{
	con->in_fd = con->out_fd = fdset_take(&con->m->fds, "console-client");
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
	.reload = unix_reload,
	.accept = unix_accept,
	.hangup = unix_hangup,
};
