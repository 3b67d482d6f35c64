/* SPDX-License-Identifier: MIT */
/* `molt state`: what a blob holds, what a program saves, what an update between two would do. */
#pragma once

#include "vmm/base/base.h"
#include "cpr/state/schema.h"

/* Takes the words after `molt state`, prints to stdout. Returns an exit code, or -errno with the code
 * in @err. */
int inspect_run(int argc, char *const argv[], struct error *err);

/* For people, in molt --help. */
#define INSPECT_USAGE                                                                              \
	"       molt state dump FILE|PID [--json|--dts]    print saved state, or what a molt "     \
	"saves\n"                                                                                  \
	"       molt state schema [--json]                 what this molt saves\n"                 \
	"       molt state diff FROM TO                    what an update would make of the "      \
	"state:\n"                                                                                 \
	"                                                  programs, process ids, blobs or "       \
	"schemas\n"

/* Runs the program at @path with `state schema`, with no descriptor but its output and an empty
 * environment, for ten seconds at most. It must belong to root or to the caller, and nobody else may
 * be able to write it: @path may be a process's, and that process anybody's. Fills @text (of @size)
 * with what it prints, terminated. */
int ask_schema(const char *path, char *text, size_t size, struct error *err);

void schema_own(struct schema *s);
