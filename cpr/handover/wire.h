/* SPDX-License-Identifier: MIT */
/*
 * Messages between the processes of one guest, over SOCK_SEQPACKET pairs: parent and worker (link.h), the
 * worker that has the guest and its successor (protocol.h). A message is a header, at most
 * WIRE_TEXT_MAX bytes, and at most WIRE_FDS descriptors (SCM_RIGHTS). Nothing that comes is trusted.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

struct error;

#define WIRE_TEXT_MAX 32768
#define WIRE_FDS      200 /* under the kernel's SCM_MAX_FD (253, net/scm.h) */

/* On the wire: the layout never changes. HELLO tells which version the other side is. */
struct wire_header {
	uint32_t magic; /* WIRE_MAGIC */
	uint32_t kind;
	int64_t value; /* what it means is the kind's */
};
#define WIRE_MAGIC 0x746c6f6du /* "molt" */

struct wire_message {
	uint32_t kind;
	int64_t value;
	size_t len; /* of text, without the NUL that is always behind it */
	unsigned nfds;
	int fds[WIRE_FDS];			  /* the receiver's, close-on-exec */
	_Alignas(8) char text[WIRE_TEXT_MAX + 1]; /* may be an array of structs (protocol.h) */
};

/* Two connected ends, close-on-exec. @ends[1] may be given to a process that is not molt: what it sends is
 * checked here. */
int wire_pair(int ends[2], struct error *err);

/* Sends one message; @fds stay the caller's. Never waits: -EAGAIN where the other side does not read. */
int wire_send(int sock, uint32_t kind, int64_t value, const void *text, size_t len, const int *fds,
	      unsigned nfds, struct error *err);

/* Waits up to @timeout_ms (-1: for ever) for a message and takes it. -ETIMEDOUT; -EPIPE: the other side is
 * gone; -EBADMSG: what came is no message, and its descriptors were closed. */
int wire_recv(int sock, struct wire_message *msg, int timeout_ms, struct error *err);

/* Closes descriptors of @msg that nobody has taken: those that are not -1. */
void wire_close_fds(struct wire_message *msg);

/* Takes descriptor @i out of @msg: the caller's from now on. -1: there is none. */
int wire_take_fd(struct wire_message *msg, unsigned i);
