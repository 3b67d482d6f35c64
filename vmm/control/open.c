/* SPDX-License-Identifier: MIT */
/* The control socket is opened, or taken over from the program before this one, and goes in the end. */
#include <sys/socket.h>
#include <sys/stat.h>

#include "vmm/claim.h"
#include "vmm/control/server.h"

/* The folder of named guests' sockets, made if it is not there; nobody else may put names into it. */
static int make_rundir(struct error *err)
{
	char dir[CONTROL_PATH_LEN];
	struct stat st;
	int rc = control_rundir(dir, sizeof(dir), err);
	if (rc)
		return rc;
	if (mkdir(dir, 0700) < 0 && errno != EEXIST)
		return error_errno(err, errno, "folder %s of the control socket", dir);
	if (lstat(dir, &st) < 0)
		return error_errno(err, errno, "folder %s of the control socket", dir);
	if (!S_ISDIR(st.st_mode) || st.st_uid != geteuid() || (st.st_mode & (S_IWGRP | S_IWOTH))) {
		error_set(err, EPERM, "%s: not a folder that only this user may write", dir);
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
	int rc = opt->control ? 0 : make_rundir(err);

	if (!rc)
		rc = control_socket_path(opt->control ?: opt->name, path, err);
	if (!rc)
		rc = claim_path(fds, "control-lock", what, path, S_IFSOCK, err);
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
	for (struct control_client *c = ctl->clients; c < ctl->clients + CONTROL_CLIENTS; c++)
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
	if (!wanted)
		return 0;
	struct control *ctl = pool_alloc(1, sizeof(*ctl));
	if (!ctl)
		return error_errno(err, ENOMEM, "control socket");
	ctl->m = m;
	pthread_mutex_init(&ctl->lock, NULL);
	for (unsigned i = 0; i < CONTROL_CLIENTS; i++)
		ctl->clients[i] = (struct control_client){.ctl = ctl, .fd = -1};
	pthread_mutex_lock(&m->lock);
	ctl->listen_fd = fdset_get(&m->fds, "control");
	int rc = loop_init(&ctl->loop, "molt-control", SECCOMP_CONTROL, &ctl->lock, err);
	if (!rc && ctl->listen_fd < 0)
		rc = listen_anew(ctl, err);
	else if (!rc)
		take_over(ctl);
	pthread_mutex_unlock(&m->lock);
	if (rc) {
		pool_free(ctl);
		return rc;
	}
	m->control = ctl;
	return 0;
}

int control_start(struct control *ctl, struct error *err)
{
	int rc = 0;
	if (!ctl)
		return 0;
	pthread_mutex_lock(&ctl->lock);
	for (unsigned i = 0; !rc && i < CONTROL_CLIENTS; i++)
		if (ctl->clients[i].role != ROLE_FREE)
			rc = control_watch(&ctl->clients[i], err);
	if (!rc)
		rc = control_watch_door(ctl, err);
	pthread_mutex_unlock(&ctl->lock);
	return rc ? rc : loop_start(&ctl->loop, err);
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
