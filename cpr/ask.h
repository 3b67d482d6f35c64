/* SPDX-License-Identifier: MIT */
/* What another molt says of itself. */
#pragma once

#include "vmm/base/base.h"

/* Runs the program at @path with `state schema`, with no descriptor but its output and an empty
 * environment, for ten seconds at most. It must belong to root or to the caller, and nobody else may
 * be able to write it: @path may be a process's, and that process anybody's. Fills @text (of @size)
 * with what it prints, terminated. */
int ask_schema(const char *path, char *text, size_t size, struct error *err);
