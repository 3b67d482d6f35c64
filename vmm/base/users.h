/* SPDX-License-Identifier: MIT */
/* Who has a file open, for messages about one that is in use. */
#pragma once

#include <stddef.h>

#define FILE_USERS_LEN 160

/* "process 4242 (qemu), process 4243 (cat)": others that have @path open, as far as @proc ("/proc") shows them to this
 * one; or "another process". Returns how many it has found. */
unsigned file_users(const char *proc, const char *path, char *list, size_t size);
