/* SPDX-License-Identifier: MIT */
/*
 * What parent and worker have to tell each other must come: who has the guest, for one, decides whether it lives.
 * A message that cannot be sent at the moment (memory is short, the socket is full) waits here, and those
 * after it, for the next try.
 */
#pragma once

#include <stdint.h>

#include "cpr/handover/link.h"

struct error;

#define OUTBOX_MESSAGES 8
#define OUTBOX_TEXT	200
#define OUTBOX_NS	(50 * NS_PER_MS) /* between two tries */

struct outbox {
	struct outbox_message {
		enum link_kind kind;
		int64_t value;
		int fd; /* somebody else's, or -1 */
		char text[OUTBOX_TEXT];
	} m[OUTBOX_MESSAGES];
	unsigned n;
};

/* Sends it over @sock, or keeps it: 0. -errno: the other side is
 * gone, or the box full; @text may be NULL. */
int outbox_send(struct outbox *box, int sock, enum link_kind kind, int64_t value, const char *text,
		int fd, struct error *err);

/* Tries again what waits. -errno: the other side is gone, and the box empty. */
int outbox_flush(struct outbox *box, int sock, struct error *err);
