/* SPDX-License-Identifier: MIT */
/* Clients that have attached to the console beside its back-end; they survive updates as any kept descriptor does. */
#include "vmm/console/viewers.h"

#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/stat.h>

#include "vmm/console/backend.h"
#include "vmm/machine.h"

#define each_viewer(v, con)                                                                        \
	for (struct viewer *v = (con)->viewers; v < (con)->viewers + VIEWERS_MAX; v++)

static const char *name_of(const struct viewer *v, char *buf)
{
	snprintf(buf, FDSET_NAME_LEN, "console-viewer:%u", (unsigned)(v - v->con->viewers));
	return buf;
}

static void drop(struct viewer *v)
{
	char name[FDSET_NAME_LEN];
	if (v->events)
		loop_remove(&v->con->m->loop, v->fd);
	fdset_close(&v->con->m->fds, name_of(v, name));
	*v = (struct viewer){.con = v->con, .fd = -1};
}

void viewers_load(struct console *con)
{
	char name[FDSET_NAME_LEN];
	each_viewer(v, con) {
		*v = (struct viewer){.con = con};
		v->fd = fdset_get(&con->m->fds, name_of(v, name));
	}
}

void viewers_write(struct console *con, const uint8_t *buf, size_t len)
{
	each_viewer(v, con)
		if (v->fd >= 0 && write(v->fd, buf, len) < 0 && errno != EAGAIN && errno != EINTR)
			drop(v);
}

static void on_typed(void *opaque, uint32_t events)
{
	struct viewer *v = opaque;
	struct console *con = v->con;
	uint8_t buf[CONSOLE_INPUT_LEN];
	if (con->state.in_len) /* the guest has not taken what came before */
		return;
	ssize_t n = read(v->fd, buf, sizeof(buf));
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n > 0)
		console_type(con, buf, (uint32_t)n);
	else
		drop(v);
	explicit_bzero(buf, sizeof(buf));
	console_watch(con);
}

/* What waits for the guest holds back the rest. */
void viewers_watch(struct console *con)
{
	uint32_t want = con->state.in_len ? 0 : EPOLLIN;
	each_viewer(v, con) {
		if (v->fd < 0 || v->events == want)
			continue;
		if (!want)
			loop_remove(&con->m->loop, v->fd);
		else if (loop_add(&con->m->loop, v->fd, want, on_typed, v, NULL))
			continue;
		v->events = want;
	}
}

static struct viewer *find_free(struct console *con)
{
	each_viewer(v, con)
		if (v->fd < 0)
			return v;
	return NULL;
}

int console_view(struct console *con, int fd, struct error *err)
{
	char name[FDSET_NAME_LEN];
	struct stat st;
	if (fstat(fd, &st) || !S_ISSOCK(st.st_mode))
		return error_set(err, EINVAL, "console: what came along is no socket");
	fcntl(fd, F_SETFL, O_NONBLOCK);
	pthread_mutex_lock(&con->m->lock);
	struct viewer *v = find_free(con);
	int rc = v ? fdset_keep(&con->m->fds, name_of(v, name), fd, err)
		   : error_set(err, EBUSY, "%d clients have the console already", VIEWERS_MAX);
	if (!rc) {
		*v = (struct viewer){.con = con, .fd = fd};
		console_watch(con);
	}
	pthread_mutex_unlock(&con->m->lock);
	return rc;
}
