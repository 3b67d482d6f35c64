/* SPDX-License-Identifier: MIT */
/*
 * Follows the floor program: its parent, the two workers that it starts, and their vCPUs' threads. A process or
 * thread may be heard of before the event that says whose it is: it then stands still until that comes.
 */
#include "floor_trace.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#include "inject.h"
#include "session.h"

#define DEADLINE_NS 20000000000ull
#define MAX_TRACEES 16

struct tracee {
	pid_t tid, tgid;
	enum floor_who who;
	bool known;   /* @tgid and @who are */
	bool stopped; /* it has come, and its first stop is behind it or waits for that */
};

struct tracer {
	struct session *s;
	struct floor_trace *f;
	enum floor_who victim;
	struct tracee t[MAX_TRACEES];
	unsigned n;
};

/* Made if need be. NULL: no room. */
static struct tracee *tracee_of(struct tracer *tr, pid_t tid)
{
	for (unsigned i = 0; i < tr->n; i++)
		if (tr->t[i].tid == tid)
			return &tr->t[i];
	if (tr->n == MAX_TRACEES)
		return NULL;
	tr->t[tr->n] = (struct tracee){.tid = tid};
	return &tr->t[tr->n++];
}

static int go_on(pid_t tid, int sig)
{
	return ptrace(PTRACE_SYSCALL, tid, 0, sig) && errno != ESRCH ? -1 : 0; /* ESRCH: killed */
}

static void kill_who(struct tracer *tr, enum floor_who who)
{
	for (unsigned i = 0; i < tr->n; i++)
		if (tr->t[i].known && tr->t[i].who == who && tr->t[i].tid == tr->t[i].tgid)
			kill(tr->t[i].tid, SIGKILL);
}

/* The successor's leader looks from time to time whether the guest is there: how often falls into the pause is
 * chance. The rest is as with molt. */
static bool is_chance(const struct inject_call *call)
{
	return calls_by_chance(call) || call->nr == SYS_sched_yield ||
	       (call->nr == SYS_nanosleep && call->image == IMAGE_NEW && call->role == ROLE_LEADER);
}

/* The pause is from the incumbent's kick to the successor's KVM_RUN (its first one was before). */
static int on_entry(struct tracer *tr, const struct tracee *t, int nr, const uint64_t *args)
{
	struct floor_trace *f = tr->f;
	struct inject_call call = {.image = t->who == FLOOR_INCUMBENT ? IMAGE_OLD : IMAGE_NEW,
				   .role = t->tid == t->tgid ? ROLE_LEADER : ROLE_VCPU,
				   .nr = nr,
				   .request = inject_request_of(nr, args)};

	if (t->who == FLOOR_PARENT || f->over)
		return 0;
	if (nr == SYS_mmap && (int)args[4] >= 0)
		snprintf(call.file, sizeof(call.file), "a file");
	f->began |= call.image == IMAGE_OLD && call.role == ROLE_LEADER && nr == SYS_tgkill;
	if (!f->began)
		return 0;
	if (call.image == IMAGE_NEW && call.role == ROLE_VCPU && nr == SYS_ioctl) {
		f->over = call.request == KVM_RUN;
		kill_who(tr, tr->victim);
		tr->victim = FLOOR_NONE;
		if (f->over)
			return 0;
	}
	return is_chance(&call) ? 0 : calls_add(&f->calls, tr->s, &call);
}

/* A child of @t: a process, or a thread of the same. */
static int on_child(struct tracer *tr, struct tracee *t, bool process)
{
	unsigned long tid = 0;

	ptrace(PTRACE_GETEVENTMSG, t->tid, 0, &tid);
	struct tracee *child = tracee_of(tr, (pid_t)tid);
	if (!child || (process && tr->f->processes == FLOOR_NONE))
		return session_fail(tr->s, "floor: more processes or threads than there should be");
	child->known = true;
	child->tgid = process ? child->tid : t->tgid;
	child->who = process ? (enum floor_who)tr->f->processes++ : t->who;
	return child->stopped ? go_on(child->tid, 0) : 0;
}

