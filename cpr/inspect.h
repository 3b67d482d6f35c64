/* SPDX-License-Identifier: MIT */
/* `molt state`: what a blob holds, what a program saves, what an update between two would do. */
#pragma once

#include "vmm/base/base.h"

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
