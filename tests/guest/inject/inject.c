/* SPDX-License-Identifier: MIT */
#include "tests/guest/inject/inject.h"

#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <linux/kvm.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tests/guest/cases/cases.h"
#include "tests/guest/runner/session.h"

#define DEADLINE_NS 45000000000ull /* more than molt's own of --update-timeout 20000 */
#define MAX_TRACEES 64

/* A thread under trace. */
struct tracee {
	pid_t tid;
	struct inject_process *p;
	enum inject_role role;
	unsigned cpu, runs;	  /* runs: how often it entered the guest in this image */
	bool counts;		  /* it is part of the update now */
	bool saved;		  /* IMAGE_OLD's vCPU: when it runs next, the guest does */
	struct inject_shot *shot; /* between the call's entry and its exit */
};

struct tracer {
	struct session *s;
	struct inject *in;
	struct inject_process p[INJECT_PROCESSES];
	struct tracee t[MAX_TRACEES];
	unsigned n;
	bool asked, failed, enough;
	unsigned children; /* fresh */
	unsigned seen;	/* leaders that stood still once: from then on all their calls are seen */
	pid_t standing; /* where it was enough */
};

/* ---- tracees ---- */

static struct tracee *find(struct tracer *tr, pid_t tid)
{
	for (unsigned i = 0; i < tr->n; i++)
		if (tr->t[i].tid == tid)
			return &tr->t[i];
	return NULL;
}

static struct inject_process *find_process(struct tracer *tr, pid_t pid)
{
	for (unsigned i = 0; i < INJECT_PROCESSES; i++)
		if (tr->p[i].pid == pid)
			return &tr->p[i];
	return NULL;
}

static struct inject_process *add_process(struct tracer *tr, pid_t pid, enum inject_image image)
{
	struct inject_process *p = find_process(tr, 0);
	if (p)
		*p = (struct inject_process){.pid = pid, .image = image};
	return p;
}

/* A process goes with its last thread. */
static void drop(struct tracer *tr, struct tracee *t)
{
	struct inject_process *p = t->p;
	*t = tr->t[--tr->n];
	for (unsigned i = 0; i < tr->n; i++)
		if (tr->t[i].p == p)
			return;
	*p = (struct inject_process){0};
}

static struct tracee *add(struct tracer *tr, pid_t tid, struct inject_process *p)
{
	if (!p || tr->n == MAX_TRACEES)
		return NULL;
	struct tracee *t = &tr->t[tr->n++];
	*t = (struct tracee){.tid = tid, .p = p};
	return t;
}

/* The first that is heard of a thread may be its own stop, or its creator's event. Of a worker's threads vCPUs
 * come first, in order, then a disk's, which are alike, and the event loop. */
static void discover(struct tracer *tr, pid_t tid)
{
	if (find(tr, tid))
		return;
	pid_t tgid = inject_tgid_of(tid);
	struct inject_process *p = find_process(tr, tgid);
	bool leader = tgid == tid;
	if (leader) /* fresh: no molt, but of two workers as well */
		p = add_process(tr, tid,
				!tr->in->fresh	 ? IMAGE_CHILD
				: tr->children++ ? IMAGE_NEW
						 : IMAGE_OLD);
	struct tracee *t = tgid ? add(tr, tid, p) : NULL;
	if (!t)
		return;
	t->counts = true;
	if (leader)
		return;
	unsigned i = p->threads++;
	t->role = i < tr->s->test->cpus ? ROLE_VCPU : ROLE_LOOP;
	t->cpu = t->role == ROLE_VCPU ? i : 0;
}

/* ---- calls ---- */

static unsigned long request_of(int nr, const uint64_t *args)
{
	switch (nr) {
	case SYS_ioctl:
	case SYS_fcntl:
		return args[1] & 0xffffffff;
	case SYS_futex:
		return args[1] & 0x7f;
	}
	return 0;
}

static bool same(const struct inject_call *a, const struct inject_call *b)
{
	return a->image == b->image && a->role == b->role && a->cpu == b->cpu && a->nr == b->nr &&
	       a->request == b->request;
}

static void name_file(struct inject_call *c, pid_t tid, const uint64_t *args)
{
	char path[64], link[128];
	uint64_t fd = c->nr == SYS_mmap ? args[4] : args[0];
	if (fd > 4096)
		return;
	snprintf(path, sizeof(path), "/proc/%d/fd/%d", (int)tid, (int)fd);
	ssize_t n = readlink(path, link, sizeof(link) - 1);
	if (n <= 0)
		return;
	link[n] = 0;
	const char *base = strrchr(link, '/');
	snprintf(c->file, sizeof(c->file), "%.31s", base ? base + 1 : link);
	c->file[strcspn(c->file, "[0123456789")] = 0; /* "socket:[12345]" */
}

