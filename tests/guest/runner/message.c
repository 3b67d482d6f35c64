/* SPDX-License-Identifier: MIT */
#include "tests/guest/runner/message.h"

#include <errno.h>
#include <string.h>

#include "tests/guest/inject/inject.h"

bool message_look(struct message *m, pid_t pid, const uint64_t *args)
{
	struct cmsghdr c;
	m->pid = pid;
	m->msghdr_at = args[1];
	m->nfds = 0;
	if (inject_read(pid, args[1], &m->msghdr, sizeof(m->msghdr)) || !m->msghdr.msg_iovlen ||
	    m->msghdr.msg_iovlen > 2 ||
	    inject_read(pid, (uint64_t)(uintptr_t)m->msghdr.msg_iov, m->parts,
			m->msghdr.msg_iovlen * sizeof(m->parts[0])) ||
	    m->parts[0].iov_len != sizeof(m->head) ||
	    inject_read(pid, (uint64_t)(uintptr_t)m->parts[0].iov_base, &m->head,
			sizeof(m->head)) ||
	    m->head.magic != MESSAGE_MAGIC)
		return false;
	uint64_t control = (uint64_t)(uintptr_t)m->msghdr.msg_control;
	if (m->msghdr.msg_controllen >= sizeof(c) && !inject_read(pid, control, &c, sizeof(c))) {
		m->nfds = (unsigned)((c.cmsg_len - CMSG_LEN(0)) / sizeof(int));
		if (m->nfds > MESSAGE_FDS ||
		    inject_read(pid, control + CMSG_LEN(0), m->fds, m->nfds * sizeof(int)))
			return false;
	}
	if (m->msghdr.msg_iovlen < 2)
		return true;
	uint64_t text = (uint64_t)(uintptr_t)m->parts[1].iov_base;
	size_t len = m->parts[1].iov_len;
	memset(m->text, 0, sizeof(m->text));
	if (len <= sizeof(m->names))
		inject_read(pid, text, m->names, len);
	return !inject_read(pid, text, m->text, len < sizeof(m->text) ? len : sizeof(m->text) - 1);
}

int message_change(const struct message *m, unsigned names)
{
	struct msghdr h = m->msghdr;
	struct iovec parts[2] = {m->parts[0], m->parts[1]};
	const size_t len = CMSG_LEN(m->nfds * sizeof(int));
	uint64_t control = (uint64_t)(uintptr_t)h.msg_control;
	int rc = inject_write(m->pid, (uint64_t)(uintptr_t)parts[0].iov_base, &m->head,
			      sizeof(m->head));
	if (!rc && control) {
		h.msg_controllen = m->nfds ? CMSG_SPACE(m->nfds * sizeof(int)) : 0;
		rc = inject_write(m->pid, control, &len, sizeof(len)) ||
		     inject_write(m->pid, control + CMSG_LEN(0), m->fds, m->nfds * sizeof(int));
	}
	if (!rc && names) {
		parts[1].iov_len = names * sizeof(m->names[0]);
		rc = inject_write(m->pid, (uint64_t)(uintptr_t)parts[1].iov_base, m->names,
				  parts[1].iov_len);
	}
	return rc ||
			       inject_write(m->pid, (uint64_t)(uintptr_t)h.msg_iov, parts,
					    h.msg_iovlen * sizeof(parts[0])) ||
			       inject_write(m->pid, m->msghdr_at, &h, sizeof(h))
		       ? -1
		       : 0;
}

int message_cut(const struct message *m, size_t len)
{
	struct msghdr h = m->msghdr;
	struct iovec part = {m->parts[0].iov_base, len};
	h.msg_iovlen = 1;
	return inject_write(m->pid, (uint64_t)(uintptr_t)h.msg_iov, &part, sizeof(part)) ||
			       inject_write(m->pid, m->msghdr_at, &h, sizeof(h))
		       ? -1
		       : 0;
}

int message_send(int sock, enum message_kind kind, int64_t value, const int *fds, unsigned nfds)
{
	struct message_head head = {MESSAGE_MAGIC, kind, value};
	struct iovec part = {&head, sizeof(head)};
	union {
		struct cmsghdr c;
		char room[CMSG_SPACE(3 * sizeof(int))];
	} control = {0};
	struct msghdr h = {.msg_iov = &part, .msg_iovlen = 1};
	if (nfds) {
		h.msg_control = &control;
		h.msg_controllen = CMSG_SPACE(nfds * sizeof(int));
		control.c.cmsg_level = SOL_SOCKET;
		control.c.cmsg_type = SCM_RIGHTS;
		control.c.cmsg_len = CMSG_LEN(nfds * sizeof(int));
		memcpy(CMSG_DATA(&control.c), fds, nfds * sizeof(int));
	}
	return sendmsg(sock, &h, MSG_NOSIGNAL) == (ssize_t)sizeof(head) ? 0 : -1;
}

int message_recv(int sock, struct message_head *head, char *text)
{
	struct iovec parts[2] = {{head, sizeof(*head)}, {text, 4095}};
	struct msghdr h = {.msg_iov = parts, .msg_iovlen = 2};
	ssize_t n = recvmsg(sock, &h, 0);
	if (n < 0 &&
	    errno == ECONNRESET) /* it ended with something unread; what it said comes after */
		n = recvmsg(sock, &h, 0);
	if (n < (ssize_t)sizeof(*head))
		return -1;
	text[n - (ssize_t)sizeof(*head)] = 0;
	return 0;
}
