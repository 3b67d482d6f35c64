/* SPDX-License-Identifier: MIT */
/*
 * The table of kept descriptors: each has a name ("ram0", "vfio:0000:00:05.0:msix:3"). Opening code
 * asks fdset_get() first: a process that took over finds the descriptor, a fresh one opens it and
 * calls fdset_keep().
 */
#pragma once

#include "vmm/base/base.h"

struct state_blob;

#define FDSET_MAX      8192
#define FDSET_NAME_LEN 64

/* What an entry is found by. The table is searched for each of its entries within the pause: so entries whose key falls
 * into the same place of a hash table are one chain. */
enum fdset_key { FDSET_BY_NAME, FDSET_BY_NUMBER, FDSET_KEYS };

struct fdset_entry {
	char name[FDSET_NAME_LEN];
	int fd;
	uint32_t hash; /* of the name */
	uint32_t mode; /* st_mode & S_IFMT: what fstat says of it, checked on adoption */
	uint16_t next[FDSET_KEYS]; /* of its chains: index + 1; 0: it is the last */
	uint64_t dev, ino, rdev;
	/* Tells apart what had the same name one after the other: all eventfds look the same to fstat. */
	uint64_t generation;
	bool taken;
	bool sent; /* in the update under way the successor has got it, under this name */
};

struct fdset {
	struct fdset_entry *e; /* grown as needed, owned */
	/* Where each chain begins, as in next: @room of them by name, then @room by number. In the memory of @e,
	 * behind it. */
	uint16_t *first;
	unsigned n, room;     /* room: a power of two */
	unsigned changes;     /* counts entries added and closed */
	uint64_t generations; /* the highest one given out */
};

/* The descriptor of that name, or -1. It stays the table's: closed only through fdset_close(). */
int fdset_get(struct fdset *set, const char *name);

/* Adds an open descriptor under a new name; the table owns it from here on. -EEXIST, or what
 * fails. */
int fdset_keep(struct fdset *set, const char *name, int fd, struct error *err);
void fdset_close(struct fdset *set, const char *name);
/* Closes what has the name, if anything has, and adds @fd instead. It cannot fail where there was one. */
int fdset_replace(struct fdset *set, const char *name, int fd, struct error *err);
void fdset_rename(struct fdset *set, const char *from, const char *to);

/* Makes room for @n entries, at most FDSET_MAX: fewer cost no memory then. */
int fdset_reserve(struct fdset *set, unsigned n, struct error *err);

/* Fills @set from node "fds" of the blob, which is checked; the descriptors are not. What it held is forgotten. */
int fdset_list(struct fdset *set, struct state_blob *blob, struct error *err);

/* Closes adopted descriptors that nobody took and warns with their names. */
void fdset_close_untaken(struct fdset *set);

/* Adds what another process has sent under @name, instead of one that has the name already, which
 * is closed. Where this fails @fd is the caller's. */
int fdset_receive(struct fdset *set, const char *name, uint64_t generation, int fd,
		  struct error *err);

/* Are the descriptors that were received those that the blob lists? -EBADF names the first that is
 * not. What the blob does not list is closed. @listed is filled with what it lists; the room that it has is used. */
int fdset_match(struct fdset *set, struct fdset *listed, struct state_blob *blob,
		struct error *err);
int fdset_write(void *fdt, const struct fdset *set, struct error *err);
