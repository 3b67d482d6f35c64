/* SPDX-License-Identifier: MIT */
/* The memfd that carries the state from the old program to the new one. */
#ifndef MOLT_BLOB_H
#define MOLT_BLOB_H

#include <stddef.h>

#include "cpr/state.h"

struct error;
struct fdset;

struct blob {
	int fd;	    /* -1: none */
	void *map;  /* private, read-only */
	void *text; /* where the state is put together, NULL in the new program */
	size_t size, len;
};

/* Before the pause: a memfd with room for the state of @tree and @fds; all pages there and mapped. */
int blob_create(struct blob *b, const struct state_tree *tree, const struct fdset *fds,
		struct error *err);

/* Writes the state, seals it, and reads it back as the new program will: checksum, tree, every
 * descriptor. */
int blob_write(struct blob *b, const struct state_tree *tree, struct fdset *fds, struct error *err);

/* The new program: maps @fd, which must be sealed against every change. */
int blob_adopt(struct blob *b, int fd, struct error *err);

/* Unmaps and closes. */
void blob_close(struct blob *b);

#endif
