/* SPDX-License-Identifier: MIT */
/* Follows the end of the worker that had the guest before. */
#include "cpr/handover/former.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include "vmm/base/base.h"

#define WAIT_NS (20 * NS_PER_S)

static int pidfd = -1;
static uint64_t until_ns;
static bool asked; /* and messages say who has sent them */

static bool tell_senders(int peer, bool on)
{
	const int value = on;
	return !setsockopt(peer, SOL_SOCKET, SO_PASSCRED, &value, sizeof(value));
}

/* Looks at the message that waits, and leaves it there: its sender fills the room, so no descriptor is received. */
static pid_t sender(int peer)
{
	union {
		struct cmsghdr align;
		char room[CMSG_SPACE(sizeof(struct ucred))];
	} control;
	struct ucred cred = {0};
	char byte;
	struct iovec part = {&byte, sizeof(byte)};
	struct msghdr msg = {.msg_iov = &part,
			     .msg_iovlen = 1,
			     .msg_control = control.room,
			     .msg_controllen = sizeof(control.room)};
	if (recvmsg(peer, &msg, MSG_PEEK | MSG_DONTWAIT) < 0)
		return 0;
	struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
	if (c && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_CREDENTIALS)
		memcpy(&cred, CMSG_DATA(c), sizeof(cred));
	return cred.pid;
}

void former_ask(int peer)
{
	asked = tell_senders(peer, true);
}

void former_follow(int peer, int timeout_ms)
{
	if (!asked)
		return;
	struct pollfd p = {.fd = peer, .events = POLLIN};
	pid_t pid = poll(&p, 1, timeout_ms) > 0 ? sender(peer) : 0;
	tell_senders(peer, false);
	if (pid && pid != getpid())
		pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
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
