/* SPDX-License-Identifier: MIT */
#include "tests/guest/runner/supervisor.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

#include "tests/guest/runner/session.h"

#define WAIT_MS 60000

/* Returns the sender, as the kernel knows it; 0: nothing came. */
static pid_t receive(int sock, char *text, size_t size)
{
	union {
		struct cmsghdr align;
		char room[CMSG_SPACE(sizeof(struct ucred))];
	} control;
	struct iovec part = {text, size - 1};
	struct msghdr msg = {.msg_iov = &part,
			     .msg_iovlen = 1,
			     .msg_control = control.room,
			     .msg_controllen = sizeof(control.room)};
	ssize_t n = recvmsg(sock, &msg, MSG_DONTWAIT);
	struct ucred from = {0};

	text[n > 0 ? n : 0] = 0;
	struct cmsghdr *c = n < 0 ? NULL : CMSG_FIRSTHDR(&msg);
	if (c && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_CREDENTIALS)
		memcpy(&from, CMSG_DATA(c), sizeof(from));
	return from.pid;
}

int supervisor_told(struct session *s, pid_t pid, const char *a, const char *b)
{
	struct pollfd p = {.fd = s->notify, .events = POLLIN};
	char text[2048];

	if (poll(&p, 1, WAIT_MS * (int)s->set->slow) <= 0)
		return session_fail(s, "the supervisor is told nothing, expected '%s'", a);
	pid_t from = receive(s->notify, text, sizeof(text));
	if (!strstr(text, a) || !strstr(text, b))
		return session_fail(s, "the supervisor was told '%s', expected '%s' and '%s'", text,
				    a, b);
	if (!strstr(a, "MAINPID=") && strstr(text, "MAINPID="))
		return session_fail(s, "the supervisor was told '%s'", text);
	return from == pid ? 0
			   : session_fail(s, "process %d tells the supervisor '%s', not %d",
					  (int)from, text, (int)pid);
}
