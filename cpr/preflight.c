/* SPDX-License-Identifier: MIT */
#include "cpr/preflight.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cpr/blob.h"
#include "cpr/preflight_verdict.h"
#include "cpr/program.h"
#include "cpr/raw.h"
#include "cpr/sandbox.h"
#include "vmm/base/fd.h"
#include "vmm/base/num.h"
#include "vmm/machine.h"

#define STACK_LEN 65536
#define FREE_FD	  64 /* descriptors are collected above this before they get their places */
#define KILL_MS	  5000
#define NS_PER_MS 1000000ull

#ifndef SYS_close_range
#define SYS_close_range 436
#endif

/* ---- the child, until exec: shares the address space of the leader, which waits ---- */

struct child {
	int fds[PREFLIGHT_EXE + 1]; /* by the number they get */
	struct program_image image;
	struct sandbox sandbox; /* its step: of the other steps, too */
	long error;		/* errno value of the step that failed */
};

/* Each gets its number, everything else is closed. */
RAW static long place_descriptors(const struct child *c)
{
	long high[PREFLIGHT_EXE + 1], rc = 0;
	for (int i = 0; rc >= 0 && i <= PREFLIGHT_EXE; i++)
		rc = high[i] = raw_syscall(SYS_fcntl, c->fds[i], F_DUPFD, FREE_FD, 0, 0);
	for (int i = 0; rc >= 0 && i <= PREFLIGHT_EXE; i++)
		rc = raw_syscall(SYS_dup3, high[i], i, i == PREFLIGHT_EXE ? O_CLOEXEC : 0, 0, 0);
	return rc < 0 ? rc : raw_syscall(SYS_close_range, PREFLIGHT_EXE + 1, -1, 0, 0, 0);
}

/* exec would leave those ignored that the leader ignores. All of them are blocked now. */
RAW static void default_signals(void)
{
	const uint64_t sa[4] = {0}; /* the kernel's struct sigaction: SIG_DFL */
	for (int sig = 1; sig <= 64; sig++)
		raw_syscall(SYS_rt_sigaction, sig, (long)sa, 0, 8, 0);
}

RAW static int become(void *opaque)
{
	struct child *c = opaque;
	const uint64_t none = 0;

	default_signals();
	c->sandbox.step = "descriptors";
	long rc = place_descriptors(c);
	if (rc >= 0)
		rc = sandbox_enter(&c->sandbox);
	if (rc >= 0) {
		c->sandbox.step = "exec";
		raw_syscall(SYS_rt_sigprocmask, SIG_SETMASK, (long)&none, 0, 8, 0);
		rc = raw_syscall(SYS_execveat, PREFLIGHT_EXE, (long)"", (long)c->image.argv,
				 (long)c->image.envp, AT_EMPTY_PATH);
	}
	c->error = -rc;
	raw_syscall(SYS_exit_group, 0, 0, 0, 0, 0);
	return 0;
}

/* Returns its process id when it has become the program, or has ended. */
static pid_t start(struct child *c, struct error *err)
{
	sigset_t all, before;
	void *stack =
		mmap(NULL, STACK_LEN, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (stack == MAP_FAILED)
		return error_errno(err, errno, "preflight: stack");
	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, &before); /* no handler of ours may run in the child */
	pid_t pid = clone(become, (char *)stack + STACK_LEN, CLONE_VM | CLONE_VFORK | SIGCHLD, c);
	int code = errno;
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	munmap(stack, STACK_LEN);
	return pid < 0 ? error_errno(err, code, "preflight: clone") : pid;
}

/* ---- the leader: waits for the answer and the end ---- */

/* Takes what the pipe holds. */
static void take_answer(int pipe, struct preflight_end *end)
{
	ssize_t n = 1;
	while (n > 0 && end->len < sizeof(end->text)) {
		n = read(pipe, end->text + end->len, sizeof(end->text) - end->len);
		end->len += n > 0 ? (size_t)n : 0;
	}
}

static bool readable(int fd, int timeout_ms)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};
	return poll(&p, 1, timeout_ms) > 0;
}

