/* SPDX-License-Identifier: MIT */
#include "inject.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
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

#include "cases.h"
#include "session.h"

#define DEADLINE_NS 20000000000ull
#define MAX_TRACEES 64

/* A thread under trace. */
struct tracee {
	pid_t tid, tgid;
	enum inject_image image;
	enum inject_role role;
	unsigned cpu, threads;	  /* threads: that a leader has started in this image */
	bool counts;		  /* it is part of the update now */
	struct inject_shot *shot; /* between the call's entry and its exit */
};

struct tracer {
	struct session *s;
	struct inject *in;
	struct tracee t[MAX_TRACEES];
	unsigned n;
	bool hooked, failed;
	struct tracee *ended; /* a leader, standing at its wait for the next signal */
};

/* ---- tracees ---- */

static struct tracee *find(struct tracer *tr, pid_t tid)
{
	for (unsigned i = 0; i < tr->n; i++)
		if (tr->t[i].tid == tid)
			return &tr->t[i];
	return NULL;
}

static void drop(struct tracer *tr, struct tracee *t)
{
	*t = tr->t[--tr->n];
}

static struct tracee *add(struct tracer *tr, pid_t tid, pid_t tgid, enum inject_image image)
{
	if (tr->n == MAX_TRACEES)
		return NULL;
	struct tracee *t = &tr->t[tr->n++];
	*t = (struct tracee){.tid = tid, .tgid = tgid, .image = image};
	return t;
}

/* A new thread of @leader: vCPUs come first, in order, then the event loop. */
static void add_thread(struct tracer *tr, struct tracee *leader, pid_t tid)
{
	unsigned i = leader->threads++;
	struct tracee *t = add(tr, tid, leader->tgid, leader->image);
	if (!t)
		return;
	t->role = i < tr->s->test->cpus ? ROLE_VCPU : ROLE_LOOP;
	t->cpu = t->role == ROLE_VCPU ? i : 0;
	t->counts = true;
}

static pid_t tgid_of(pid_t tid)
{
	char path[64], text[512];
	int tgid = 0;
	snprintf(path, sizeof(path), "/proc/%d/status", (int)tid);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? 0 : read(fd, text, sizeof(text) - 1);
	if (fd >= 0)
		close(fd);
	text[n > 0 ? n : 0] = 0;
	const char *p = strstr(text, "Tgid:");
	return p && sscanf(p + 5, "%d", &tgid) == 1 ? tgid : 0;
}

/* The first that is heard of a thread may be its own stop, or its creator's event. */
static void discover(struct tracer *tr, pid_t tid)
{
	if (find(tr, tid))
		return;
	pid_t tgid = tgid_of(tid);
	struct tracee *leader = find(tr, tgid);
	if (tgid == tid) {
		add(tr, tid, tid, IMAGE_KEEPER)->counts = true;
		tr->in->keeper_met = true;
	} else if (leader) {
		add_thread(tr, leader, tid);
	}
}

/* ---- calls ---- */

unsigned long inject_request_of(int nr, const uint64_t *args)
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
}

static struct inject_call *record(struct tracer *tr, const struct tracee *t, int nr,
				  const uint64_t *args)
{
	struct inject *in = tr->in;
	/* How often a thread looks is chance, and it cannot fail. */
	if (in->ncalls == INJECT_MAX_CALLS || nr == SYS_sched_yield)
		return NULL;
	struct inject_call *c = &in->calls[in->ncalls];
	*c = (struct inject_call){.image = t->image,
				  .role = t->role,
				  .cpu = t->cpu,
				  .nr = nr,
				  .request = inject_request_of(nr, args)};
	for (unsigned i = 0; i < in->ncalls; i++)
		c->n += same(&in->calls[i], c);
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
	for (unsigned i = 0; c && i < in->nshots; i++) {
		struct inject_shot *shot = &in->shots[i];
		if (shot->hit || !same(&shot->at, c) || shot->at.n != c->n)
			continue;
		shot->hit = true;
		if (!shot->error) {
			kill(t->tgid, SIGKILL);
			return;
		}
		t->shot = shot;
		if (!shot->does_it)
			reg_set(t->tid, offsetof(struct user_regs_struct, orig_rax), -1);
		return;
	}
}

