/* SPDX-License-Identifier: MIT */
/* The parent's table of children. */
#include "cpr/handover/children.h"

#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "cpr/handover/spawn.h"
#include "cpr/handover/wire.h"
#include "vmm/base/base.h"

#define RESERVED 2 /* places for a successor and a rehearsal */

static const struct child nobody = {.pidfd = -1, .link = -1, .exe = -1};

void children_init(struct children *all, char **argv)
{
	*all = (struct children){.argv = argv};
	for (struct child *c = all->c; c < all->c + CHILDREN; c++)
		*c = nobody;
}

struct child *children_find(struct children *all, enum child_role role)
{
	for (struct child *c = all->c; c < all->c + CHILDREN; c++)
		if (c->role == role)
			return c;
	return NULL;
}

bool children_only_owner(struct children *all)
{
	return !children_find(all, CHILD_SUCCESSOR) && !children_find(all, CHILD_FORMER) &&
	       !children_find(all, CHILD_REHEARSAL);
}

bool children_room(struct children *all)
{
	unsigned n = 0;
	for (struct child *c = all->c; c < all->c + CHILDREN; c++)
		n += !c->role;
	return n >= RESERVED;
}

/* ---- start and end ---- */

static enum child_role role_of(enum role_kind kind)
{
	return kind == ROLE_WORKER	? CHILD_OWNER
	       : kind == ROLE_SUCCESSOR ? CHILD_SUCCESSOR
					: CHILD_REHEARSAL;
}

struct child *children_start(struct children *all, enum role_kind role, int exe, int peer,
			     struct error *err)
{
	struct child *c = children_find(all, CHILD_NONE);
	int ends[2] = {-1, -1};
	int rc = c ? wire_pair(ends, err) : error_set(err, EBUSY, "another update is not over yet");
	if (!rc) {
		const struct role as = {.kind = role, .link = ends[1], .peer = peer};
		int pidfd;
		rc = spawn(exe, all->argv, &as, &pidfd, err);
		if (rc > 0)
			*c = (struct child){.role = role_of(role),
					    .pid = rc,
					    .pidfd = pidfd,
					    .link = ends[0],
					    .exe = exe};
	}
	fd_close(&ends[1]);
	fd_close(&peer);
	if (rc > 0) {
		if (role != ROLE_SUCCESSOR) /* only a successor's program may be the next image */
			fd_close(&c->exe);
		return c;
	}
	fd_close(&ends[0]);
	fd_close(&exe);
	return NULL;
}

void child_kill(const struct child *c)
{
	if (c->pidfd >= 0)
		syscall(SYS_pidfd_send_signal, c->pidfd, SIGKILL, NULL, 0);
	else
		kill(c->pid, SIGKILL);
}

void child_forget(struct child *c)
{
	fd_close(&c->pidfd);
	fd_close(&c->link);
	fd_close(&c->exe);
	*c = nobody;
}

int child_exit_status(const struct child *c)
{
	return WIFEXITED(c->status) ? WEXITSTATUS(c->status) : 128 + WTERMSIG(c->status);
}

uint64_t children_deadlines(struct children *all, uint64_t now)
{
	uint64_t next = UINT64_MAX;
	for (struct child *c = all->c; c < all->c + CHILDREN; c++) {
		if (!c->role || !c->deadline_ns)
			continue;
		if (now >= c->deadline_ns) {
			child_kill(c);
			c->deadline_ns = now + HEIR_NS;
		}
		next = c->deadline_ns < next ? c->deadline_ns : next;
	}
	return next;
}

void children_end(struct children *all)
{
	for (struct child *c = all->c; c < all->c + CHILDREN; c++)
		if (c->role && !c->ended) {
			child_kill(c);
			waitpid(c->pid, NULL, 0);
		}
}

/* ---- what the owner is told ---- */

static void not_heard(const struct child *owner, const struct error *err)
{
	log_warn("the worker (pid %d) does not listen: %s", (int)owner->pid, err->text);
}

void owner_tell_all(struct children *all, enum link_kind kind, int64_t value, const char *text,
		    int fd)
{
	struct child *owner = children_find(all, CHILD_OWNER);
	struct error err;
	if (owner && owner->link >= 0 &&
	    outbox_send(&all->out, owner->link, kind, value, text, fd, &err))
		not_heard(owner, &err);
}

void owner_tell(struct children *all, enum link_kind kind, int value)
{
	owner_tell_all(all, kind, value, NULL, -1);
}

void owner_tell_again(struct children *all)
{
	struct child *owner = children_find(all, CHILD_OWNER);
	struct error err;
	if (owner && owner->link >= 0 && outbox_flush(&all->out, owner->link, &err))
		not_heard(owner, &err);
}