static struct inject_call *record(struct tracer *tr, const struct tracee *t, int nr,
				  const uint64_t *args)
{
	struct inject *in = tr->in;
	/* How often a thread looks is chance, and it cannot fail; what we have interrupted is no call of its own. */
	if (in->ncalls == INJECT_MAX_CALLS || nr == SYS_sched_yield || nr == SYS_restart_syscall)
		return NULL;
	struct inject_call *c = &in->calls[in->ncalls];
	*c = (struct inject_call){.image = t->p->image,
				  .role = t->role,
				  .cpu = t->cpu,
				  .nr = nr,
				  .request = request_of(nr, args)};
	for (unsigned i = in->ncalls; i-- > 0;)
		if (same(&in->calls[i], c)) {
			c->n = in->calls[i].n + 1;
			break;
		}
	if (in->recording)
		name_file(c, t->tid, args);
	in->ncalls++;
	return c;
}

static bool reg_set(pid_t tid, size_t offset, long value)
{
	return !ptrace(PTRACE_POKEUSER, tid, offset, value);
}

static void shoot(struct tracer *tr, struct tracee *t, const struct inject_call *c)
{
	struct inject *in = tr->in;
	for (unsigned i = 0; i < in->nshots; i++) {
		struct inject_shot *shot = &in->shots[i];
		if (shot->hit || !same(&shot->at, c) || shot->at.n != c->n)
			continue;
		shot->hit = true;
		if (!shot->error) {
			kill(t->p->pid, SIGKILL);
			return;
		}
		t->shot = shot;
		if (!shot->does_it)
			reg_set(t->tid, offsetof(struct user_regs_struct, orig_rax), -1);
		return;
	}
}

/* With what the event loop, or a disk's thread, waits for the first time, or does the guest's first request. */
static bool serves(int nr)
{
	return nr == SYS_epoll_wait || nr == SYS_epoll_pwait || nr == SYS_io_uring_enter ||
	       nr == SYS_preadv || nr == SYS_pwritev || nr == SYS_fdatasync;
}

/* Whether a thread that counts does not from here on: the guest runs. */
static bool is_over(struct tracee *t, int nr, const uint64_t *args)
{
	bool old = t->p->image == IMAGE_OLD;
	if (t->role == ROLE_LOOP)
		return !old && serves(nr);
	if (t->role != ROLE_VCPU || nr != SYS_ioctl)
		return false;
	if (args[1] == KVM_RUN)
		return old ? t->saved : ++t->runs == 2; /* the first is within the rehearsal */
	t->saved = args[1] != KVM_SET_SIGNAL_MASK;	/* vcpu_flush_pending runs it once more */
	return false;
}

static void uncount_vcpus(struct tracer *tr, const struct inject_process *p)
{
	for (unsigned i = 0; i < tr->n; i++)
		if (tr->t[i].p == p && tr->t[i].role == ROLE_VCPU)
			tr->t[i].counts = false;
}

/* Returns whether the thread's calls are of interest from here on. */
static bool on_entry(struct tracer *tr, struct tracee *t, int nr, const uint64_t *args)
{
	struct inject *in = tr->in;
	bool leader = t->role == ROLE_LEADER;
	if (leader && (nr == SYS_poll || nr == SYS_restart_syscall) && (int)args[2] == -1) {
		t->p->idle = true;
		t->p->poll = args[0];
		t->p->npoll = args[1];
		if (in->paused && t->p->image == IMAGE_OLD)
			uncount_vcpus(tr, t->p);
	}
	if (!t->counts)
		return leader;
	if (is_over(t, nr, args)) {
		t->counts = false;
		return false;
	}
	bool old = t->p->image == IMAGE_OLD;
	if (in->early && old && nr == SYS_ioctl && args[1] == KVM_RUN)
		return true; /* a guest that polls makes thousands */
	if (old && leader && nr == SYS_tgkill)
		in->paused = true;
	const struct inject_call *c = record(tr, t, nr, args);
	if (!c)
		return true;
	if (in->hook) {
		int rc = in->hook(tr->s, c, t->tid, args, in->opaque);
		tr->failed |= rc < 0;
		tr->enough |= rc > 0;
		tr->standing = rc > 0 ? t->tid : 0;
	}
	shoot(tr, t, c);
	return true;
}

