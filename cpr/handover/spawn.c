/* SPDX-License-Identifier: MIT */
/* Starts child processes. Memory is not copied: until exec a child shares this process's (CLONE_VM). So it makes raw
 * system calls only, since errno and the C library's locks are this process's too. */
#include "cpr/handover/spawn.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "cpr/handover/oom.h"
#include "cpr/handover/raw.h"
#include "vmm/base/base.h"

#define STACK_LEN 65536

extern char **environ;

struct child {
	int exe, link, peer;
	pid_t parent;
	bool spare; /* the guest lives on without it */
	char **argv, **envp;
	long error;
};

/* A signal that is ignored here would stay so after exec: each gets its default action. */
RAW static void default_signals(void)
{
	const uint64_t sa[4] = {0}; /* the kernel's struct sigaction: SIG_DFL */
	for (int sig = 1; sig <= 64; sig++)
		raw_syscall(SYS_rt_sigaction, sig, (long)sa, 0, 8, 0);
}

/* Asks the kernel to kill this child first when memory is short. That takes effect with exec: a child that shares its
 * parent's memory is not chosen (mm/oom_kill.c, in_vfork). */
RAW static void offer_to_oom(void)
{
	static const char path[] = OOM_PATH, first[] = OOM_FIRST;
	long fd = raw_syscall(SYS_open, (long)path, O_WRONLY | O_CLOEXEC, 0, 0, 0);
	if (fd < 0)
		return;
	raw_syscall(SYS_write, fd, (long)first, sizeof(first) - 1, 0, 0);
	raw_syscall(SYS_close, fd, 0, 0, 0, 0);
}

RAW static int become(void *opaque)
{
	struct child *c = opaque;

	default_signals();
	long rc = raw_syscall(SYS_prctl, PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
	/* It may have died before PDEATHSIG was set. */
	if (raw_syscall(SYS_getppid, 0, 0, 0, 0, 0) != c->parent)
		raw_syscall(SYS_exit_group, 1, 0, 0, 0, 0);
	if (c->spare)
		offer_to_oom();
	if (rc >= 0)
		rc = raw_syscall(SYS_fcntl, c->link, F_SETFD, 0, 0, 0);
	if (rc >= 0 && c->peer >= 0)
		rc = raw_syscall(SYS_fcntl, c->peer, F_SETFD, 0, 0, 0);
	if (rc >= 0)
		rc = raw_syscall(SYS_execveat, c->exe, (long)"", (long)c->argv, (long)c->envp,
				 AT_EMPTY_PATH);
	c->error = -rc;
	raw_syscall(SYS_exit_group, 1, 0, 0, 0, 0);
	return 0;
}

char **spawn_environment(char *text, const struct role *role)
{
	size_t n = 0;
	while (environ[n])
		n++;
	char **envp = calloc(n + 2, sizeof(*envp));
	if (!envp)
		return NULL;
	role_format(text, role);
	envp[0] = text;
	memcpy(envp + 1, environ, n * sizeof(*environ));
	return envp;
}

pid_t spawn(int exe, char **argv, const struct role *role, int *pidfd, struct error *err)
{
	char text[ROLE_ENV_LEN];
	struct child c = {.exe = exe,
			  .link = role->link,
			  .peer = role->peer,
			  .parent = getpid(),
			  .spare = role->kind != ROLE_WORKER,
			  .argv = argv,
			  .envp = spawn_environment(text, role)};
	void *stack =
		mmap(NULL, STACK_LEN, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	pid_t pid = -1;
	int code = ENOMEM;

	*pidfd = -1;
	if (c.envp && stack != MAP_FAILED) {
		pid = clone(become, (char *)stack + STACK_LEN,
			    CLONE_VM | CLONE_VFORK | CLONE_PIDFD | SIGCHLD, &c, pidfd);
		code = errno;
	}
	if (stack != MAP_FAILED)
		munmap(stack, STACK_LEN);
	free(c.envp);
	if (pid < 0)
		return error_errno(err, code, "starting a process");
	if (!c.error)
		return pid;
	waitpid(pid, NULL, 0);
	close(*pidfd);
	*pidfd = -1;
	return error_errno(err, (int)c.error, "exec of the program");
}
