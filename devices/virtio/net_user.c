/* SPDX-License-Identifier: MIT */
/* Starts passt, which puts the guest's traffic through ordinary sockets of this user. It goes into the background when
 * it is ready, and ends with the other end of its socket: with the guest, whichever program has that. */
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "devices/virtio/net.h"

extern char **environ;

static int failed(int code, struct error *err)
{
	int rc = error_end(err, EXIT_HOST, code, "net user: starting passt: %m");
	return rc == -ENOENT
		       ? error_hint(err, "install the package passt, or give the guest a tap: "
					 "--net tap=IFNAME")
		       : rc;
}

/* With @fd as its socket: the process, or -errno. The signals that this process has blocked are not for it. */
static int start(int fd, struct error *err)
{
	char number[16];
	char *const argv[] = {(char *)"passt", (char *)"--quiet", (char *)"--fd", number, NULL};
	posix_spawnattr_t attr;
	posix_spawn_file_actions_t actions;
	sigset_t none;
	pid_t pid;
	snprintf(number, sizeof(number), "%d", fd);
	sigemptyset(&none);
	posix_spawnattr_init(&attr);
	posix_spawnattr_setsigmask(&attr, &none);
	posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK);
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_adddup2(&actions, fd, fd); /* takes close-on-exec off */
	posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
	int rc = posix_spawnp(&pid, argv[0], &actions, &attr, argv, environ);
	posix_spawn_file_actions_destroy(&actions);
	posix_spawnattr_destroy(&attr);
	return rc ? failed(rc, err) : pid;
}

int net_user_start(struct error *err)
{
	int end[2], status, pid;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, end) < 0)
		return error_errno(err, errno, "net user: socket");
	pid = start(end[1], err);
	close(end[1]);
	if (pid >= 0 && waitpid(pid, &status, 0) == pid && WIFEXITED(status) &&
	    !WEXITSTATUS(status))
		return end[0];
	close(end[0]);
	if (pid < 0)
		return pid;
	error_end(err, EXIT_HOST, EIO, "net user: passt did not start (status 0x%x)",
		  (unsigned)status);
	return error_hint(err, "what it says stands above; 'passt --foreground' says more");
}
