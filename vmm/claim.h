/* SPDX-License-Identifier: MIT */
/* Sockets and links in the file system, which must not be taken away from a process that lives. */
#pragma once

#include "vmm/base/base.h"

struct fdset;

#define CLAIM_PATH_LEN 256 /* longest path, with its NUL; of a socket it is shorter */

/* Takes @path for this process: the lock file PATH.lock (descriptor @lock_name of @fds) is held as
 * long as the machine lives, and a stale @type (S_IFSOCK, S_IFLNK) at @path is removed, unless the
 * lock was ours already. @what: the option, for messages. -EADDRINUSE: another process has it;
 * -EEXIST: something else is there. */
int claim_path(struct fdset *fds, const char *lock_name, const char *what, const char *path,
	       unsigned type, struct error *err);

/* A listening socket at @path, which was claimed: mode 0600 from the start. A descriptor or
 * -errno. */
int claim_listen(const char *what, const char *path, int backlog, struct error *err);
