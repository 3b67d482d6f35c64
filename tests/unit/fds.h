/* SPDX-License-Identifier: MIT */
/* Descriptors of this process: how many there are, so that a test sees one that was left behind. */
#ifndef MOLT_TESTS_FDS_H
#define MOLT_TESTS_FDS_H

#include <dirent.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static inline unsigned fds_open(void)
{
	unsigned n = 0;
	DIR *dir = opendir("/proc/self/fd");
	while (readdir(dir))
		n++;
	closedir(dir);
	return n;
}

/* A file of its own: unlike eventfds, which share one inode. */
static inline int fds_new(void)
{
	return memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING);
}

static inline ino_t fds_inode(int fd)
{
	struct stat st = {0};
	fstat(fd, &st);
	return st.st_ino;
}

#endif
