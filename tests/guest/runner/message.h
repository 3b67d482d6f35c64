/* SPDX-License-Identifier: MIT */
/*
 * The messages of an update, as they are on the wire (cpr/handover/wire.h, protocol.h): looked at and changed in the
 * memory of a process that is about to send one. Nothing of molt is included: what is wrong in both its sides would
 * not be seen.
 */
#ifndef RUNNER_MESSAGE_H
#define RUNNER_MESSAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>

#define MESSAGE_MAGIC 0x746c6f6du
#define MESSAGE_FDS   200
#define MESSAGE_NAME  64

enum message_kind {
	MESSAGE_HELLO = 1,
	MESSAGE_OFFER,
	MESSAGE_FDS_SENT,
	MESSAGE_GOT,
	MESSAGE_BUILD,
	MESSAGE_PROGRESS,
	MESSAGE_READY,
	MESSAGE_NO,
	MESSAGE_STATE,
	MESSAGE_DONE,
};

struct message_head {
	uint32_t magic, kind;
	int64_t value;
};

struct message_fd {
	char name[MESSAGE_NAME];
	uint64_t generation;
};

struct message {
	pid_t pid;
	uint64_t msghdr_at;
	struct msghdr msghdr;
	struct iovec parts[2];
	struct message_head head;
	int fds[MESSAGE_FDS];
	unsigned nfds;
	struct message_fd names[MESSAGE_FDS]; /* MESSAGE_FDS_SENT */
	char text[64];			      /* the beginning */
};

/* What thread @pid is about to send with sendmsg(2) of arguments @args. False: no message. */
bool message_look(struct message *m, pid_t pid, const uint64_t *args);

/* Puts back head, fds, names and text; of these, the first m->nfds, and @names of the names. -1: it cannot. */
int message_change(const struct message *m, unsigned names);

/* The other way: the message becomes one of so many bytes. */
int message_cut(const struct message *m, size_t len);

/* Sends and receives one, on the runner's side. @nfds at most 3; @text of 4096 bytes. */
int message_send(int sock, enum message_kind kind, int64_t value, const int *fds, unsigned nfds);
int message_recv(int sock, struct message_head *head, char *text);

#endif