static bool on_syscall(struct tracer *tr, struct tracee *t)
{
	struct __ptrace_syscall_info info = {0};
	ptrace(PTRACE_GET_SYSCALL_INFO, t->tid, sizeof(info), &info);
	if (t->role == ROLE_LEADER)
		t->p->idle = false;
	if (info.op == PTRACE_SYSCALL_INFO_ENTRY)
		return on_entry(tr, t, (int)info.entry.nr, info.entry.args);
	if (info.op == PTRACE_SYSCALL_INFO_EXIT && t->shot)
		reg_set(t->tid, offsetof(struct user_regs_struct, rax), -t->shot->error);
	t->shot = NULL;
	return true;
}

/* All other threads of the process are gone, and its image is the next one. */
static void on_exec(struct tracer *tr, struct tracee *t)
{
	struct inject_process *p = t->p;
	pid_t pid = p->pid;
	for (unsigned i = 0; i < tr->n;)
		if (tr->t[i].p == p && tr->t[i].tid != pid)
			drop(tr, &tr->t[i]);
		else
			i++;
	t = find(tr, pid);
	*t = (struct tracee){.tid = pid, .p = p, .counts = true};
	bool parent = p->image == IMAGE_PARENT || p->image == IMAGE_NEXT;
	tr->in->renewed |= parent;
	*p = (struct inject_process){.pid = pid,
				     .image = parent ? IMAGE_NEXT : inject_image_of(pid)};
}

/* One stop of one thread; lets it go on, unless that was enough. */
static void on_stop(struct tracer *tr, pid_t tid, int status)
{
	struct tracee *t = find(tr, tid);
	int sig = WSTOPSIG(status), event = status >> 16;
	unsigned long child = 0;
	bool trace = t && (t->counts || t->role == ROLE_LEADER);

	if (!t) {
		discover(tr, tid);
		trace = true;
	} else if (sig == (SIGTRAP | 0x80)) {
		trace = on_syscall(tr, t);
	} else if (event == PTRACE_EVENT_EXEC) {
		on_exec(tr, t);
	} else if (event == PTRACE_EVENT_CLONE || event == PTRACE_EVENT_FORK ||
		   event == PTRACE_EVENT_VFORK) {
		ptrace(PTRACE_GETEVENTMSG, tid, 0, &child);
		discover(tr, (pid_t)child);
	} else if (event == PTRACE_EVENT_STOP && sig != SIGTRAP) {
		tr->seen += t->role == ROLE_LEADER; /* fresh: it was started so */
		ptrace(PTRACE_LISTEN, tid, 0, 0);
		return;
	} else if (event == PTRACE_EVENT_STOP && t->role == ROLE_LEADER) {
		tr->seen++;
	} else if (!event && sig == SIGUSR2 && t->p->image == IMAGE_OLD && t->role == ROLE_VCPU) {
		trace = t->counts = true; /* the kick */
	}
	if (!tr->enough)
		ptrace(trace ? PTRACE_SYSCALL : PTRACE_CONT, tid, 0, event || sig & 0x80 ? 0 : sig);
}

/* ---- beginning and end ---- */

/* All threads of a process. Its leader is made to stand still: it then waits again, under trace. */
static int seize(struct tracer *tr, pid_t pid, enum inject_image image)
{
	const long options = PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACEEXEC | PTRACE_O_TRACECLONE |
			     PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK | PTRACE_O_EXITKILL;
	struct inject_process *p = add_process(tr, pid, image);
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/task", (int)pid);
	DIR *dir = opendir(path);
	for (struct dirent *e; dir && (e = readdir(dir));) {
		pid_t tid = atoi(e->d_name);
		if (tid <= 0)
			continue;
		if (ptrace(PTRACE_SEIZE, tid, 0, options)) {
			closedir(dir);
			return session_fail(tr->s, "ptrace: %s", strerror(errno));
		}
		struct tracee *t = add(tr, tid, p);
		if (!t)
			continue;
		t->role = inject_role_of(pid, tid, &t->cpu);
		t->counts = tr->in->fresh || t->role == ROLE_LEADER ||
			    (tr->in->early && t->role == ROLE_VCPU);
		if (t->counts) /* out of KVM_RUN, and in again */
			ptrace(PTRACE_INTERRUPT, tid, 0, 0);
	}
	if (dir)
		closedir(dir);
	return 0;
}

static int seize_all(struct tracer *tr)
{
	struct session *s = tr->s;
	if (tr->in->fresh)
		return seize(tr, s->pid, IMAGE_PARENT);
	pid_t worker = inject_worker(s->pid);
	if (!worker)
		return session_fail(s, "molt has no worker, or more than one child");
	return seize(tr, s->pid, IMAGE_PARENT) || seize(tr, worker, IMAGE_OLD) ? -1 : 0;
}

static void ask(struct tracer *tr)
{
	if (tr->asked || tr->seen < (tr->in->fresh ? 1 : 2))
		return;
	tr->asked = !kill(tr->s->pid, tr->in->fresh ? SIGCONT : SIGUSR1);
	tr->in->ncalls = 0;
}

