/* SPDX-License-Identifier: MIT */
/* Messages with descriptors: sent, received, checked. */
#include "cpr/handover/wire.h"
#include "vmm/base/base.h"

#include <poll.h>
#include <sys/socket.h>

/* Room for a whole batch of descriptors' names, several times. */
#define BUFFER_LEN (4 * (WIRE_TEXT_MAX + 1024))

int wire_pair(int ends[2], struct error *err)
{
	const int room = BUFFER_LEN;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0)
		return error_errno(err, errno, "socket pair");
	for (unsigned i = 0; i < 2; i++)
		setsockopt(ends[i], SOL_SOCKET, SO_SNDBUF, &room, sizeof(room));
	return 0;
}

int wire_send(int sock, uint32_t kind, int64_t value, const void *text, size_t len, const int *fds,
	      unsigned nfds, struct error *err)
{
	struct wire_header header = {.magic = WIRE_MAGIC, .kind = kind, .value = value};
	union {
		struct cmsghdr align;
		char room[CMSG_SPACE(WIRE_FDS * sizeof(int))];
	} control;
	struct iovec parts[2] = {{&header, sizeof(header)}, {(void *)text, len}};
	struct msghdr msg = {.msg_iov = parts, .msg_iovlen = len ? 2 : 1};

	if (len > WIRE_TEXT_MAX || nfds > WIRE_FDS)
		return error_set(err, EMSGSIZE, "message %u: %zu bytes, %u descriptors", kind, len,
				 nfds);
	if (nfds) {
		msg.msg_control = control.room;
		msg.msg_controllen = CMSG_SPACE(nfds * sizeof(int));
		memset(control.room, 0, msg.msg_controllen);
		struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(nfds * sizeof(int));
		memcpy(CMSG_DATA(c), fds, nfds * sizeof(int));
	}
	ssize_t n;
	do
		n = sendmsg(sock, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return error_errno(err, errno, "sending message %u", kind);
	return 0;
}

static int wait_readable(int sock, int timeout_ms, struct error *err)
{
	uint64_t until = now_ns() + (uint64_t)(timeout_ms > 0 ? timeout_ms : 0) * NS_PER_MS;
	for (;;) {
		struct pollfd p = {.fd = sock, .events = POLLIN};
		int n = poll(&p, 1, timeout_ms < 0 ? -1 : ms_until(until));
		if (n > 0)
			return 0;
		if (n == 0)
			return error_set(err, ETIMEDOUT, "no message within %d ms", timeout_ms);
		if (errno != EINTR)
			return error_errno(err, errno, "waiting for a message");
	}
}

int wire_recv(int sock, struct wire_message *out, int timeout_ms, struct error *err)
{
	struct wire_header header;
	union {
		struct cmsghdr align;
		char room[CMSG_SPACE(WIRE_FDS * sizeof(int))];
	} control;
	struct iovec parts[2] = {{&header, sizeof(header)}, {out->text, WIRE_TEXT_MAX}};
	struct msghdr msg = {.msg_iov = parts,
			     .msg_iovlen = 2,
			     .msg_control = control.room,
			     .msg_controllen = sizeof(control.room)};
	ssize_t n = -1;

	out->nfds = 0;
	do {
		int rc = n < 0 && timeout_ms ? wait_readable(sock, timeout_ms, err) : 0;
		if (rc)
			return rc;
		n = recvmsg(sock, &msg, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
		/* A reset is told once, and before what was sent ahead of it: STATE counts though its sender died. */
	} while (n < 0 &&
		 (errno == EINTR || errno == ECONNRESET || (errno == EAGAIN && timeout_ms)));
	if (n < 0 && errno == EAGAIN)
		return error_set(err, ETIMEDOUT, "no message");
	if (n == 0 || (n < 0 && errno == EPIPE))
		return error_set(err, EPIPE, "the other side has closed the connection");
	if (n < 0)
		return error_errno(err, errno, "receiving a message");
	out->nfds = fd_received(&msg, out->fds, WIRE_FDS);
	if ((size_t)n < sizeof(header) || header.magic != WIRE_MAGIC ||
	    msg.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) {
		wire_close_fds(out);
		return error_set(err, EBADMSG, "%zd bytes that are no message%s", n,
				 msg.msg_flags & MSG_CTRUNC ? ", with descriptors left out" : "");
	}
	out->kind = header.kind;
	out->value = header.value;
	out->len = (size_t)n - sizeof(header);
	out->text[out->len] = 0;
	return 0;
}

void wire_close_fds(struct wire_message *msg)
{
	for (unsigned i = 0; i < msg->nfds; i++)
		if (msg->fds[i] >= 0)
			close(msg->fds[i]);
	msg->nfds = 0;
}

int wire_take_fd(struct wire_message *msg, unsigned i)
{
	if (i >= msg->nfds)
		return -1;
	int fd = msg->fds[i];
	msg->fds[i] = -1;
	return fd;
}
