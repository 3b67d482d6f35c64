/* SPDX-License-Identifier: MIT */
/* The guest's counter (guest/linux/counter.h), found in the memory file of the process that runs
 * the guest. */
#include "peer.h"
#include "../../../guest/linux/counter.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define PAGE_LEN 4096

/* Opens the largest memory file (memfd) that @pid holds. */
static int memory_open(int pid, off_t *size)
{
	char path[PATH_MAX], target[PATH_MAX];
	struct dirent *entry;
	DIR *dir;
	int best = -1;

	*size = 0;
	snprintf(path, sizeof(path), "/proc/%d/fd", pid);
	dir = opendir(path);
	while (dir && (entry = readdir(dir))) {
		ssize_t len = readlinkat(dirfd(dir), entry->d_name, target, sizeof(target) - 1);
		struct stat st;
		int fd;

		if (len < 7 || memcmp(target, "/memfd:", 7))
			continue;
		fd = openat(dirfd(dir), entry->d_name, O_RDONLY | O_CLOEXEC);
		if (fd < 0 || fstat(fd, &st) || st.st_size <= *size) {
			if (fd >= 0)
				close(fd);
			continue;
		}
		if (best >= 0)
			close(best);
		best = fd;
		*size = st.st_size;
	}
	if (dir)
		closedir(dir);
	return best;
}

const volatile uint64_t *counter_find(int pid)
{
	off_t size, at = 0;
	int fd = memory_open(pid, &size);
	const uint8_t *memory;

	if (fd < 0 && only_child(pid))
		fd = memory_open(only_child(pid), &size);

	if (fd < 0) {
		complain("process %d has no memory file", pid);
		return NULL;
	}
	memory = mmap(NULL, (size_t)size, PROT_READ, MAP_SHARED, fd, 0);
	if (memory == MAP_FAILED) {
		complain("map of the memory file of process %d", pid);
		close(fd);
		return NULL;
	}
	/* Only where there is something: looking at a hole would make it memory. */
	while ((at = lseek(fd, at, SEEK_DATA)) >= 0) {
		off_t end = lseek(fd, at, SEEK_HOLE);

		for (; at < end; at += PAGE_LEN) {
			const volatile struct counter_page *page = (const void *)(memory + at);

			if (page->magic == COUNTER_MAGIC && page->inverse == ~COUNTER_MAGIC) {
				close(fd);
				return &page->count;
			}
		}
	}
	errno = 0;
	complain("no counter in the memory of process %d", pid);
	munmap((void *)(uintptr_t)memory, (size_t)size);
	close(fd);
	return NULL;
}
