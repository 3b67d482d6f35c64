/* SPDX-License-Identifier: MIT */
/* Blobs for tests: signed again after they were changed by hand. */
#ifndef MOLT_TESTS_BLOB_H
#define MOLT_TESTS_BLOB_H

#include <libfdt.h>
#include <string.h>

#include "cpr/state/fdset.h"
#include "cpr/state/state.h"
#include "vmm/base/error.h"
#include "vmm/base/num.h"

#define BLOB_TRAILER_LEN 16

/* Makes the checksum of a blob whose tree was changed right; the trailer's place and magic stay. */
static inline void blob_sign(void *blob, size_t len)
{
	uint64_t sum = state_checksum(blob, len - BLOB_TRAILER_LEN);
	memcpy((char *)blob + len - 8, &sum, sizeof(sum));
}

/* Puts a finished tree in @buf into the form of a blob; returns its length. */
static inline size_t blob_seal(void *buf)
{
	/* The magic is the codec's own: from an empty blob. */
	static char empty[4096];
	static const struct state_header header = {"v", "b"};
	struct state_tree none = {.n = 0};
	struct fdset fds = {0};
	size_t len = 0, body = align_up(fdt_totalsize(buf), 8);
	state_save(&none, &fds, &header, empty, sizeof(empty), &len, NULL);
	memset((char *)buf + fdt_totalsize(buf), 0, body - fdt_totalsize(buf));
	memcpy((char *)buf + body, empty + len - BLOB_TRAILER_LEN, BLOB_TRAILER_LEN);
	blob_sign(buf, body + BLOB_TRAILER_LEN);
	return body + BLOB_TRAILER_LEN;
}

/* Begins a tree in @buf with what every blob's root has; the caller adds nodes, then blob_end. */
static inline void blob_begin(void *buf, size_t size)
{
	fdt_create(buf, (int)size);
	fdt_finish_reservemap(buf);
	fdt_begin_node(buf, "");
	fdt_property_string(buf, "compatible", STATE_COMPATIBLE);
	fdt_property_string(buf, "program-version", "v");
	fdt_property_string(buf, "build-id", "b");
}

static inline size_t blob_end(void *buf)
{
	fdt_end_node(buf);
	fdt_finish(buf);
	return blob_seal(buf);
}

#endif
