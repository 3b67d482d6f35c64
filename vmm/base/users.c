/* SPDX-License-Identifier: MIT */
/* Looks through the descriptors of all processes for a file. */
#include "vmm/base/users.h"

#include <ctype.h>
#include <dirent.h>
#include <limits.h>

#include "vmm/base/base.h"

static bool has_open(const char *proc, const char *pid, const char *path)
{
	char name[PATH_MAX], target[PATH_MAX];
	struct dirent *f;
	bool has = false;
	snprintf(name, sizeof(name), "%s/%s/fd", proc, pid);
	DIR *fds = opendir(name);
	while (fds && !has && (f = readdir(fds))) {
		ssize_t n = readlinkat(dirfd(fds), f->d_name, target, sizeof(target) - 1);
		target[n > 0 ? n : 0] = 0;
		has = !strcmp(target, path);
	}
	if (fds)
		closedir(fds);
	return has;
}

unsigned file_users(const char *proc, const char *path, char *list, size_t size)
{
	char real[PATH_MAX], name[PATH_MAX], comm[64];
	unsigned found = 0;
	size_t used = 0;
	DIR *dir = opendir(proc);
	struct dirent *p;

	snprintf(list, size, "another process");
	path = realpath(path, real) ?: path;
	while (dir && (p = readdir(dir))) {
		if (!isdigit((unsigned char)p->d_name[0]) || atoi(p->d_name) == getpid() ||
		    !has_open(proc, p->d_name, path))
			continue;
		snprintf(name, sizeof(name), "%s/%s/comm", proc, p->d_name);
		if (file_read_text(name, comm, sizeof(comm)) < 0)
			comm[0] = 0;
		if (used < size)
			used += (size_t)snprintf(list + used, size - used, "%sprocess %s (%s)",
						 found ? ", " : "", p->d_name, comm);
		found++;
	}
	if (dir)
		closedir(dir);
	return found;
}
