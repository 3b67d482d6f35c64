/* SPDX-License-Identifier: MIT */
/* Names in the file system that must not be stolen from a living owner: sockets and links. */
#pragma once

#include "vmm/base/base.h"

struct fdset;

#define CLAIM_PATH_LEN 256 /* longest path, with its NUL; of a socket it is shorter */

/* Takes @path for this process: the lock file PATH.lock is held as long as the machine lives
 * (descriptor @lock_name of @fds), and what is left at @path of that @type (S_IFSOCK, S_IFLNK) is
 * removed if nobody is behind it. Did this process have the lock already, nothing is changed. @what
 * names the option in messages. -EADDRINUSE: another process has it; -EEXIST: something else is there. */
int claim_path(struct fdset *fds, const char *lock_name, const char *what, const char *path,
	       unsigned type, struct error *err);

/* A listening socket at @path, which was claimed: mode 0600 from the start. Returns the descriptor
 * (non-blocking, close-on-exec, the caller's) or -errno. */
int claim_listen(const char *what, const char *path, int backlog, struct error *err);
