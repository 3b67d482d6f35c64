/* SPDX-License-Identifier: MIT */
#include "tests/guest/runner/cgroup.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/guest/runner/session.h"

#define MOUNT "/sys/fs/cgroup"

/* Documentation/admin-guide/cgroup-v1/memory.rst, cgroup-v2.rst */
static const struct files {
	const char *line; /* of /proc/self/cgroup */
	const char *mount, *limit, *now, *peak, *unlimited;
	bool reset; /* the peak starts anew when it is written to */
} versions[] = {
	{":memory:", MOUNT "/memory", "memory.limit_in_bytes", "memory.usage_in_bytes",
	 "memory.max_usage_in_bytes", "-1", true},
	{"0::", MOUNT, "memory.max", "memory.current", "memory.peak", "max", false},
};

static const struct files *files;
static char own[512], group[600];
static int64_t before;

static ssize_t read_text(const char *path, char *text, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, text, size - 1);
	if (fd >= 0)
		close(fd);
	text[n > 0 ? n : 0] = 0;
	return n;
}

static int write_text(const char *folder, const char *name, const char *text)
{
	char path[700];
	snprintf(path, sizeof(path), "%s/%s", folder, name);
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : write(fd, text, strlen(text));
	if (fd >= 0)
		close(fd);
	return n < 0 ? -1 : 0;
}

static int64_t read_number(const char *name)
{
	char path[700], text[64];
	snprintf(path, sizeof(path), "%s/%s", group, name);
	return read_text(path, text, sizeof(text)) > 0 ? atoll(text) : -1;
}

/* Fills @own with the runner's group. */
static bool find_own(const struct files *f)
{
	char text[4096];
	read_text("/proc/self/cgroup", text, sizeof(text));
	char *p = strstr(text, f->line);
	if (!p)
		return false;
	p += strlen(f->line);
	p[strcspn(p, "\n")] = 0;
	int n = snprintf(own, sizeof(own), "%s%s", f->mount, p);
	return n > 0 && (size_t)n < sizeof(own);
}

/* With v2 a group with processes of its own has no children with limits, the root aside. */
static void name_group(void)
{
	size_t len = strlen(own);
	if (files->reset || !strcmp(own, MOUNT "/"))
		snprintf(group, sizeof(group), "%s/molt-test-%d", own, (int)getpid());
	else
		snprintf(group, sizeof(group), "%.*s/molt-test-%d",
			 (int)(strrchr(own, '/') ? strrchr(own, '/') - own : (long)len), own,
			 (int)getpid());
}

static int make(void)
{
	for (unsigned i = 0; i < sizeof(versions) / sizeof(versions[0]); i++) {
		files = &versions[i];
		if (!find_own(files))
			continue;
		name_group();
		if (mkdir(group, 0755))
			continue;
		if (read_number(files->now) >= 0 &&
		    !write_text(group, files->limit, files->unlimited))
			return 0;
		errno = EOPNOTSUPP; /* v2 without this controller here */
		rmdir(group);
	}
	return -1;
}

const char *cgroup_make(void)
{
	static char why[128];
	if (!make())
		return NULL;
	snprintf(why, sizeof(why), "no memory cgroup can be made here: %s", strerror(errno));
	return why;
}

void cgroup_remove(void)
{
	/* The last of it may be on its way out. */
	for (unsigned tries = 0; tries < 1000 && rmdir(group) && errno == EBUSY; tries++)
		usleep(1000);
}

int cgroup_enter(void)
{
	return write_text(group, "cgroup.procs", "0");
}

int cgroup_limit(struct session *s, int64_t room)
{
	char text[32];
	before = read_number(files->now);
	snprintf(text, sizeof(text), "%lld", (long long)(before + room));
	if (files->reset)
		write_text(group, files->peak, "0");
	return write_text(group, files->limit, room < 0 ? files->unlimited : text)
		       ? session_fail(s, "%s/%s: %s", group, files->limit, strerror(errno))
		       : 0;
}

int64_t cgroup_peak(void)
{
	int64_t peak = read_number(files->peak);
	return peak < before ? -1 : peak - before;
}
