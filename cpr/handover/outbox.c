/* SPDX-License-Identifier: MIT */
/* Messages between parent and worker that could not be sent at once. */
#include "cpr/handover/outbox.h"

#include "cpr/handover/wire.h"
#include "vmm/base/base.h"

/* Errors after which sending the same message again is no use. EBADF: its descriptor was closed meanwhile. */
static bool is_final(int rc)
{
	return rc == -EPIPE || rc == -ECONNRESET || rc == -ENOTCONN || rc == -EBADF ||
	       rc == -EMSGSIZE;
}

static int send_one(const struct outbox_message *m, int sock, struct error *err)
{
	return wire_send(sock, m->kind, m->value, m->text, strlen(m->text), &m->fd, m->fd >= 0,
			 err);
}

int outbox_flush(struct outbox *box, int sock, struct error *err)
{
	while (box->n) {
		int rc = send_one(&box->m[0], sock, err);
		if (rc && !is_final(rc))
			return 0;
		if (rc == -EPIPE || rc == -ECONNRESET) {
			box->n = 0;
			return rc;
		}
		memmove(box->m, box->m + 1, --box->n * sizeof(*box->m));
	}
	return 0;
}

int outbox_send(struct outbox *box, int sock, enum link_kind kind, int64_t value, const char *text,
		int fd, struct error *err)
{
	struct outbox_message m = {.kind = kind, .value = value, .fd = fd};
	snprintf(m.text, sizeof(m.text), "%s", text ?: "");
	int rc = outbox_flush(box, sock, err);
	if (rc)
		return rc;
	if (!box->n) {
		rc = send_one(&m, sock, err);
		if (!rc || is_final(rc))
			return rc;
	}
	if (box->n == OUTBOX_MESSAGES)
		return error_set(err, ENOBUFS, "%u messages wait already", box->n);
	box->m[box->n++] = m;
	return 0;
}
