/* SPDX-License-Identifier: MIT */
/* `molt state`: what a blob holds, what a program saves, what an update between two would do. */
#pragma once

#include "vmm/base/base.h"
#include "cpr/state/schema.h"

/* Takes the words after `molt state`. Returns an exit code, or -errno with the code in @err. */
int inspect_run(int argc, char *const argv[], struct error *err);

/* Behind "usage: ", or as further lines of it. */
#define INSPECT_USAGE                                                                              \
	"molt state dump FILE|PID [--json|--dts]    print saved state, or what a molt saves\n"     \
	"       molt state schema [--json]                 what this molt saves\n"                 \
	"       molt state diff FROM TO                    what an update would make of the "      \
	"state:\n"                                                                                 \
	"                                                  programs, process ids, blobs or "       \
	"schemas\n"

/* Runs the program at @path with `state schema` and fills @text with what it prints. Nobody but
 * root or the caller may be able to write it: @path may be a process's, and that process anybody's.
 * It gets no other descriptor, an empty environment, and ten seconds. */
int ask_schema(const char *path, char *text, size_t size, struct error *err);

void schema_own(struct schema *s);
