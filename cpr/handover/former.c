/* SPDX-License-Identifier: MIT */
/* Follows the end of the worker that had the guest before. */
#include "cpr/handover/former.h"

#include <sys/socket.h>
#include <sys/syscall.h>

#include "vmm/base/base.h"

#define WAIT_NS (20 * NS_PER_S)

static int pidfd = -1;
static uint64_t until_ns;

void former_follow(int peer)
{
	struct ucred cred;
	socklen_t len = sizeof(cred);
	if (getsockopt(peer, SOL_SOCKET, SO_PEERCRED, &cred, &len) || cred.pid == getpid())
		return;
	pidfd = (int)syscall(SYS_pidfd_open, cred.pid, 0);
}

int former_fd(void)
{
	return pidfd;
}

void former_ended(void)
{
	fd_close(&pidfd);
}

void former_await(void)
{
	until_ns = now_ns() + WAIT_NS;
}

void former_forget(void)
{
	until_ns = 0;
}

uint64_t former_deadline(void)
{
	return pidfd >= 0 ? until_ns : 0;
}
