/* SPDX-License-Identifier: MIT */
/* The memfd that carries the state from the old program to the new one. */
#pragma once

#include <fcntl.h> /* F_SEAL_* */
#include <stddef.h>

#include "cpr/state/state.h"

/*
 * Nothing changes it once it is written. F_SEAL_FUTURE_WRITE and not F_SEAL_WRITE, which is the same for a
 * file that was never mapped writable but waits for all that holds a page of it (reclaim, migration, another
 * CPU's LRU batch), up to 150 ms, and then fails with EBUSY (mm/memfd.c, memfd_wait_for_pins).
 */
#define BLOB_SEALS (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE | F_SEAL_SEAL)

struct error;
struct fdset;

struct blob {
	int fd;	    /* -1: none */
	void *map;  /* successor: private, read-only */
	void *text; /* incumbent: where the state is put together */
	size_t size, len;
};

/* Before the pause: a memfd with room for the state of @tree and @fds; all pages are there. */
int blob_create(struct blob *b, const struct state_tree *tree, const struct fdset *fds,
		struct error *err);

/* Writes the state and seals it. */
int blob_write(struct blob *b, const struct state_tree *tree, struct fdset *fds, struct error *err);

/* The new program: maps @fd, which must be sealed against every change. */
int blob_adopt(struct blob *b, int fd, struct error *err);

/* The successor, before the pause: maps @fd, which is written later. The blob's from now on, also on failure.
 * blob_arrived: @len bytes of it are there, and it must be sealed by now. */
int blob_expect(struct blob *b, int fd, struct error *err);
int blob_arrived(struct blob *b, size_t len, struct error *err);

/* Unmaps and closes. */
void blob_close(struct blob *b);
