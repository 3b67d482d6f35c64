/* SPDX-License-Identifier: MIT */
/*
 * State declared once: a table of named, typed fields per state struct, which is plain: no
 * pointers, no implicit padding (a unit test adds up its fields). The rules for what is missing or
 * unknown: ARCHITECTURE.md, "State". Integers are stored as big-endian cells, u64 as two cells;
 * kernel structures and raw bytes as opaque properties.
 */
#pragma once

#include "vmm/base/base.h"

enum field_type {
	FIELD_UINT,   /* @count unsigned integers of @size bytes (1, 2, 4 or 8) */
	FIELD_OPAQUE, /* @count elements of @size bytes, copied as they are */
	FIELD_STRING, /* char array of @size bytes, NUL-terminated */
};

#define FIELD_FIXED 0xffffffffu

struct field {
	const char *name;
	enum field_type type;
	uint8_t required;
	uint32_t offset;
	uint32_t size;
	uint32_t count;
	uint32_t len_offset; /* of the uint32_t that counts the used elements, or FIELD_FIXED */
	uint32_t since;	     /* class version that brought it */
	uint64_t def;	     /* default of every element (integers) */
};

/* A class of state: what one node of the blob holds. */
struct state_class {
	const char *name; /* "serial": goes to the node's "class" property */
	uint32_t version; /* of this program */
	uint32_t size;	  /* sizeof(struct) */
	const struct field *fields;
	uint32_t nfields;
	/* Oldest version of this class that may load what this one saves; 0: any. Raised when a field is
	 * added that a guest cannot do without: an older program then refuses instead of dropping it. */
	uint32_t needs;
	bool optional; /* a program that does not know the class may drop its nodes */
};

/* S: state struct, m: member, t: type, len: the uint32_t member that counts the used elements,
 * which needs no field of its own. _SINCE variants are not required: they declare the version that
 * brought them, integers a default too. */
#define FIELD_(S, m, t, size_, count_, len_offset_, ...)                                           \
	{                                                                                          \
		.name = #m, .type = (t), .offset = offsetof(S, m), .size = (size_),                \
		.count = (count_), .len_offset = (len_offset_), __VA_ARGS__                        \
	}
#define FIELD_ONE(S, m, t, ...) FIELD_(S, m, t, member_len(S, m), 1, FIELD_FIXED, __VA_ARGS__)
#define FIELD_ROW(S, m, t, len_offset, ...)                                                        \
	FIELD_(S, m, t, member_len(S, m[0]), member_len(S, m) / member_len(S, m[0]), len_offset,   \
	       __VA_ARGS__)
#define FIELD_NEEDED .required = 1, .since = 1

#define FIELD_U(S, m)		     FIELD_ONE(S, m, FIELD_UINT, FIELD_NEEDED)
#define FIELD_U_SINCE(S, m, v, def_) FIELD_ONE(S, m, FIELD_UINT, .since = (v), .def = (def_))
#define FIELD_ARRAY(S, m)	     FIELD_ROW(S, m, FIELD_UINT, FIELD_FIXED, FIELD_NEEDED)
#define FIELD_ARRAY_SINCE(S, m, v)   FIELD_ROW(S, m, FIELD_UINT, FIELD_FIXED, .since = (v))
#define FIELD_ARRAY_LEN(S, m, len)   FIELD_ROW(S, m, FIELD_UINT, offsetof(S, len), FIELD_NEEDED)
#define FIELD_ARRAY_LEN_SINCE(S, m, len, v)                                                        \
	FIELD_ROW(S, m, FIELD_UINT, offsetof(S, len), .since = (v))
#define FIELD_OPAQUE_LEN(S, m, len) FIELD_ROW(S, m, FIELD_OPAQUE, offsetof(S, len), FIELD_NEEDED)
#define FIELD_RAW(S, m)		    FIELD_ONE(S, m, FIELD_OPAQUE, FIELD_NEEDED)
#define FIELD_RAW_SINCE(S, m, v)    FIELD_ONE(S, m, FIELD_OPAQUE, .since = (v))
#define FIELD_STR(S, m)		    FIELD_ONE(S, m, FIELD_STRING, FIELD_NEEDED)
#define FIELD_STR_SINCE(S, m, v)    FIELD_ONE(S, m, FIELD_STRING, .since = (v))

/* More designators may follow: .needs, .optional. */
#define STATE_CLASS(var, name_, version_, S, table, ...)                                           \
	const struct state_class var = {.name = (name_),                                           \
					.version = (version_),                                     \
					.size = sizeof(S),                                         \
					.fields = (table),                                         \
					.nfields = ARRAY_LEN(table),                               \
					__VA_ARGS__}

/* Writes all fields of @state into the node that is open in @fdt. -ENOSPC: the buffer is too
 * small. */
int fields_write(void *fdt, const struct state_class *cls, const void *state, struct error *err);

/* Fills @state (of cls->size bytes) from node @node of @fdt, which need not be trusted beyond
 * fdt_check_full(); from nothing but defaults when @node is negative. On success every field is
 * written, but not what lies beyond the used elements of counted arrays: those are large and mostly
 * empty, and clearing them would cost their pages. */
int fields_read(const void *fdt, int node, const struct state_class *cls, void *state,
		struct error *err);
