/* SPDX-License-Identifier: MIT */
#include "cpr/keeper.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "cpr/fdset.h"
#include "cpr/handover.h"
#include "cpr/pending.h"
#include "cpr/raw.h"
#include "vmm/base/error.h"
#include "vmm/base/fd.h"

#define STACK_LEN 16384
#define NS_PER_S  1000000000ull

#define EXEC_TRIES   100
#define EXEC_WAIT_NS 20000000

/* ---- the keeper itself ---- */

RAW __attribute__((noreturn)) static void leave(void)
{
	/* What its end tears down takes milliseconds that the guest, just running again, wants. */
	raw_syscall(SYS_setpriority, PRIO_PROCESS, 0, 19, 0, 0);
	raw_syscall(SYS_exit_group, 0, 0, 0, 0, 0);
	__builtin_unreachable();
}

RAW static uint64_t raw_now_ns(void)
{
	struct timespec ts;
	raw_syscall(SYS_clock_gettime, CLOCK_MONOTONIC, (long)&ts, 0, 0, 0);
	return (uint64_t)ts.tv_sec * NS_PER_S + (uint64_t)ts.tv_nsec;
}

RAW static void raw_blame(struct handover *h, const char *reason)
{
	for (unsigned i = 0; !h->reason[0] || i; i++) {
		h->reason[i] = reason[i];
		if (!reason[i])
			return;
	}
}

/* Who wins the word owns the guest; who loses never touches it again. */
RAW static void take_or_leave(struct handover *h)
{
	uint32_t open = HANDOVER_OPEN;
	if (!__atomic_compare_exchange_n(&h->owner, &open, HANDOVER_TAKEN, false, __ATOMIC_SEQ_CST,
					 __ATOMIC_SEQ_CST))
		leave();
}

static const char last_words[] =
	"molt: update failed, and the old program cannot be executed again: the guest is lost\n";

/* The image is gone and the word is ours: become the old program. */
RAW static void bring_back(const struct keeper *k)
{
	for (unsigned i = 0; i < k->fds->n; i++)
		raw_syscall(SYS_fcntl, k->fds->e[i].fd, F_SETFD, 0, 0, 0);
	raw_syscall(SYS_fcntl, k->blob_fd, F_SETFD, 0, 0, 0);
	pending_inherit(k->status);
	/* It returns only when it failed; what was missing may be there in a moment. */
	struct timespec ts = {.tv_nsec = EXEC_WAIT_NS};
	for (int tries = 0; tries < EXEC_TRIES; tries++) {
		raw_syscall(SYS_execveat, k->exe_fd, (long)"", (long)k->image.argv,
			    (long)k->image.envp, AT_EMPTY_PATH);
		raw_syscall(SYS_nanosleep, (long)&ts, 0, 0, 0, 0);
	}
	raw_syscall(SYS_write, STDERR_FILENO, (long)last_words, sizeof(last_words) - 1, 0, 0);
	raw_syscall(SYS_exit_group, EXIT_LOST, 0, 0, 0, 0);
}

/* Waits for an event or the deadline. Returns true when the image has ended. */
RAW static bool wait_event(const struct keeper *k, uint64_t left_ns)
{
	struct pollfd fds[2] = {{.fd = k->self_pidfd, .events = POLLIN},
				{.fd = k->wake, .events = POLLIN}};
	struct timespec ts = {.tv_sec = (time_t)(left_ns / NS_PER_S),
			      .tv_nsec = (long)(left_ns % NS_PER_S)};
	return raw_syscall(SYS_ppoll, (long)fds, 2, (long)&ts, 0, 0) > 0 && fds[0].revents;
}

