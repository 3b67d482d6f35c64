/* SPDX-License-Identifier: MIT */
/* A folder of a test's own, with files in place of the host's under /proc and /sys. */
#ifndef MOLT_TESTS_FOLDER_H
#define MOLT_TESTS_FOLDER_H

#include <stdio.h>

#include "tests/unit/unit.h"

static char folder[32];

static inline void folder_make(void)
{
	strcpy(folder, "/tmp/molt-unit.XXXXXX");
	assert_non_null(mkdtemp(folder));
}

/* @name: with the folders on the way to it, which are made. */
static inline void folder_put(const char *name, const char *text)
{
	char command[256], path[128];
	snprintf(path, sizeof(path), "%s/%s", folder, name);
	snprintf(command, sizeof(command), "mkdir -p $(dirname %s)", path);
	assert_int_equal(system(command), 0);
	FILE *f = fopen(path, "w");
	assert_non_null(f);
	fputs(text, f);
	fclose(f);
}

static inline int folder_remove(void)
{
	char command[64];
	snprintf(command, sizeof(command), "rm -r %s", folder);
	return system(command);
}

#endif
