/* SPDX-License-Identifier: MIT */
#include "cpr/keeper.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cpr/fdset.h"
#include "vmm/base/error.h"
#include "vmm/base/fd.h"

#define STACK_LEN 16384

int keeper_prepare(struct keeper *k, struct fdset *fds, struct error *err)
{
	int wake[2];
	*k = (struct keeper){.wake_read = -1, .wake_write = -1, .self_pidfd = -1};
	if (pipe2(wake, O_CLOEXEC) < 0)
		return error_errno(err, errno, "keeper: pipe");
	k->wake_read = wake[0];
	int rc = fdset_keep(fds, "keeper-wake", wake[1], err);
	if (rc) {
		close(wake[1]);
		return rc;
	}
	k->wake_write = wake[1];
	k->self_pidfd = (int)syscall(SYS_pidfd_open, getpid(), 0);
	if (k->self_pidfd < 0)
		return error_errno(err, errno, "keeper: pidfd of this process");
	k->stack =
		mmap(NULL, STACK_LEN, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (k->stack == MAP_FAILED) {
		k->stack = NULL;
		return error_errno(err, errno, "keeper: stack");
	}
	return 0;
}

static long raw_syscall(long n, long a, long b, long c, long d, long e)
{
	long rc;
#if defined(__x86_64__)
	register long r10 __asm__("r10") = d;
	register long r8 __asm__("r8") = e;
	__asm__ volatile("syscall"
			 : "=a"(rc)
			 : "a"(n), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8)
			 : "rcx", "r11", "memory");
#else
#error "raw system calls of this architecture"
#endif
	return rc;
}

/* The keeper itself. errno, stdio and every lock belong to the old program: none is touched. It ends
 * when the last write end of the pipe is closed (commit, or the update is off) and when the process
 * that took over is dead. */
__attribute__((no_sanitize("address", "undefined"), no_stack_protector)) static int
keep(void *opaque)
{
	const struct keeper *k = opaque;
	struct pollfd fds[2] = {{.fd = k->wake_read, .events = POLLIN},
				{.fd = k->self_pidfd, .events = POLLIN}};

	raw_syscall(SYS_close, k->wake_write, 0, 0, 0, 0);
	while (raw_syscall(SYS_ppoll, (long)fds, 2, 0, 0, 0) == -EINTR)
		;
	raw_syscall(SYS_exit_group, 0, 0, 0, 0, 0);
	__builtin_unreachable();
}

int keeper_start(struct keeper *k, struct error *err)
{
	k->pid = clone(keep, (char *)k->stack + STACK_LEN, CLONE_VM | SIGCHLD, k);
	if (k->pid < 0) {
		k->pid = 0;
		return error_errno(err, errno, "keeper: clone");
	}
	return 0;
}

void keeper_release(struct fdset *fds)
{
	fdset_close(fds, "keeper-wake");
}

void keeper_cancel(struct keeper *k, struct fdset *fds)
{
	keeper_release(fds);
	k->wake_write = -1;
	if (k->pid)
		waitpid(k->pid, NULL, __WALL);
	k->pid = 0;
	fd_close(&k->wake_read);
	fd_close(&k->self_pidfd);
	if (k->stack)
		munmap(k->stack, STACK_LEN);
	k->stack = NULL;
}

void keeper_reap(void)
{
	while (waitpid(-1, NULL, WNOHANG | __WALL) > 0)
		;
}
