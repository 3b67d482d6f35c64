/* SPDX-License-Identifier: MIT */
/*
 * What a program saves and loads: its classes of state and their fields, as `molt state schema`
 * prints them and one molt tells another:
 *
 *   schema molt,state-1 0.1.0 5f3a...
 *   class cmos version 1 needs 0 always
 *     index u8 1 since 1 required
 *
 * "always": every machine has it. A field has a type, how many elements (0..N: as many as are
 * used), the class version that brought it, and "required" or "default N".
 */
#pragma once

#include "cpr/state/state.h"

#define SCHEMA_NAME_LEN	   STATE_NODE_LEN
#define SCHEMA_MAX_CLASSES STATE_MAX_SECTIONS
#define SCHEMA_MAX_FIELDS  64

struct schema_field {
	char name[SCHEMA_NAME_LEN];
	enum field_type type;
	uint32_t size;	/* bytes of one element */
	uint32_t count; /* elements, or at most so many */
	bool counted;	/* 0 to @count elements */
	bool required;
	uint32_t since;
	uint64_t def;
};

struct schema_class {
	char name[SCHEMA_NAME_LEN];
	char node[SCHEMA_NAME_LEN]; /* of a blob; of a program the same as @name */
	uint32_t version, needs;
	bool optional, always;
	unsigned nfields;
	struct schema_field fields[SCHEMA_MAX_FIELDS];
};

/* Of a program, or of a blob: then one entry per node, and each field has the blob's bytes as its
 * only element. A megabyte: not for the stack. */
struct schema {
	char version[64], build_id[48];
	bool is_blob;
	unsigned n;
	struct schema_class classes[SCHEMA_MAX_CLASSES];
};

/* Copies a name, so that it can be printed: what no name of a device tree has becomes '?'. */
void schema_name(char *to, size_t size, const char *from);

/* Of @blob, checked and indexed by state_open. Node "fds" is left out: it is part of the format. */
int schema_of_blob(struct schema *s, const struct state_blob *blob, struct error *err);

/* From the text that schema_print writes; @text is changed. -EBADMSG names the line. */
int schema_parse(struct schema *s, char *text, struct error *err);

void schema_print(const struct schema *s, FILE *out);
void schema_print_json(const struct schema *s, FILE *out);

/* "u32", "bytes:16", "string:64" into @buf of SCHEMA_TYPE_LEN. */
#define SCHEMA_TYPE_LEN 24
const char *schema_type_text(const struct schema_field *f, char *buf);
const struct schema_class *schema_find(const struct schema *s, const char *class_name);
const struct schema_field *schema_field_find(const struct schema_class *c, const char *name);

/* What became of the state of @from in an update to the program @to. */
struct schema_verdict {
	unsigned taken, defaults, ignored, refused;
};

/* Compares by the rules of state.h and fields.h, and prints a line per class and field to @out. */
struct schema_verdict schema_diff(const struct schema *from, const struct schema *to, FILE *out);
