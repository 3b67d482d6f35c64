/* SPDX-License-Identifier: MIT */
/* Runs another molt to hear which classes of state it has. */
#include "cpr/inspect.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>

#include "cpr/handover/check.h"

#define DEADLINE_NS (10 * NS_PER_S)

/* Reads until the end, the deadline, or until @size is full. Returns the length or -errno. */
static ssize_t read_all(int fd, char *text, size_t size)
{
	uint64_t until = now_ns() + DEADLINE_NS;
	size_t len = 0;
	while (len < size) {
		struct pollfd p = {.fd = fd, .events = POLLIN};
		int left_ms = ms_until(until);
		if (!left_ms || !poll(&p, 1, left_ms))
			return -ETIMEDOUT;
		ssize_t n = read(fd, text + len, size - len);
		if (n == 0)
			return (ssize_t)len;
		if (n < 0 && errno != EINTR)
			return -errno;
		len += n > 0 ? (size_t)n : 0;
	}
	return -EFBIG;
}

/* The child has descriptors 0 to 2 only: all others are close-on-exec, that of the program as well. */
static pid_t start(int exe, int out, struct error *err)
{
	char path[32];
	char *argv[] = {"molt", "state", "schema", NULL}, *envp[] = {NULL};
	posix_spawn_file_actions_t actions;
	pid_t pid;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", exe);
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
	posix_spawn_file_actions_adddup2(&actions, out, STDOUT_FILENO);
	posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
	int rc = posix_spawn(&pid, path, &actions, NULL, argv, envp);
	posix_spawn_file_actions_destroy(&actions);
	return rc ? error_errno(err, rc, "its start") : pid;
}

int ask_schema(const char *path, char *text, size_t size, struct error *err)
{
	int ends[2], status;
	fd_auto int exe = check_program(path, false, err);
	if (exe < 0)
		return exe;
	if (pipe2(ends, O_CLOEXEC))
		return error_errno(err, errno, "pipe");
	fd_auto int in = ends[0];
	pid_t pid = start(exe, ends[1], err);
	close(ends[1]);
	if (pid < 0)
		return error_prefix(err, "program %s", path);
	ssize_t len = read_all(in, text, size - 1);
	if (len < 0)
		kill(pid, SIGKILL);
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (len < 0)
		return error_errno(err, (int)-len, "program %s: state schema", path);
	text[len] = 0;
	if (!WIFEXITED(status) || WEXITSTATUS(status)) {
		error_set(err, EPROTO, "program %s: it knows no `state schema`", path);
		return error_hint(err, "it is no molt, or one from before 0.1.0");
	}
	return 0;
}
