/* SPDX-License-Identifier: MIT */
/* A blob for people and programs: `molt state dump`. All of it takes a blob that state_open checked. */
#pragma once

#include "vmm/base/base.h"

struct schema;
struct state_blob;

/* One line per field, long values cut. Fields that @known does not have are shown as bytes. */
void dump_text(const struct state_blob *blob, const struct schema *known, FILE *out);

/* The same as one JSON object, with all values: integers as numbers (64 bits), bytes in hex. */
void dump_json(const struct state_blob *blob, const struct schema *known, FILE *out);

/* Device tree source of a checked tree, which dtc compiles to an equal one. */
void dump_dts(const void *fdt, FILE *out);
void dump_json_string(FILE *out, const char *s, size_t len);