/* Returns whether the thread's calls are of interest from here on. */
static bool on_entry(struct tracer *tr, struct tracee *t, int nr, const uint64_t *args)
{
	if (!t->counts)
		return t->role == ROLE_LEADER;
	if (t->role == ROLE_LEADER && nr == SYS_rt_sigtimedwait) {
		tr->in->image = t->image;
		tr->in->pid = t->tgid;
		tr->ended = t;
		return false;
	}
	if (t->image != IMAGE_OLD &&
	    ((t->role == ROLE_VCPU && nr == SYS_ioctl && args[1] == KVM_RUN) ||
	     (t->role == ROLE_LOOP && (nr == SYS_epoll_wait || nr == SYS_epoll_pwait)))) {
		t->counts = false;
		return false;
	}
	if (tr->in->early && t->image == IMAGE_OLD && nr == SYS_ioctl && args[1] == KVM_RUN)
		return true; /* a guest that polls makes thousands */
	if (tr->in->hook && !tr->hooked && t->image == tr->in->hook_image &&
	    t->role == ROLE_LEADER && (t->image != IMAGE_OLD || nr == SYS_execveat)) {
		tr->hooked = true;
		if (tr->in->hook(tr->s, t->tid, tr->in->opaque))
			tr->failed = true;
	}
	shoot(tr, t, record(tr, t, nr, args));
	return true;
}

static void on_exit_of_call(struct tracee *t, int64_t rval)
{
	if (t->shot)
		reg_set(t->tid, offsetof(struct user_regs_struct, rax), -t->shot->error);
	else if (t->image == IMAGE_OLD && t->role == ROLE_LEADER && rval == SIGUSR1)
		t->counts = true; /* only the wait for signals returns that */
	t->shot = NULL;
}

static bool on_syscall(struct tracer *tr, struct tracee *t)
{
	struct __ptrace_syscall_info info = {0};
	ptrace(PTRACE_GET_SYSCALL_INFO, t->tid, sizeof(info), &info);
	if (info.op == PTRACE_SYSCALL_INFO_ENTRY)
		return on_entry(tr, t, (int)info.entry.nr, info.entry.args);
	if (info.op == PTRACE_SYSCALL_INFO_EXIT)
		on_exit_of_call(t, info.exit.rval);
	return true;
}

/* All other threads of the process are gone, and its image is the next one. */
static void on_exec(struct tracer *tr, struct tracee *t)
{
	static const enum inject_image next[] = {[IMAGE_OLD] = IMAGE_NEW,
						 [IMAGE_NEW] = IMAGE_BACK,
						 [IMAGE_BACK] = IMAGE_BACK,
						 [IMAGE_KEEPER] = IMAGE_RESCUE,
						 [IMAGE_RESCUE] = IMAGE_RESCUE};
	pid_t tgid = t->tgid;
	for (unsigned i = 0; i < tr->n;)
		if (tr->t[i].tgid == tgid && tr->t[i].tid != tgid)
			drop(tr, &tr->t[i]);
		else
			i++;
	t = find(tr, tgid);
	*t = (struct tracee){.tid = tgid, .tgid = tgid, .image = next[t->image], .counts = true};
}

/* One stop of one thread; lets it go on, unless that was the end. */
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
		if (tr->in->until == IMAGE_NEW)
			tr->ended = find(tr, tid);
	} else if (event == PTRACE_EVENT_CLONE || event == PTRACE_EVENT_FORK) {
		ptrace(PTRACE_GETEVENTMSG, tid, 0, &child);
		discover(tr, (pid_t)child);
		if (tr->in->until == IMAGE_KEEPER && event == PTRACE_EVENT_FORK) {
			tr->in->pid = (pid_t)child;
			tr->ended = find(tr, tid);
		}
	} else if (event == PTRACE_EVENT_STOP && sig != SIGTRAP) {
		ptrace(PTRACE_LISTEN, tid, 0, 0);
		return;
	} else if (!event && sig == SIGUSR2 && t->image == IMAGE_OLD && t->role == ROLE_VCPU) {
		trace = t->counts = true; /* the kick */
	}
	if (!tr->ended)
		ptrace(trace ? PTRACE_SYSCALL : PTRACE_CONT, tid, 0, event || sig & 0x80 ? 0 : sig);
}