/* Nobody is left but the parent, if it lives, and one worker, and both wait for what has not come. */
static bool settled(struct tracer *tr)
{
	struct inject_process *parent = NULL, *worker = NULL;
	if (!tr->asked || tr->in->fresh)
		return false;
	for (unsigned i = 0; i < INJECT_PROCESSES; i++) {
		struct inject_process *p = &tr->p[i];
		if (!p->pid)
			continue;
		if (!p->idle || p->image == IMAGE_CHILD || p->image == IMAGE_TRIAL)
			return false;
		bool works = p->image == IMAGE_OLD || p->image == IMAGE_NEW;
		if (works ? worker : parent)
			return false;
		*(works ? &worker : &parent) = p;
	}
	if (!worker || !inject_quiet(worker) || (parent && !inject_quiet(parent)))
		return false;
	tr->in->image = worker->image;
	tr->in->pid = worker->pid;
	tr->in->alone = !parent;
	return true;
}

/* Waits for the next stop or end of a tracee, every other time for one of the leaders in turn: one that makes
 * calls without pause would be all that is heard of. Its tid; 0: none in time. */
static pid_t next_stop(struct tracer *tr, int *status, uint64_t until)
{
	static unsigned turn;
	sigset_t chld;
	sigemptyset(&chld);
	sigaddset(&chld, SIGCHLD);
	for (;;) {
		pid_t pid = ++turn & 1 ? tr->p[turn / 2 % INJECT_PROCESSES].pid : 0;
		pid_t tid = pid ? waitpid(pid, status, WNOHANG | __WALL) : 0;
		if (tid <= 0)
			tid = waitpid(-1, status, WNOHANG | __WALL);
		if (tid > 0)
			return tid;
		if (clock_ns() > until)
			return 0;
		struct timespec ts = {.tv_nsec = 50000000};
		sigtimedwait(&chld, NULL, &ts);
	}
}

static void note_end(struct tracer *tr, pid_t tid, int status)
{
	struct tracee *t = find(tr, tid);
	if (t)
		drop(tr, t);
	if (tid == tr->s->pid) { /* reaped here, so nobody else can */
		tr->s->exited = true;
		tr->s->status = status;
	}
}

static void detach_one(struct tracer *tr, pid_t tid, int status)
{
	int event = status >> 16, sig = WSTOPSIG(status);
	unsigned long child = 0;
	struct tracee *t = find(tr, tid);
	if (event && event != PTRACE_EVENT_STOP && event != PTRACE_EVENT_EXEC) {
		ptrace(PTRACE_GETEVENTMSG, tid, 0, &child);
		discover(tr, (pid_t)child); /* it is ours as well */
	}
	ptrace(PTRACE_DETACH, tid, 0, event || sig & 0x80 ? 0 : sig);
	if (t)
		drop(tr, t);
}

static void detach(struct tracer *tr)
{
	uint64_t until = clock_ns() + DEADLINE_NS;
	int status;
	if (tr->standing && find(tr, tr->standing)) {
		ptrace(PTRACE_DETACH, tr->standing, 0, 0);
		drop(tr, find(tr, tr->standing));
	}
	for (unsigned i = 0; i < tr->n; i++)
		ptrace(PTRACE_INTERRUPT, tr->t[i].tid, 0, 0);
	while (tr->n) {
		pid_t tid = next_stop(tr, &status, until);
		if (!tid)
			return;
		if (WIFSTOPPED(status))
			detach_one(tr, tid, status);
		else
			note_end(tr, tid, status);
	}
}

int inject_update(struct session *s, struct inject *in)
{
	static struct tracer tr;
	uint64_t until = clock_ns() + DEADLINE_NS * s->set->slow;
	sigset_t chld, before;
	int status;

	tr = (struct tracer){.s = s, .in = in};
	in->ncalls = 0;
	in->image = IMAGE_NONE;
	in->pid = 0;
	in->paused = in->alone = in->renewed = false;
	sigemptyset(&chld);
	sigaddset(&chld, SIGCHLD);
	sigprocmask(SIG_BLOCK, &chld, &before);
	int rc = seize_all(&tr);
	while (!rc && tr.n && !tr.enough && !tr.failed && !settled(&tr)) {
		pid_t tid = next_stop(&tr, &status, until);
		if (!tid)
			rc = session_fail(s, "the update does not end");
		else if (!WIFSTOPPED(status))
			note_end(&tr, tid, status);
		else
			on_stop(&tr, tid, status);
		ask(&tr);
	}
	if (tr.failed)
		rc = -1;
	detach(&tr);
	sigprocmask(SIG_SETMASK, &before, NULL);
	return rc;
}