RAW __attribute__((noreturn)) static int keep(void *opaque)
{
	const struct keeper *k = opaque;
	struct handover *h = k->page;
	bool nudged = false;

	for (uint64_t left_ns = h->timeout_ns;;) {
		bool ended = wait_event(k, left_ns);
		bool armed = __atomic_load_n(&h->armed, __ATOMIC_ACQUIRE);
		if (__atomic_load_n(&h->owner, __ATOMIC_SEQ_CST) != HANDOVER_OPEN ||
		    (ended && !armed)) /* the old program itself died: nothing to go back to */
			leave();
		if (ended) {
			take_or_leave(h);
			raw_blame(h, "the new program ended before it had taken over");
			bring_back(k);
		}
		uint64_t now = raw_now_ns();
		left_ns = h->timeout_ns;
		if (!armed)
			continue;
		if (now < h->deadline_ns) {
			left_ns = h->deadline_ns - now;
		} else if (!nudged) {
			nudged = true;
			raw_syscall(SYS_pidfd_send_signal, k->self_pidfd, KEEPER_NUDGE, 0, 0, 0);
		} else {
			take_or_leave(h);
			raw_blame(h, "the new program did not take over in time");
			do
				raw_syscall(SYS_pidfd_send_signal, k->self_pidfd, SIGKILL, 0, 0, 0);
			while (!wait_event(k, NS_PER_S));
			bring_back(k);
		}
	}
}

/* ---- the old and the new program ---- */

int keeper_prepare(struct keeper *k, struct fdset *fds, struct error *err)
{
	*k = (struct keeper){.wake = -1, .self_pidfd = -1, .status = pending_open(), .fds = fds};
	k->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (k->wake < 0)
		return error_errno(err, errno, "keeper: eventfd");
	int rc = fdset_keep(fds, "keeper-wake", k->wake, err);
	if (rc) {
		fd_close(&k->wake);
		return rc;
	}
	k->self_pidfd = (int)syscall(SYS_pidfd_open, getpid(), 0);
	if (k->self_pidfd < 0)
		return error_errno(err, errno, "keeper: pidfd of this process");
	k->stack = mmap(NULL, STACK_LEN, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	if (k->stack == MAP_FAILED) {
		k->stack = NULL;
		return error_errno(err, errno, "keeper: stack");
	}
	return 0;
}

int keeper_way_back(struct keeper *k, struct program *p, struct handover *page, int blob_fd,
		    int exe_fd, struct error *err)
{
	const struct program_incoming back = {
		.mode = PROGRAM_RESCUE, .blob_fd = blob_fd, .old_fd = exe_fd};
	k->page = page;
	k->blob_fd = blob_fd;
	k->exe_fd = exe_fd;
	return program_image_init(&k->image, p, &back, err);
}

int keeper_start(struct keeper *k, struct error *err)
{
	k->changes = k->fds->changes;
	k->pid = clone(keep, (char *)k->stack + STACK_LEN, CLONE_VM | SIGCHLD, k);
	if (k->pid < 0) {
		k->pid = 0;
		return error_errno(err, errno, "keeper: clone");
	}
	return 0;
}

void keeper_outlive(struct keeper *k)
{
	while (k->pid && waitpid(k->pid, NULL, __WALL) < 0 && errno == EINTR)
		;
	k->pid = 0;
}

/* Not by asking: it may be stopped. */
static void end(struct keeper *k)
{
	if (k->pid)
		kill(k->pid, SIGKILL);
	keeper_outlive(k);
}

int keeper_refresh(struct keeper *k, struct error *err)
{
	if (k->changes == k->fds->changes)
		return 0;
	end(k);
	return keeper_start(k, err);
}

void keeper_release(struct fdset *fds)
{
	const uint64_t one = 1;
	int wake = fdset_take(fds, "keeper-wake");
	if (wake < 0)
		return;
	/* An eventfd that was just opened takes a one. Unheard, the keeper goes at its deadline. */
	for (int tries = 0; tries < 3 && write(wake, &one, sizeof(one)) < 0; tries++)
		;
	fdset_close(fds, "keeper-wake");
}

void keeper_cancel(struct keeper *k, struct fdset *fds)
{
	end(k);
	fdset_close(fds, "keeper-wake");
	fd_close(&k->self_pidfd);
	fd_close(&k->status);
	if (k->stack)
		munmap(k->stack, STACK_LEN);
	k->stack = NULL;
	program_image_free(&k->image);
}

bool keeper_reap(void)
{
	bool reaped = false;
	while (waitpid(-1, NULL, WNOHANG | __WALL) > 0)
		reaped = true;
	return reaped;
}
