/* SPDX-License-Identifier: MIT */
/*
 * The parent: the process whose id is known. One thread, one loop over its signals and the sockets to its children. It
 * starts workers and successors, passes signals on to whoever has the guest, becomes the new program after an update,
 * and ends with the exit status of the last worker.
 */
#include "cpr/handover/parent.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "cpr/handover/link.h"
#include "cpr/handover/oom.h"
#include "cpr/handover/outbox.h"
#include "cpr/handover/pending.h"
#include "cpr/handover/spawn.h"
#include "cpr/handover/wire.h"
#include "vmm/notify.h"

/* When the incumbent dies its successor may be committing: it gets this long to say so. */
#define HEIR_NS (5000 * NS_PER_MS)
/* A worker that has handed the guest over only frees memory. It is killed after this time. */
#define FORMER_NS (30000 * NS_PER_MS)
/* How long the rehearsal of the next image may take, and the worker's answer to LINK_PARTING. */
#define REHEARSAL_NS (10000 * NS_PER_MS)

enum child_role { CHILD_NONE, CHILD_OWNER, CHILD_SUCCESSOR, CHILD_FORMER, CHILD_REHEARSAL };

struct child {
	enum child_role role;
	pid_t pid;
	int pidfd; /* for the worker that asked for it; -1: it has the guest, or another image started it */
	int link;
	int exe; /* its program, or -1 */
	bool ended;
	bool ready,
		stale; /* CHILD_REHEARSAL: has said so; of an image that is no longer the next */
	int status;    /* as waitpid gives it */
	uint64_t deadline_ns; /* 0: none */
};

/* Former workers may be ending while the next update begins. */
#define CHILDREN 8
#define RESERVED 2 /* for a successor and a rehearsal */

static struct parent {
	char **argv;
	int signals; /* signalfd */
	struct child children[CHILDREN];
	int next_exe;	     /* what this process is to become, or -1 */
	bool rehearsed;	     /* and it has passed its rehearsal */
	uint64_t parting_ns; /* waiting for LINK_PARTED since; 0: not */
	/* Signals that no worker has said to be serving: a new owner gets them again. */
	struct pending pending;
	bool reading; /* a signal has been read, and is not among the pending ones yet */
	int waiting_exe, waiting_peer; /* of a successor that has no room yet, or -1 */
	int64_t waiting_request;       /* the number of that LINK_START */
	int heir_status;	       /* of the last successor that ended without the guest */
	struct outbox out;	       /* to the owner */
} self;

static struct child *find(enum child_role role)
{
	for (struct child *c = self.children; c < self.children + CHILDREN; c++)
		if (c->role == role)
			return c;
	return NULL;
}

static void forget(struct child *c)
{
	fd_close(&c->pidfd);
	fd_close(&c->link);
	fd_close(&c->exe);
	*c = (struct child){.pidfd = -1, .link = -1, .exe = -1};
}

static void kill_child(const struct child *c)
{
	if (c->pidfd >= 0)
		syscall(SYS_pidfd_send_signal, c->pidfd, SIGKILL, NULL, 0);
	else
		kill(c->pid, SIGKILL);
}

