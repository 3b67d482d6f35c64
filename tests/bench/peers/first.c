/* SPDX-License-Identifier: MIT */
/*
 * Starts a program whose standard output is a guest's console, and ends it when a text has come
 * there. Prints
 *
 *   us=US rss_kb=KB private_kb=KB guest_kb=KB
 *
 * from before the start, and its memory at that moment (memory.c).
 */
#include "peer.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define WAIT_US 60000000u

/* Reads until TEXT is there; 0, or 1 when it will not come. */
static int text_wait(int fd, const char *text, uint64_t deadline_us)
{
	static char seen[65536];
	size_t len = 0;

	for (;;) {
		struct pollfd in = {.fd = fd, .events = POLLIN};
		uint64_t now = now_us();
		ssize_t n;

		errno = 0;
		if (len == sizeof(seen) - 1 || now >= deadline_us ||
		    poll(&in, 1, (int)((deadline_us - now) / 1000) + 1) <= 0)
			return complain("no '%s' on the console, but: %.200s", text, seen);
		n = read(fd, seen + len, sizeof(seen) - 1 - len);
		if (n <= 0)
			return complain("ended without '%s', but: %.200s", text, seen);
		len += (size_t)n;
		seen[len] = '\0';
		if (!strstr(seen, text))
			continue;
		fprintf(stderr, "on the console: %.80s\n", seen);
		return 0;
	}
}

int first_main(int argc, char **argv)
{
	uint64_t start;
	int out[2], status;
	pid_t pid;

	if (argc < 3)
		return 2;
	if (pipe(out))
		return complain("pipe");
	start = now_us();
	pid = fork();
	if (pid < 0)
		return complain("fork");
	if (!pid) {
		dup2(out[1], STDOUT_FILENO);
		close(out[0]);
		close(out[1]);
		execvp(argv[2], argv + 2);
		complain("%s", argv[2]);
		_exit(127);
	}
	close(out[1]);
	status = text_wait(out[0], argv[1], start + WAIT_US);
	if (!status) {
		printf("us=%" PRIu64 " ", now_us() - start);
		status = memory_print(pid);
	}
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	return status;
}