/* ---- beginning and end ---- */

static enum inject_role role_of(pid_t pid, pid_t tid, unsigned *cpu)
{
	char path[64], name[32] = "";
	snprintf(path, sizeof(path), "/proc/%d/task/%d/comm", (int)pid, (int)tid);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd >= 0) {
		ssize_t n = read(fd, name, sizeof(name) - 1);
		(void)n;
		close(fd);
	}
	return sscanf(name, "molt-cpu%u", cpu) == 1 ? ROLE_VCPU
	       : tid == pid			    ? ROLE_LEADER
						    : ROLE_LOOP;
}

static int seize(struct tracer *tr)
{
	long options = PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACEEXEC | PTRACE_O_TRACECLONE |
		       PTRACE_O_EXITKILL | (tr->in->keeper ? PTRACE_O_TRACEFORK : 0);
	pid_t pid = tr->s->pid;
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
		struct tracee *t = add(tr, tid, pid, IMAGE_OLD);
		if (!t)
			continue;
		t->role = role_of(pid, tid, &t->cpu);
		t->counts = tr->in->early && t->role == ROLE_VCPU;
		if (t->counts)
			ptrace(PTRACE_INTERRUPT, tid, 0, 0); /* out of KVM_RUN, and in again */
	}
	if (dir)
		closedir(dir);
	/* The leader is stopped: it then waits for a signal again, under trace. */
	ptrace(PTRACE_INTERRUPT, pid, 0, 0);
	return 0;
}

pid_t inject_next_stop(pid_t leader, int *status, uint64_t until)
{
	sigset_t chld;
	sigemptyset(&chld);
	sigaddset(&chld, SIGCHLD);
	for (;;) {
		static bool turn;
		turn = !turn;
		pid_t tid = turn ? waitpid(leader, status, WNOHANG | __WALL) : 0;
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

static void detach(struct tracer *tr)
{
	uint64_t until = clock_ns() + DEADLINE_NS;
	int status;
	if (tr->ended) {
		ptrace(PTRACE_DETACH, tr->ended->tid, 0, 0);
		drop(tr, tr->ended);
	}
	for (unsigned i = 0; i < tr->n; i++)
		ptrace(PTRACE_INTERRUPT, tr->t[i].tid, 0, 0);
	while (tr->n) {
		pid_t tid = inject_next_stop(tr->s->pid, &status, until);
		if (!tid)
			return;
		if (WIFSTOPPED(status)) {
			int event = status >> 16, sig = WSTOPSIG(status);
			struct tracee *t = find(tr, tid);
			ptrace(PTRACE_DETACH, tid, 0, event || sig & 0x80 ? 0 : sig);
			if (t)
				drop(tr, t);
		} else {
			note_end(tr, tid, status);
		}
	}
}

int inject_update(struct session *s, struct inject *in)
{
	uint64_t until = clock_ns() + DEADLINE_NS * s->set->slow;
	struct tracer tr = {.s = s, .in = in};
	sigset_t chld, before;
	bool asked = false;
	int status;

	in->ncalls = 0;
	in->image = IMAGE_NONE;
	in->pid = 0;
	sigemptyset(&chld);
	sigaddset(&chld, SIGCHLD);
	sigprocmask(SIG_BLOCK, &chld, &before);
	int rc = seize(&tr);
	while (!rc && tr.n && !tr.ended && !tr.failed) {
		pid_t tid = inject_next_stop(s->pid, &status, until);
		if (!tid)
			rc = session_fail(s, "the update does not end");
		else if (!WIFSTOPPED(status))
			note_end(&tr, tid, status);
		else
			on_stop(&tr, tid, status);
		if (tid == s->pid &&
		    !asked) /* it stood still: from here on all its calls are seen */
			asked = !kill(s->pid, SIGUSR1);
	}
	if (tr.failed)
		rc = -1;
	detach(&tr);
	sigprocmask(SIG_SETMASK, &before, NULL);
	return rc;
}