static int on_stop(struct tracer *tr, pid_t tid, int status)
{
	struct __ptrace_syscall_info info = {0};
	struct tracee *t = tracee_of(tr, tid);
	int sig = WSTOPSIG(status), event = status >> 16, rc = 0;

	if (!t)
		return session_fail(tr->s, "floor: too many threads");
	if (!t->stopped) {
		t->stopped = true; /* the SIGSTOP that each begins with */
		return t->known ? go_on(tid, 0) : 0;
	}
	if (event == PTRACE_EVENT_FORK || event == PTRACE_EVENT_CLONE) {
		rc = on_child(tr, t, event == PTRACE_EVENT_FORK);
	} else if (sig == (SIGTRAP | 0x80)) {
		ptrace(PTRACE_GET_SYSCALL_INFO, tid, sizeof(info), &info);
		if (info.op == PTRACE_SYSCALL_INFO_ENTRY)
			rc = on_entry(tr, t, (int)info.entry.nr, info.entry.args);
	}
	return rc ? rc : go_on(tid, event || sig & 0x80 ? 0 : sig);
}

static int start(struct tracer *tr, const char *floor)
{
	const long options = PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACEFORK | PTRACE_O_TRACECLONE |
			     PTRACE_O_EXITKILL;
	int status;
	pid_t pid = fork();

	if (!pid) {
		int null = open("/dev/null", O_WRONLY);
		dup2(null, 1);
		if (tr->victim != FLOOR_NONE)
			dup2(null, 2); /* what it says then is to be expected */
		ptrace(PTRACE_TRACEME, 0, 0, 0);
		execl(floor, floor, "1", NULL); /* and stops there */
		_exit(126);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid || !WIFSTOPPED(status) ||
	    ptrace(PTRACE_SETOPTIONS, pid, 0, options) || go_on(pid, 0))
		return session_fail(tr->s, "the floor program %s does not start", floor);
	*tracee_of(tr, pid) =
		(struct tracee){pid, pid, FLOOR_PARENT, .known = true, .stopped = true};
	tr->f->processes = 1;
	return 0;
}

static void on_end(struct tracer *tr, pid_t tid, int status)
{
	struct tracee *t = tracee_of(tr, tid);

	if (tid == tr->s->pid) { /* molt's own: reaped here, so nobody else can */
		tr->s->exited = true;
		tr->s->status = status;
	}
	if (!t)
		return;
	if (t->known && t->who == FLOOR_PARENT)
		tr->f->status = status;
	*t = tr->t[--tr->n];
}

/* Until all have ended. */
static int follow(struct tracer *tr)
{
	uint64_t until = clock_ns() + DEADLINE_NS * tr->s->set->slow;
	pid_t parent = tr->t[0].tid;
	int status;

	while (tr->n) {
		pid_t tid = inject_next_stop(parent, &status, until);
		if (!tid)
			return session_fail(tr->s, "floor: %u threads do not end", tr->n);
		if (!WIFSTOPPED(status))
			on_end(tr, tid, status);
		else if (on_stop(tr, tid, status))
			return tr->s->error[0] ? -1 : session_fail(tr->s, "floor: ptrace failed");
	}
	return 0;
}

static void kill_all(struct tracer *tr)
{
	uint64_t until = clock_ns() + DEADLINE_NS;
	int status;
	pid_t tid;

	for (unsigned i = 0; i < tr->n; i++)
		kill(tr->t[i].tid, SIGKILL);
	while (tr->n && (tid = inject_next_stop(tr->t[0].tid, &status, until)))
		if (!WIFSTOPPED(status))
			on_end(tr, tid, status);
}

int floor_trace(struct session *s, const char *floor, enum floor_who victim, struct floor_trace *f)
{
	struct tracer tr = {.s = s, .f = f, .victim = victim};
	sigset_t chld, before;

	*f = (struct floor_trace){0};
	sigemptyset(&chld);
	sigaddset(&chld, SIGCHLD);
	sigprocmask(SIG_BLOCK, &chld, &before);
	int rc = start(&tr, floor);
	if (!rc)
		rc = follow(&tr);
	if (rc)
		kill_all(&tr);
	sigprocmask(SIG_SETMASK, &before, NULL);
	return rc;
}