/* Until it has ended, or says too much, or its time is over. */
static void watch(int pidfd, int pipe, struct preflight_end *end)
{
	uint64_t deadline_ns = now_ns() + end->timeout_ms * NS_PER_MS;
	struct pollfd p[2] = {{.fd = pidfd, .events = POLLIN}, {.fd = pipe, .events = POLLIN}};
	while (!p[0].revents && end->len < sizeof(end->text)) {
		uint64_t now = now_ns();
		end->timed_out = now >= deadline_ns;
		if (end->timed_out)
			return;
		poll(p, 2, (int)((deadline_ns - now) / NS_PER_MS) + 1);
		if (p[1].revents)
			take_answer(pipe, end);
		if (p[1].revents & (POLLHUP | POLLERR))
			p[1].fd = -1;
	}
}

/* Nothing of it is left when this returns; but for one that the kernel does not let go, which
 * is then reaped when it ends (keeper_reap). */
static void finish(pid_t pid, int pipe, struct preflight_end *end)
{
	fd_auto int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	if (pidfd >= 0)
		watch(pidfd, pipe, end);
	kill(-pid, SIGKILL); /* its session: the whole group */
	kill(pid, SIGKILL);
	if (pidfd < 0 || readable(pidfd, KILL_MS))
		waitpid(pid, &end->status, __WALL);
	else
		end->timed_out = true;
	take_answer(pipe, end);
}

static int run(struct child *c, int pipe, struct preflight_end *end, struct error *err)
{
	pid_t pid = start(c, err);
	if (pid < 0)
		return pid;
	fd_close(&c->fds[PREFLIGHT_ANSWER]);
	if (c->error) {
		waitpid(pid, NULL, __WALL);
		end->step = c->sandbox.step;
		end->step_error = (int)c->error;
	} else {
		finish(pid, pipe, end);
	}
	return 0;
}

static int trial_blob(struct machine *m, struct blob *blob, struct error *err)
{
	int rc = blob_create(blob, &m->tree, &m->fds, err);
	if (rc)
		return rc;
	pthread_mutex_lock(&m->lock);
	rc = blob_write(blob, &m->tree, &m->fds, err);
	pthread_mutex_unlock(&m->lock);
	return rc;
}

int preflight_ask(struct machine *m, struct program *p, const char *path, int exe_fd,
		  struct reasons *reasons, struct error *err)
{
	static struct preflight_end end;
	const struct program_incoming next = {
		.mode = PROGRAM_PREFLIGHT, .blob_fd = PREFLIGHT_BLOB, .old_fd = PREFLIGHT_ANSWER};
	struct blob blob = {.fd = -1};
	struct child c = {0};
	fd_auto int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	int pipes[2] = {-1, -1};

	end = (struct preflight_end){.timeout_ms = m->opt.preflight_timeout_ms};
	int rc = null < 0 ? error_errno(err, errno, "preflight: /dev/null") : 0;
	if (!rc && (pipe2(pipes, O_CLOEXEC) < 0 || fd_set_nonblock(pipes[0], true)))
		rc = error_errno(err, errno, "preflight: pipe");
	if (!rc)
		rc = trial_blob(m, &blob, err);
	if (!rc)
		rc = program_image_init(&c.image, p, &next, err);
	if (!rc) {
		const int fds[] = {null, null, null, blob.fd, pipes[1], m->vm.kvm_fd, exe_fd};
		memcpy(c.fds, fds, sizeof(fds));
		c.sandbox = (struct sandbox){.cpu_s = end.timeout_ms / 1000 + 2,
					     .files = 128 + m->opt.cpus,
					     .parent = getpid()};
		rc = run(&c, pipes[0], &end, err);
		pipes[1] = c.fds[PREFLIGHT_ANSWER];
	}
	if (!rc)
		rc = preflight_judge(&end, path, reasons, err);
	program_image_free(&c.image);
	blob_close(&blob);
	fd_close(&pipes[0]);
	fd_close(&pipes[1]);
	return rc;
}
