/* SPDX-License-Identifier: MIT */
/* Affinity, policy, nice value and cgroups of a thread: read in one process, set in its successor. */
#include "vmm/sched.h"

#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <sys/resource.h>
#include <sys/syscall.h>

static bool has_line(const char *text, const char *line, size_t len)
{
	for (; *text; text += strcspn(text, "\n"), text += *text == '\n')
		if (!strncmp(text, line, len) && (!text[len] || text[len] == '\n'))
			return true;
	return false;
}

/* Copies the lines of @text that @base does not have. */
static void differing_lines(char *out, size_t size, const char *text, const char *base)
{
	size_t n = 0;
	for (size_t len; *text; text += len + (text[len] == '\n')) {
		len = strcspn(text, "\n");
		if (has_line(base, text, len) || n + len + 2 > size)
			continue;
		memcpy(out + n, text, len);
		out[n + len] = '\n';
		n += len + 1;
	}
	memset(out + n, 0, size - n);
}

void sched_read(struct thread_sched *s, pid_t tid, const struct thread_sched *leader)
{
	struct sched_param param = {0};
	char path[64], text[SCHED_CGROUP_LEN];

	memset(s, 0, sizeof(*s));
	syscall(SYS_sched_getaffinity, tid, sizeof(s->affinity), s->affinity);
	int policy = (int)syscall(SYS_sched_getscheduler, tid);
	syscall(SYS_sched_getparam, tid, &param);
	s->policy = policy > 0 ? (uint32_t)policy : 0;
	s->priority = param.sched_priority > 0 ? (uint32_t)param.sched_priority : 0;
	errno = 0;
	int nice = getpriority(PRIO_PROCESS, (id_t)tid);
	s->nice = errno ? SCHED_NICE_ZERO : (uint32_t)(nice + SCHED_NICE_ZERO);
	snprintf(path, sizeof(path), "/proc/self/task/%d/cgroup", (int)tid);
	if (file_read_text(path, text, sizeof(text)) > 0)
		differing_lines(s->cgroup, sizeof(s->cgroup), text, leader ? leader->cgroup : "");
}

static void failed(const char *what, const char *which)
{
	log_warn("%s: %s not restored: %s", what, which, strerror(errno));
}

void sched_apply(const struct thread_sched *want, const struct thread_sched *now, const char *what)
{
	struct sched_param param = {.sched_priority = (int)want->priority};
	/* Cgroups first: a cpuset limits the affinity. */
	int rc = cgroup_join(want->cgroup, now->cgroup, !strcmp(what, "leader"));
	if (rc) {
		errno = -rc;
		failed(what, "cgroup");
	}
	if ((want->policy != now->policy || want->priority != now->priority) &&
	    syscall(SYS_sched_setscheduler, 0, (int)want->policy, &param) < 0)
		failed(what, "scheduling policy");
	if (want->nice != now->nice &&
	    setpriority(PRIO_PROCESS, 0, (int)want->nice - SCHED_NICE_ZERO) < 0)
		failed(what, "nice value");
	static const uint64_t unknown[SCHED_AFFINITY_WORDS];
	if (memcmp(want->affinity, unknown, sizeof(unknown)) &&
	    memcmp(want->affinity, now->affinity, sizeof(want->affinity)) &&
	    syscall(SYS_sched_setaffinity, 0, sizeof(want->affinity), want->affinity) < 0)
		failed(what, "affinity");
}

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

#define LAST_NICE 19

/* Tried by a nice value, as the right is the same one (sched(7), RLIMIT_NICE). */
void sched_idle(void)
{
	const struct sched_param param = {0};
	int now = getpriority(PRIO_PROCESS, 0);
	if (now < LAST_NICE && !setpriority(PRIO_PROCESS, 0, LAST_NICE) &&
	    !setpriority(PRIO_PROCESS, 0, now))
		syscall(SYS_sched_setscheduler, 0, SCHED_IDLE,
			&param); /* musl's function does nothing */
}

void sched_hurry(pthread_t thread)
{
	const struct sched_param param = {0};
	pthread_setschedparam(thread, SCHED_OTHER, &param);
}

#define BACK_NICE 10 /* a tenth of an ordinary thread's weight */

static int stepped_from = BACK_NICE; /* nice value */

void sched_step_back(void)
{
	struct rlimit nice;
	int now = getpriority(PRIO_PROCESS, 0);
	bool back = !geteuid() ||
		    (!getrlimit(RLIMIT_NICE, &nice) && nice.rlim_cur >= (rlim_t)(20 - now));
	if (back && now < BACK_NICE && !setpriority(PRIO_PROCESS, 0, BACK_NICE))
		stepped_from = now;
}

void sched_step_forward(bool forward)
{
	if (stepped_from != BACK_NICE)
		setpriority(PRIO_PROCESS, 0, forward ? stepped_from : BACK_NICE);
}
