/* SPDX-License-Identifier: MIT */
/*
 * The parent: the process whose id is known. One thread, one loop over its signals and the sockets to its children. It
 * starts workers and successors (children.c), passes signals on to whoever has the guest, becomes the new program after
 * an update (next_image.c), and ends with the exit status of the last worker.
 */
#include "cpr/handover/parent.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "cpr/handover/children.h"
#include "cpr/handover/link.h"
#include "cpr/handover/next_image.h"
#include "cpr/handover/oom.h"
#include "cpr/handover/pending.h"
#include "cpr/handover/wire.h"
#include "vmm/notify.h"

/* A worker that has handed the guest over only frees memory. It is killed after this time. */
#define FORMER_NS (30000 * NS_PER_MS)

static struct parent {
	struct children all;
	struct next_image next;
	int signals; /* signalfd */
	/* Signals that no worker has said to be serving: a new owner gets them again. */
	struct pending pending;
	bool reading; /* a signal has been read, and is not among the pending ones yet */
	int waiting_exe, waiting_peer; /* of a successor that has no room yet, or -1 */
	int64_t waiting_request;       /* the number of that LINK_START */
	int heir_status; /* exit status of the last successor that ended without the guest */
} self;

static void pass_on(int sig)
{
	if (sig != SIGCHLD && pending_add(&self.pending, sig))
		owner_tell(&self.all, LINK_SIGNAL, sig);
}

static void pass_on_again(void)
{
	for (unsigned i = 0; i < self.pending.n; i++)
		owner_tell(&self.all, LINK_SIGNAL, self.pending.sig[i]);
}

static int start_first(struct error *err)
{
	/* An eventfd for each interrupt vector is more than the usual soft limit, which is for select(). */
	fd_limit_raise();
	int exe = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	if (exe < 0)
		return error_errno(err, errno, "/proc/self/exe");
	struct child *owner = children_start(&self.all, ROLE_WORKER, exe, -1, err);
	if (!owner)
		return -err->code;
	fd_close(&owner->pidfd); /* no worker has asked for it, and after exec there is none */
	fd_close_inherited();	 /* the worker has them */
	return 0;
}

/* ---- what children say ---- */

static void start_successor(int exe, int peer, int64_t request)
{
	struct child *before = children_find(&self.all, CHILD_SUCCESSOR);
	struct error err = {0};
	/* The worker asks for another successor, so it has given this one up. */
	if (before) {
		child_kill(before);
		before->role = CHILD_FORMER;
	}
	struct child *c = children_start(&self.all, ROLE_SUCCESSOR, exe, peer, &err);
	owner_tell_all(&self.all, LINK_ANSWERS, request, NULL, -1);
	if (c)
		owner_tell_all(&self.all, LINK_STARTED, c->pid, NULL, c->pidfd);
	else
		owner_tell_all(&self.all, LINK_STARTED, -err.code, err.text, -1);
}

/* Starts a successor for which there was no place before, because workers were still ending. */
static void start_waiting(void)
{
	int exe = self.waiting_exe, peer = self.waiting_peer;
	if (exe < 0 || !children_room(&self.all))
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
	struct child *old = children_find(&self.all, CHILD_OWNER);
	if (c->role != CHILD_SUCCESSOR)
		return;
	if (old) {
		old->role = CHILD_FORMER;
		old->deadline_ns = now_ns() + FORMER_NS;
		if (old->ended)
			child_forget(old);
	}
	c->role = CHILD_OWNER;
	fd_close(&c->pidfd);
	c->deadline_ns = 0; /* set if its predecessor died before it */
	self.all.out.n = 0; /* it was for the former owner */
	next_image_set(&self.next, &self.all, c->exe);
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
		if (c->role == CHILD_OWNER)
			next_image_become(&self.next, &self.all,
					  self.waiting_exe >= 0 || self.pending.n || self.reading);
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
	for (struct child *c = self.all.c; c < self.all.c + CHILDREN; c++)
		listen_to(c);
}

static void reap(void)
{
	int status;
	for (pid_t pid; (pid = waitpid(-1, &status, WNOHANG)) > 0;)
		for (struct child *c = self.all.c; c < self.all.c + CHILDREN; c++)
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
	struct child *owner = children_find(&self.all, CHILD_OWNER);
	struct child *heir = children_find(&self.all, CHILD_SUCCESSOR), *c;

	if (heir && heir->ended) {
		self.heir_status = child_exit_status(heir);
		child_forget(heir);
		heir = NULL;
	}
	for (c = self.all.c; c < self.all.c + CHILDREN; c++)
		if (c->role == CHILD_FORMER && c->ended)
			child_forget(c);
	for (c = self.all.c; c < self.all.c + CHILDREN; c++) {
		if (c->role != CHILD_REHEARSAL || !c->ended)
			continue;
		next_image_rehearsed(&self.next, c);
		child_forget(c);
	}
	if (!owner->ended) {
		start_waiting();
		if (self.waiting_exe < 0)
			next_image_go_on(&self.next, &self.all, self.pending.n);
		return -1;
	}
	int status = child_exit_status(owner);
	if (heir && status == LINK_STATUS_HANDED) {
		on_owner(heir); /* its predecessor has reported it */
		return -1;
	}
	if (heir) {
		if (!heir->deadline_ns)
			heir->deadline_ns = now_ns() + HEIR_NS;
		return -1;
	}
	return status == LINK_STATUS_HANDED ? self.heir_status : status;
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

/* Returns the ms until the next deadline; -1: there is none. */
static int keep_deadlines(void)
{
	uint64_t now = now_ns(), next = children_deadlines(&self.all, now);
	owner_tell_again(&self.all);
	if (self.all.out.n && now + OUTBOX_NS < next)
		next = now + OUTBOX_NS;
	uint64_t parted = next_image_deadline(&self.next, &self.all, now);
	next = parted < next ? parted : next;
	return next == UINT64_MAX ? -1 : ms_until(next);
}

static int loop(void)
{
	for (;;) {
		/* This includes orphans that ended during the exec: with SIG_DFL their SIGCHLD was discarded. */
		reap();
		int status = settle();
		if (status >= 0) {
			children_end(&self.all);
			return status;
		}
		struct pollfd p[CHILDREN + 1] = {{.fd = self.signals, .events = POLLIN}};
		for (unsigned i = 0; i < CHILDREN; i++)
			p[i + 1] = (struct pollfd){.fd = self.all.c[i].link, .events = POLLIN};
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
	struct child *owner = &self.all.c[0];
	*owner = (struct child){.role = CHILD_OWNER,
				.pid = role->worker,
				.pidfd = -1,
				.link = role->link,
				.exe = -1};
	prctl(PR_SET_NAME, "molt"); /* execveat named it after a descriptor */
	owner_tell(&self.all, LINK_BACK, 0);
}

static int fail(const struct error *err)
{
	log_error(err);
	return err->exit;
}

int parent_run(int argc, char *argv[], const struct role *role)
{
	struct error err = {0};
	children_init(&self.all, argv);
	self.next.exe = self.waiting_exe = self.waiting_peer = -1;
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