static int exit_status(int status)
{
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static void tell(enum link_kind kind, int64_t value, const char *text, int fd)
{
	struct child *owner = find(CHILD_OWNER);
	struct error err;
	if (owner && owner->link >= 0 &&
	    outbox_send(&self.out, owner->link, kind, value, text, fd, &err))
		log_warn("the worker (pid %d) does not listen: %s", (int)owner->pid, err.text);
}

static void tell_owner(enum link_kind kind, int value)
{
	tell(kind, value, NULL, -1);
}

static void tell_again(void)
{
	struct child *owner = find(CHILD_OWNER);
	struct error err;
	if (owner && owner->link >= 0 && outbox_flush(&self.out, owner->link, &err))
		log_warn("the worker (pid %d) does not listen: %s", (int)owner->pid, err.text);
}

static void pass_on(int sig)
{
	if (sig != SIGCHLD && pending_add(&self.pending, sig))
		tell_owner(LINK_SIGNAL, sig);
}

static void pass_on_again(void)
{
	for (unsigned i = 0; i < self.pending.n; i++)
		tell_owner(LINK_SIGNAL, self.pending.sig[i]);
}

/* ---- starting ---- */

/* @exe and @peer: the parent's, closed here. Returns the child or NULL. */
static struct child *start(enum role_kind role, int exe, int peer, struct error *err)
{
	struct child *c = find(CHILD_NONE);
	int ends[2] = {-1, -1};
	int rc = c ? wire_pair(ends, err) : error_set(err, EBUSY, "another update is not over yet");
	if (!rc) {
		const struct role as = {.kind = role, .link = ends[1], .peer = peer};
		int pidfd;
		rc = spawn(exe, self.argv, &as, &pidfd, err);
		if (rc > 0)
			*c = (struct child){.pid = rc, .pidfd = pidfd, .link = ends[0], .exe = exe};
	}
	fd_close(&ends[1]);
	fd_close(&peer);
	if (rc > 0) {
		if (role != ROLE_SUCCESSOR) /* only a successor's program may be the next image */
			fd_close(&c->exe);
		c->role = role == ROLE_WORKER	   ? CHILD_OWNER
			  : role == ROLE_SUCCESSOR ? CHILD_SUCCESSOR
						   : CHILD_REHEARSAL;
		return c;
	}
	fd_close(&ends[0]);
	fd_close(&exe);
	return NULL;
}

static int start_first(struct error *err)
{
	/* An eventfd for each interrupt vector is more than the usual soft limit, which is for select(). */
	fd_limit_raise();
	int exe = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	if (exe < 0)
		return error_errno(err, errno, "/proc/self/exe");
	struct child *owner = start(ROLE_WORKER, exe, -1, err);
	if (!owner)
		return -err->code;
	fd_close(&owner->pidfd); /* no worker has asked for it, and after exec there is none */
	fd_close_inherited();	 /* the worker has them */
	return 0;
}

/* ---- the parent becomes the new program ---- */

static void stay(const char *why)
{
	fd_close(&self.next_exe);
	self.rehearsed = false;
	self.parting_ns = 0;
	log_warn("this process (pid %d) stays the old program until the next update: %s",
		 (int)getpid(), why);
}

/* The new program has never run in the parent's role. So a child runs it in that role first: it must report that it is
 * ready, and exit with 0. */
static void rehearse(void)
{
	struct error err;
	int exe = fcntl(self.next_exe, F_DUPFD_CLOEXEC, 0);
	struct child *c = exe < 0 ? NULL : start(ROLE_REHEARSAL, exe, -1, &err);
	if (c)
		c->deadline_ns = now_ns() + REHEARSAL_NS;
	else
		stay(exe < 0 ? "no descriptor is left (ulimit -n)" : err.text);
}

static void rehearsal_ended(const struct child *c)
{
	if (!c->ready || exit_status(c->status)) {
		stay("it did not pass its rehearsal as a parent");
		return;
	}
	self.rehearsed = true;
}

/* Is the worker that has the guest the only child? The image after exec knows of no other child. */
static bool alone(void)
{
	return !find(CHILD_SUCCESSOR) && !find(CHILD_FORMER) && !find(CHILD_REHEARSAL) &&
	       self.waiting_exe < 0;
}

static void part(void)
{
	if (self.parting_ns || self.pending.n)
		return;
	self.parting_ns = now_ns();
	tell_owner(LINK_PARTING, 0);
}

/* Takes one more step towards the new program. Several at once would compete with the guest for its processors. */
static void go_on(void)
{
	if (self.next_exe < 0 || !alone())
		return;
	if (self.rehearsed)
		part();
	else
		rehearse();
}

/* Executes the new program. The worker has turned PDEATHSIG off and outlives this. Returns only on failure. */
static void become_next(void)
{
	struct child *owner = find(CHILD_OWNER);
	const struct role as = {
		.kind = ROLE_PARENT, .link = owner->link, .peer = -1, .worker = owner->pid};
	char text[ROLE_ENV_LEN];
	char **envp = spawn_environment(text, &as);

	self.parting_ns = 0;
	/* Something else has begun meanwhile. The exec waits until it is over. */
	if (!alone() || self.pending.n || self.reading) {
		free(envp);
		tell_owner(LINK_BACK, 0);
		return;
	}
	if (envp && !fd_set_cloexec(owner->link, false))
		syscall(SYS_execveat, self.next_exe, "", self.argv, envp, AT_EMPTY_PATH);
	int code = errno;
	free(envp);
	fd_set_cloexec(owner->link, true);
	stay(strerror(code));
	tell_owner(LINK_BACK, 0);
}

/* ---- children ---- */

static bool room(void)
{
	unsigned n = 0;
	for (struct child *c = self.children; c < self.children + CHILDREN; c++)
		n += !c->role;
	return n >= RESERVED;
}

static void start_successor(int exe, int peer, int64_t request)
{
	struct child *before = find(CHILD_SUCCESSOR);
	struct error err = {0};
	/* The worker asks for another successor, so it has given this one up. */
	if (before) {
		kill_child(before);
		before->role = CHILD_FORMER;
	}
	struct child *c = start(ROLE_SUCCESSOR, exe, peer, &err);
	tell(LINK_ANSWERS, request, NULL, -1);
	if (c)
		tell(LINK_STARTED, c->pid, NULL, c->pidfd);
	else
		tell(LINK_STARTED, -err.code, err.text, -1);
}

/* Starts a successor for which there was no place before, because workers were still ending. */
static void start_waiting(void)
{
	int exe = self.waiting_exe, peer = self.waiting_peer;
	if (exe < 0 || !room())
		return;
	self.waiting_exe = self.waiting_peer = -1;
	start_successor(exe, peer, self.waiting_request);
}

static void on_start(const struct child *from, struct wire_message *msg)
{
	if (from->role != CHILD_OWNER || msg->nfds != 2)
		return;
	fd_close(&self.waiting_exe);
	fd_close(&self.waiting_peer);
	self.waiting_exe = wire_take_fd(msg, 0);
	self.waiting_peer = wire_take_fd(msg, 1);
	self.waiting_request = msg->value;
	start_waiting();
}

static void on_owner(struct child *c)
{
	struct child *old = find(CHILD_OWNER);
	if (c->role != CHILD_SUCCESSOR)
		return;
	if (old) {
		old->role = CHILD_FORMER;
		old->deadline_ns = now_ns() + FORMER_NS;
		if (old->ended)
			forget(old);
	}
	c->role = CHILD_OWNER;
	fd_close(&c->pidfd);
	c->deadline_ns = 0; /* set if its predecessor died before it */
	self.out.n = 0;	    /* it was for the former owner */
	struct child *before = find(CHILD_REHEARSAL);
	if (before) {
		kill_child(before);
		before->ready = false;
		before->stale = true;
	}
	fd_close(&self.next_exe);
	self.rehearsed = false;
	self.next_exe = c->exe;
	c->exe = -1;
	pass_on_again();
}

static void on_message(struct child *c, struct wire_message *msg)
{
	switch (msg->kind) {
	case LINK_START:
		on_start(c, msg);
		break;
	case LINK_OWNER:
		on_owner(c);
		break;
	case LINK_NOTIFY:
		notify_forward(msg->text);
		break;
	case LINK_TAKEN:
		if (c->role == CHILD_OWNER)
			pending_taken(&self.pending, (int)msg->value);
		break;
	case LINK_PARTED:
		if (c->role == CHILD_OWNER && self.parting_ns)
			become_next();
		break;
	case LINK_LOG:
		if (c->role == CHILD_OWNER)
			log_adopt(msg->text, msg->value, msg->nfds ? msg->fds[0] : -1);
		break;
	case LINK_READY:
		c->ready = c->role == CHILD_REHEARSAL;
		break;
	}
	wire_close_fds(msg);
}

/* Reads and serves all messages of @c that have come. */
static void listen_to(struct child *c)
{
	static struct wire_message msg;
	struct error err;
	int rc = 0;
	while (c->link >= 0 && !rc) {
		rc = wire_recv(c->link, &msg, 0, &err);
		if (!rc)
			on_message(c, &msg);
	}
	if (c->link >= 0 && rc == -EPIPE) /* anything else may pass */
		fd_close(&c->link);	  /* SIGCHLD tells when it has ended */
}

static void listen_to_all(void)
{
	for (struct child *c = self.children; c < self.children + CHILDREN; c++)
		listen_to(c);
}

static void reap(void)
{
	int status;
	for (pid_t pid; (pid = waitpid(-1, &status, WNOHANG)) > 0;)
		for (struct child *c = self.children; c < self.children + CHILDREN; c++)
			if (c->role && c->pid == pid) {
				listen_to(c);
				c->ended = true;
				c->status = status;
			}
	/* A successor may have reported, before its predecessor ended, that it has the guest. */
	listen_to_all();
}

/* Handles the children that have ended. Returns the exit status when the guest has no worker any more, or -1. */
static int settle(void)
{
	struct child *owner = find(CHILD_OWNER), *heir = find(CHILD_SUCCESSOR), *c;

	if (heir && heir->ended) {
		self.heir_status = heir->status;
		forget(heir);
		heir = NULL;
	}
	for (c = self.children; c < self.children + CHILDREN; c++)
		if (c->role == CHILD_FORMER && c->ended)
			forget(c);
	for (c = self.children; c < self.children + CHILDREN; c++) {
		if (c->role != CHILD_REHEARSAL || !c->ended)
			continue;
		if (!c->stale)
			rehearsal_ended(c);
		forget(c);
	}
	if (!owner->ended) {
		start_waiting();
		go_on();
		return -1;
	}
	if (heir && exit_status(owner->status) == LINK_STATUS_HANDED) {
		on_owner(heir); /* its predecessor has reported it */
		return -1;
	}
	if (heir) {
		if (!heir->deadline_ns)
			heir->deadline_ns = now_ns() + HEIR_NS;
		return -1;
	}
	int status = exit_status(owner->status);
	return status == LINK_STATUS_HANDED ? exit_status(self.heir_status) : status;
}

/* ---- the loop ---- */

/* SIGHUP also comes when the terminal is gone: from the kernel, or from the shell to its jobs. With nohup it means
 * nothing then. Workers cannot see that, because spawn() resets ignored signals. */
static int meaning(const struct signalfd_siginfo *info)
{
	struct sigaction hup;
	int sig = (int)info->ssi_signo;
	if (sig != SIGHUP || sigaction(SIGHUP, NULL, &hup) || hup.sa_handler == SIG_IGN)
		return sig;
	bool gone = info->ssi_code == SI_KERNEL, shell = (pid_t)info->ssi_pid == getsid(0);
	for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
		gone = gone || (shell && fd_hung_up(fd));
	return gone ? LINK_HANGUP : SIGHUP;
}

/* Reads first what workers sent before the signal came: a signal during an update asks for one more update, a signal
 * right after it for the next. */
static void take_signals(void)
{
	struct signalfd_siginfo info;
	while (read(self.signals, &info, sizeof(info)) == sizeof(info)) {
		self.reading = true;
		listen_to_all();
		self.reading = false;
		pass_on(meaning(&info));
	}
}

/* Kills the children whose deadline has passed. Returns the ms until the next deadline; -1: there is none. */
static int keep_deadlines(void)
{
	uint64_t now = now_ns(), next = UINT64_MAX;
	for (struct child *c = self.children; c < self.children + CHILDREN; c++) {
		if (!c->role || !c->deadline_ns)
			continue;
		if (now >= c->deadline_ns) {
			kill_child(c);
			c->deadline_ns = now + HEIR_NS;
		}
		next = c->deadline_ns < next ? c->deadline_ns : next;
	}
	tell_again();
	if (self.out.n && now + OUTBOX_NS < next)
		next = now + OUTBOX_NS;
	if (self.parting_ns) {
		uint64_t end = self.parting_ns + REHEARSAL_NS;
		if (now >= end) {
			stay("the worker does not answer");
			/* The worker may have turned PDEATHSIG off meanwhile: this tells it to set it again. */
			tell_owner(LINK_BACK, 0);
		} else {
			next = end < next ? end : next;
		}
	}
	return next == UINT64_MAX ? -1 : ms_until(next);
}

/* Kills and reaps all children: none outlives this process. */
static void end_all(void)
{
	for (struct child *c = self.children; c < self.children + CHILDREN; c++)
		if (c->role && !c->ended) {
			kill_child(c);
			waitpid(c->pid, NULL, 0);
		}
}

static int loop(void)
{
	for (;;) {
		/* This includes orphans that ended during the exec: with SIG_DFL their SIGCHLD was discarded. */
		reap();
		int status = settle();
		if (status >= 0) {
			end_all();
			return status;
		}
		struct pollfd p[CHILDREN + 1] = {{.fd = self.signals, .events = POLLIN}};
		for (unsigned i = 0; i < CHILDREN; i++)
			p[i + 1] = (struct pollfd){.fd = self.children[i].link, .events = POLLIN};
		poll(p, CHILDREN + 1, keep_deadlines());
		take_signals();
	}
}

/* After exec there is no way back. A resource may be short for a moment only, so this is tried for five seconds. */
#define SIGNALFD_TRIES	 100
#define SIGNALFD_WAIT_MS 50

/* Signals are read from a descriptor. They stay blocked over exec: the next image finds them pending, and none is
 * lost. */
static int block_signals(bool again, struct error *err)
{
	sigset_t set, blocked;
	link_signals(&set);
	sigaddset(&set, SIGCHLD);
	blocked = set;
	sigaddset(&blocked, SIGXFSZ); /* past RLIMIT_FSIZE a write fails, and that is enough */
	sigprocmask(SIG_BLOCK, &blocked, NULL);
	signal(SIGCHLD, SIG_DFL); /* if it is ignored, waitpid finds no children */
	signal(SIGPIPE, SIG_IGN);
	for (unsigned tries = again ? SIGNALFD_TRIES : 1; tries > 0; tries--) {
		self.signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
		if (self.signals >= 0 || tries == 1)
			break;
		poll(NULL, 0, SIGNALFD_WAIT_MS);
	}
	return self.signals < 0 ? error_errno(err, errno, "signals") : 0;
}

/* The new image begins with one child: the worker, which has run the guest all the time. */
static void resume(const struct role *role)
{
	struct child *owner = &self.children[0];
	*owner = (struct child){.role = CHILD_OWNER,
				.pid = role->worker,
				.pidfd = -1,
				.link = role->link,
				.exe = -1};
	prctl(PR_SET_NAME, "molt"); /* execveat named it after a descriptor */
	tell_owner(LINK_BACK, 0);
}

static int fail(const struct error *err)
{
	log_error(err);
	return err->exit;
}

int parent_run(int argc, char *argv[], const struct role *role)
{
	struct error err = {0};
	self.argv = argv;
	self.next_exe = self.waiting_exe = self.waiting_peer = -1;
	for (struct child *c = self.children; c < self.children + CHILDREN; c++)
		*c = (struct child){.pidfd = -1, .link = -1, .exe = -1};
	if (block_signals(role->kind == ROLE_PARENT, &err))
		return fail(&err);
	/* No program of an update gains privileges. The parent itself has no seccomp filter: its children and its
	 * next image would inherit it, and filters can only be added. */
	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	if (role->kind == ROLE_REHEARSAL)
		oom_probe_stack();
	if (role->kind == ROLE_REHEARSAL)
		return wire_send(role->link, LINK_READY, 0, NULL, 0, NULL, 0, &err) ? fail(&err)
										    : 0;
	if (role->kind == ROLE_PARENT)
		resume(role);
	else if (start_first(&err))
		return fail(&err);
	return loop();
}
