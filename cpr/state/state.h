/* SPDX-License-Identifier: MIT */
/*
 * The state blob: a flattened device tree in a sealed memfd, with one node per section, and behind
 * it, at fdt_totalsize() rounded up to 8, a 16-byte trailer with the checksum (ARCHITECTURE.md,
 * "State", has the format and the rules for what does not match). Every section is registered in a
 * state_tree, saved and loaded by its table of fields.
 */
#pragma once

#include "cpr/state/fields.h"

#define STATE_COMPATIBLE   "molt,state-1"
#define STATE_MAX_SECTIONS 2304 /* two for each of 1024 vCPUs, and the rest */
#define STATE_NODE_LEN	   48

struct state_section {
	/* Unique: the class's name, and @ and where it is if there may be several
	 * ("serial@3f8"). */
	char node[STATE_NODE_LEN];
	const struct state_class *cls;
	void *state;  /* of cls->size bytes; owned by the device */
	void *opaque; /* given to the hooks */
	/* Copy live values into @state. Device lock held; the guest may run (a trial blob). */
	int (*pre_save)(void *opaque, struct error *err);
	/* Check @state, make it live. */
	int (*post_load)(void *opaque, struct error *err);
};

struct state_tree {
	unsigned n;
	struct state_section sections[STATE_MAX_SECTIONS];
};

/* Copies @s into the tree. Returns 0, -EEXIST for a second node of that name, -ENOSPC. */
int state_register(struct state_tree *tree, const struct state_section *s, struct error *err);

struct state_header {
	char version[64];  /* of the program that wrote it */
	char build_id[48]; /* hex */
};

struct fdset;

size_t state_size_bound(const struct state_tree *tree, const struct fdset *fds);

/* Writes the blob into @buf; each section's pre_save is called right before it. *len: with the
 * trailer. */
int state_save(const struct state_tree *tree, const struct fdset *fds,
	       const struct state_header *header, void *buf, size_t size, size_t *len,
	       struct error *err);

/* A blob opened for reading; @data stays owned by the caller and must outlive it. */
struct state_blob {
	const void *fdt;
	size_t len; /* bytes in use, trailer included */
	struct state_header header;
	unsigned n;    /* subnodes of the root */
	unsigned last; /* that was found */
	struct {
		int node;
		const char *name;
		bool used;
	} nodes[STATE_MAX_SECTIONS + 8];
};

/* Checks @data and indexes its nodes. -EBADMSG: damaged; -EPROTO: of a format this program does not
 * know. */
int state_open(struct state_blob *blob, const void *data, size_t len, struct error *err);

/* -ENOENT: no such node, and a field is required. -EPROTO: another class, or it needs a newer
 * version. */
int state_load_section(struct state_blob *blob, const struct state_section *s, struct error *err);

/* Loads what is not loaded yet; refuses (-EPROTO) a node that nobody claimed and that is not
 * optional. */
int state_load(struct state_blob *blob, const struct state_tree *tree, struct error *err);

/* The property as one cell; 0: missing, or of another length. */
uint32_t state_number(const void *fdt, int node, const char *name);

/* The property as a string, or NULL: missing, or not terminated. */
const char *state_string(const void *fdt, int node, const char *name);

/* Is that property of a node the format's own, not a field of its class? */
bool state_is_header(const char *property);

/* The node of that name for other readers (fdset), or -1. Counts as claimed. */
int state_claim(struct state_blob *blob, const char *node);

/* 64-bit FNV-1a over 64-bit words: any single changed byte changes it. */
uint64_t state_checksum(const void *data, size_t len);
