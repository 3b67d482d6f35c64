/* SPDX-License-Identifier: MIT */
/* The parent's next image: the rehearsal, the word of the worker, and the exec. */
#include "cpr/handover/next_image.h"

#include <fcntl.h>
#include <sys/syscall.h>

#include "cpr/handover/children.h"
#include "cpr/handover/spawn.h"
#include "vmm/base/base.h"

/* How long the rehearsal may take, and the worker's answer to LINK_PARTING. */
#define REHEARSAL_NS (10000 * NS_PER_MS)

static void stay(struct next_image *next, const char *why)
{
	fd_close(&next->exe);
	next->rehearsed = false;
	next->parting_ns = 0;
	log_warn("this process (pid %d) stays the old program until the next update: %s",
		 (int)getpid(), why);
}

void next_image_set(struct next_image *next, struct children *all, int exe)
{
	struct child *before = children_find(all, CHILD_REHEARSAL);
	if (before) {
		child_kill(before);
		before->ready = false;
		before->stale = true;
	}
	fd_close(&next->exe);
	next->rehearsed = false;
	next->exe = exe;
}

/* A child runs the program in the parent's role: it must report that it is ready, and exit with 0. */
static void rehearse(struct next_image *next, struct children *all)
{
	struct error err;
	int exe = fcntl(next->exe, F_DUPFD_CLOEXEC, 0);
	struct child *c = exe < 0 ? NULL : children_start(all, ROLE_REHEARSAL, exe, -1, &err);
	if (c)
		c->deadline_ns = now_ns() + REHEARSAL_NS;
	else
		stay(next, exe < 0 ? "no descriptor is left (ulimit -n)" : err.text);
}

void next_image_rehearsed(struct next_image *next, const struct child *c)
{
	if (c->stale)
		return;
	if (c->ready && !child_exit_status(c))
		next->rehearsed = true;
	else
		stay(next, "it did not pass its rehearsal as a parent");
}

/* Several steps at once would compete with the guest for its processors. The image after exec knows of no child but
 * the worker that has the guest. */
void next_image_go_on(struct next_image *next, struct children *all, bool signals)
{
	if (next->exe < 0 || !children_only_owner(all))
		return;
	if (!next->rehearsed) {
		rehearse(next, all);
	} else if (!next->parting_ns && !signals) {
		next->parting_ns = now_ns();
		owner_tell(all, LINK_PARTING, 0);
	}
}

void next_image_become(struct next_image *next, struct children *all, bool busy)
{
	if (!next->parting_ns)
		return;
	next->parting_ns = 0;
	/* The exec waits until what has begun meanwhile is over. */
	if (busy || !children_only_owner(all)) {
		owner_tell(all, LINK_BACK, 0);
		return;
	}
	struct child *owner = children_find(all, CHILD_OWNER);
	const struct role as = {
		.kind = ROLE_PARENT, .link = owner->link, .peer = -1, .worker = owner->pid};
	char text[ROLE_ENV_LEN];
	char **envp = spawn_environment(text, &as);
	if (envp && !fd_set_cloexec(owner->link, false))
		syscall(SYS_execveat, next->exe, "", all->argv, envp, AT_EMPTY_PATH);
	int code = errno;
	free(envp);
	fd_set_cloexec(owner->link, true);
	stay(next, strerror(code));
	owner_tell(all, LINK_BACK, 0);
}

uint64_t next_image_deadline(struct next_image *next, struct children *all, uint64_t now)
{
	if (!next->parting_ns)
		return UINT64_MAX;
	uint64_t end = next->parting_ns + REHEARSAL_NS;
	if (now < end)
		return end;
	stay(next, "the worker does not answer");
	/* The worker may have turned PDEATHSIG off meanwhile: this tells it to set it again. */
	owner_tell(all, LINK_BACK, 0);
	return UINT64_MAX;
}
