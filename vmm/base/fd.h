/* SPDX-License-Identifier: MIT */
/* Descriptors: every one is close-on-exec at all times, except in the last instant before exec. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/* Closes *fd if it is not negative and sets it to -1. Keeps errno. */
void fd_close(int *fd);

/* `fd_auto int fd = -1;` closes it when the scope ends. */
#define fd_auto __attribute__((cleanup(fd_close)))

/* Sets or clears close-on-exec. Returns 0 or -errno. */
int fd_set_cloexec(int fd, bool on);

/* Raises the soft limit of open files to the hard one: for this process, and those that it starts from here on. */
void fd_limit_raise(void);

/* Closes what this process was started with beyond the standard ones and nobody has made close-on-exec. */
void fd_close_inherited(void);

int fd_set_nonblock(int fd, bool on);

struct msghdr;

/* What recvmsg(2) has received into @msg: its descriptors (SCM_RIGHTS) are stored in @fds, the caller's from now on.
 * Those after the first @max are closed. Returns how many were stored. */
unsigned fd_received(struct msghdr *msg, int *fds, unsigned max);

/* Is @fd a terminal whose other side is gone? */
bool fd_hung_up(int fd);

/* write()s or read()s all of @len, through EINTR. Returns 0 or -errno (-EIO at end of file). */
int fd_write_all(int fd, const void *buf, size_t len);
int fd_pread_all(int fd, void *buf, size_t len, off_t off);

/* Appends all of @len to @fd (O_APPEND), or nothing: a part for which there was room is taken back, where @fd is a
 * file. Returns 0 or -errno. */
int fd_append_whole(int fd, const void *buf, size_t len);

/* Makes @path absolute: puts the working directory in front, instead of any "./". 0; -ENAMETOOLONG; what getcwd(3)
 * says. */
int file_absolute(const char *path, char *buf, size_t size);

/* Reads a small text file whole, less its last newline. Returns its length or -errno. */
int file_read_text(const char *path, char *buf, size_t size);
