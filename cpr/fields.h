/* SPDX-License-Identifier: MIT */
/*
 * State declared once: a table of named, typed fields per state struct.
 *
 * The codec half of cpr/ (fields, state, fdset) is pure: it includes vmm/base/ and libfdt, knows no
 * KVM, and may be included by everything above it.
 *
 * A state struct is plain: no pointers, no implicit padding (a unit test adds up its fields). Fields
 * are found by name and never renamed. Rules when loading (ARCHITECTURE.md, "State"):
 *   - a missing field takes its declared default, unless it is required: then it refuses;
 *   - an unknown property is ignored;
 *   - a property of the wrong length refuses.
 * Integers are stored as big-endian cells, u64 as two cells, arrays as rows of those; kernel
 * structures and raw bytes as opaque properties.
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

/* S: state struct, m: member. _SINCE variants declare version and default. */
#define FIELD_U_SINCE(S, m, since_, def_)                                                          \
	{                                                                                          \
		.name = #m, .type = FIELD_UINT, .offset = offsetof(S, m),                          \
		.size = member_len(S, m), .count = 1, .len_offset = FIELD_FIXED,                   \
		.since = (since_), .def = (def_)                                                   \
	}
#define FIELD_U(S, m)                                                                              \
	{                                                                                          \
		.name = #m, .type = FIELD_UINT, .required = 1, .offset = offsetof(S, m),           \
		.size = member_len(S, m), .count = 1, .len_offset = FIELD_FIXED, .since = 1        \
	}
/* Array of integers, all of them. */
#define FIELD_ARRAY(S, m)                                                                          \
	{                                                                                          \
		.name = #m, .type = FIELD_UINT, .required = 1, .offset = offsetof(S, m),           \
		.size = member_len(S, m[0]), .count = member_len(S, m) / member_len(S, m[0]),      \
		.len_offset = FIELD_FIXED, .since = 1                                              \
	}
#define FIELD_ARRAY_SINCE(S, m, since_)                                                            \
	{                                                                                          \
		.name = #m, .type = FIELD_UINT, .offset = offsetof(S, m),                          \
		.size = member_len(S, m[0]), .count = member_len(S, m) / member_len(S, m[0]),      \
		.len_offset = FIELD_FIXED, .since = (since_)                                       \
	}
/* Array of integers or of opaque elements of which the first @len (a uint32_t member) are used. The
 * len member needs no field of its own. */
#define FIELD_ARRAY_LEN(S, m, len)                                                                 \
	{                                                                                          \
		.name = #m, .type = FIELD_UINT, .required = 1, .offset = offsetof(S, m),           \
		.size = member_len(S, m[0]), .count = member_len(S, m) / member_len(S, m[0]),      \
		.len_offset = offsetof(S, len), .since = 1                                         \
	}
#define FIELD_ARRAY_LEN_SINCE(S, m, len, since_)                                                   \
	{                                                                                          \
		.name = #m, .type = FIELD_UINT, .offset = offsetof(S, m),                          \
		.size = member_len(S, m[0]), .count = member_len(S, m) / member_len(S, m[0]),      \
		.len_offset = offsetof(S, len), .since = (since_)                                  \
	}
#define FIELD_OPAQUE_LEN(S, m, len)                                                                \
	{                                                                                          \
		.name = #m, .type = FIELD_OPAQUE, .required = 1, .offset = offsetof(S, m),         \
		.size = member_len(S, m[0]), .count = member_len(S, m) / member_len(S, m[0]),      \
		.len_offset = offsetof(S, len), .since = 1                                         \
	}
/* A kernel structure or byte array, as it is. */
#define FIELD_RAW(S, m)                                                                            \
	{                                                                                          \
		.name = #m, .type = FIELD_OPAQUE, .required = 1, .offset = offsetof(S, m),         \
		.size = member_len(S, m), .count = 1, .len_offset = FIELD_FIXED, .since = 1        \
	}
#define FIELD_RAW_SINCE(S, m, since_)                                                              \
	{                                                                                          \
		.name = #m, .type = FIELD_OPAQUE, .offset = offsetof(S, m),                        \
		.size = member_len(S, m), .count = 1, .len_offset = FIELD_FIXED, .since = (since_) \
	}
#define FIELD_STR(S, m)                                                                            \
	{                                                                                          \
		.name = #m, .type = FIELD_STRING, .required = 1, .offset = offsetof(S, m),         \
		.size = member_len(S, m), .count = 1, .len_offset = FIELD_FIXED, .since = 1        \
	}

#define FIELD_STR_SINCE(S, m, since_)                                                              \
	{                                                                                          \
		.name = #m, .type = FIELD_STRING, .offset = offsetof(S, m),                        \
		.size = member_len(S, m), .count = 1, .len_offset = FIELD_FIXED, .since = (since_) \
	}

/* More designators may follow: .needs, .optional. */
#define STATE_CLASS(var, name_, version_, S, table, ...)                                           \
	const struct state_class var = {.name = (name_),                                           \
					.version = (version_),                                     \
					.size = sizeof(S),                                         \
					.fields = (table),                                         \
					.nfields = ARRAY_LEN(table),                               \
					__VA_ARGS__}

/* Writes all fields of @state as properties of the node open in the sequential-write tree @fdt.
 * Returns 0 or -errno (-ENOSPC: the buffer is too small). */
int fields_write(void *fdt, const struct state_class *cls, const void *state, struct error *err);

/* Fills @state (of cls->size bytes) from node @node of @fdt, which need not be trusted beyond
 * fdt_check_full(); from nothing but defaults when @node is negative. On success every field is written, but for the elements of counted arrays beyond
 * the used ones: large arrays are mostly empty, and clearing them would cost their pages. */
int fields_read(const void *fdt, int node, const struct state_class *cls, void *state,
		struct error *err);
