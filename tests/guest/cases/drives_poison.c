/* SPDX-License-Identifier: MIT */
/* The host loses a page of guest memory: the guest is told, and updates go on. On an emulated host only, which ends
 * with the test: a real one would be without that page until it is booted anew. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/guest/cases/cases.h"
#include "tests/guest/cases/drives.h"
#include "tests/guest/runner/session.h"

#define BOOT_MS	 20000
#define PAGE_LEN 4096ul

/* The file of guest memory, as the worker has it. */
static int open_memory(struct session *s)
{
	char path[320], name[64];
	int fd = -1;

	snprintf(path, sizeof(path), "/proc/%d/fd", (int)session_worker(s));
	DIR *dir = opendir(path);
	for (struct dirent *e; fd < 0 && dir && (e = readdir(dir));) {
		snprintf(path, sizeof(path), "/proc/%d/fd/%.32s", (int)session_worker(s),
			 e->d_name);
		ssize_t n = readlink(path, name, sizeof(name) - 1);
		name[n > 0 ? n : 0] = 0;
		if (strstr(name, "molt-ram0"))
			fd = open(path, O_RDWR | O_CLOEXEC);
	}
	if (dir)
		closedir(dir);
	return fd;
}

/* Newer kernels tell whoever asks for it, too (7.3). */
static void on_sigbus(int sig)
{
	(void)sig;
}

/* As if the memory's hardware had failed. Low guest memory lies in the file at its address. */
static int lose(struct session *s, unsigned long gpa)
{
	int fd = open_memory(s);
	if (fd < 0)
		return session_fail(s, "the worker has no file of guest memory");
	void *page = mmap(NULL, PAGE_LEN, PROT_READ | PROT_WRITE, MAP_SHARED, fd, (off_t)gpa);
	close(fd);
	if (page == MAP_FAILED)
		return session_fail(s, "mapping guest memory: %s", strerror(errno));
	signal(SIGBUS, on_sigbus);
	int rc = madvise(page, PAGE_LEN, MADV_HWPOISON);
	signal(SIGBUS, SIG_DFL);
	if (rc)
		session_fail(s, "MADV_HWPOISON: %s", strerror(errno));
	munmap(page, PAGE_LEN);
	return rc;
}

static int updates_some(struct session *s, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		if (session_wait_us(s, session_random(s, s->test->max_us)) || session_update(s))
			return -1;
	return 0;
}

int drive_poison(struct session *s, unsigned updates)
{
	if (session_expect(s, "READY ", BOOT_MS))
		return -1;
	unsigned long gpa = strtoul(s->line + strlen("READY "), NULL, 16);
	if (session_ask(s, 'r', "READ") || updates_some(s, 1) || lose(s, gpa) ||
	    session_ask(s, 'r', "LOST"))
		return -1;
	/* A new program reads guest memory before it takes over, and has to leave that page alone. */
	for (unsigned i = 1; i < updates; i++)
		if (updates_some(s, 1) || session_ask(s, 'b', "KEPT") ||
		    session_ask(s, 'r', "LOST"))
			return -1;
	if (session_send(s, "q", 1) || session_finish(s))
		return -1;
	return session_logged(s, "molt: warning: the host has lost guest memory at 0x")
		       ? 0
		       : session_fail(s, "molt does not warn of the lost memory");
}
