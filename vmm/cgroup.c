/* SPDX-License-Identifier: MIT */
/* Moving a thread or process into cgroups: lines of /proc/PID/cgroup become files below the mounted hierarchies
 * (cgroups(7)). */
#include <fcntl.h>
#include <limits.h>
#include <sys/syscall.h>

#include "vmm/sched.h"

/* "cpu,cpuacct" of a line is one of the super block's options of a version 1 mount: those are "rw,cpu,cpuacct". */
static bool has_options(const char *options, const char *controllers)
{
	const char *at = strstr(options, controllers);
	size_t len = strlen(controllers);
	return at && (at == options || at[-1] == ',') && (!at[len] || at[len] == ',');
}

/* Where the hierarchy with these @controllers ("" is version 2) is mounted (proc_pid_mountinfo(5)). */
static int find_mount(const char *controllers, char *dir, size_t size)
{
	char line[2048], point[PATH_MAX], type[32], options[512];
	int rc = -ENOENT;
	FILE *f = fopen("/proc/self/mountinfo", "re");
	if (!f)
		return -errno;
	while (rc && fgets(line, sizeof(line), f)) {
		const char *rest = strstr(line, " - ");
		if (!rest || sscanf(line, "%*s %*s %*s %*s %4095s", point) != 1 ||
		    sscanf(rest, " - %31s %*s %511s", type, options) != 2)
			continue;
		bool found = controllers[0]
				     ? !strcmp(type, "cgroup") && has_options(options, controllers)
				     : !strcmp(type, "cgroup2");
		if (found && (size_t)snprintf(dir, size, "%s", point) < size)
			rc = 0;
	}
	fclose(f);
	return rc;
}

static int join_one(const char *line, bool process)
{
	char controllers[256] = "", group[1024], dir[PATH_MAX], file[2 * PATH_MAX], id[16];
	if (sscanf(line, "%*d:%255[^:\n]:%1023[^\n]", controllers, group) != 2) {
		controllers[0] = 0;
		if (sscanf(line, "0::%1023[^\n]", group) != 1)
			return -EINVAL;
	}
	int rc = find_mount(controllers, dir, sizeof(dir));
	if (rc)
		return rc;
	snprintf(file, sizeof(file), "%s%s/%s", dir, group,
		 process	  ? "cgroup.procs"
		 : controllers[0] ? "tasks"
				  : "cgroup.threads");
	int n = snprintf(id, sizeof(id), "%d\n",
			 process ? (int)getpid() : (int)syscall(SYS_gettid));
	fd_auto int fd = open(file, O_WRONLY | O_CLOEXEC);
	return fd < 0 ? -errno : fd_write_all(fd, id, (size_t)n);
}

static bool has_line(const char *text, const char *line, size_t len)
{
	for (; *text; text += strcspn(text, "\n"), text += *text == '\n')
		if (!strncmp(text, line, len) && (!text[len] || text[len] == '\n'))
			return true;
	return false;
}

int cgroup_join(const char *lines, const char *now, bool process)
{
	int failed = 0;
	for (size_t len; *lines; lines += len + (lines[len] == '\n')) {
		char line[1400];
		len = strcspn(lines, "\n");
		if (len >= sizeof(line) || has_line(now, lines, len))
			continue;
		memcpy(line, lines, len);
		line[len] = 0;
		int rc = join_one(line, process);
		failed = rc ? rc : failed;
	}
	return failed;
}
