/* SPDX-License-Identifier: MIT */
/* Affinity, policy, nice value and cgroups of a thread: read in one process, set in its successor. */
#include "vmm/sched.h"

#include <sched.h>
#include <sys/resource.h>
#include <sys/syscall.h>

/* Copies the lines of @text that @base does not have. */
static void differing_lines(char *out, size_t size, const char *text, const char *base)
{
	size_t n = 0;
	while (*text) {
		size_t len = strcspn(text, "\n");
		const char *same = base;
		while (*same && (strncmp(same, text, len) || (same[len] && same[len] != '\n'))) {
			same += strcspn(same, "\n");
			same += *same == '\n';
		}
		if (!*same && n + len + 2 <= size) {
			memcpy(out + n, text, len);
			out[n + len] = '\n';
			n += len + 1;
		}
		text += len + (text[len] == '\n');
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

static bool affinity_known(const struct thread_sched *s)
{
	for (unsigned i = 0; i < SCHED_AFFINITY_WORDS; i++)
		if (s->affinity[i])
			return true;
	return false;
}

static void failed(const char *what, const char *which)
{
	log_warn("%s: %s not restored: %s", what, which, strerror(errno));
}

void sched_apply(const struct thread_sched *want, const struct thread_sched *now, const char *what)
{
	struct sched_param param = {.sched_priority = (int)want->priority};
	/* Groups first: one of cpusets has a say in the affinity. */
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
	if (affinity_known(want) && memcmp(want->affinity, now->affinity, sizeof(want->affinity)) &&
	    syscall(SYS_sched_setaffinity, 0, sizeof(want->affinity), want->affinity) < 0)
		failed(what, "affinity");
}
