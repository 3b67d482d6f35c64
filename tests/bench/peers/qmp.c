/* SPDX-License-Identifier: MIT */
/*
 * QEMU's machine protocol, as far as a script needs it: lines of JSON over a Unix socket, of which
 * a reply begins with its only key, and all else is an event (QEMU, docs/interop/qmp-spec).
 */
#include "peer.h"

#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define WAIT_US 60000000u
#define STEP_MS 20

struct session {
	int fd;
	uint64_t deadline_us;
	size_t len; /* of what is in buf and was not yet handed out */
	char buf[65536];
};

static void nap(void)
{
	struct timespec ts = {0, STEP_MS * 1000000};

	nanosleep(&ts, NULL);
}

/* The socket appears when QEMU has got that far. */
static int session_open(struct session *s, const char *path)
{
	struct sockaddr_un to = {.sun_family = AF_UNIX};

	if (strlen(path) >= sizeof(to.sun_path))
		return complain("%s: too long for a socket", path);
	strcpy(to.sun_path, path);
	s->deadline_us = now_us() + WAIT_US;
	s->len = 0;
	while (now_us() < s->deadline_us) {
		s->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
		if (s->fd >= 0 && !connect(s->fd, (struct sockaddr *)&to, sizeof(to)))
			return 0;
		close(s->fd);
		nap();
	}
	return complain("connect to %s", path);
}

/* The next whole line, without its end. False when there will be none. */
static bool line_read(struct session *s, char *line, size_t size)
{
	for (;;) {
		char *end = memchr(s->buf, '\n', s->len);
		uint64_t now = now_us();
		struct pollfd in = {.fd = s->fd, .events = POLLIN};
		ssize_t n;

		if (end) {
			size_t len = (size_t)(end - s->buf), copy = len < size ? len : size - 1;

			memcpy(line, s->buf, copy);
			line[copy] = '\0';
			line[strcspn(line, "\r")] = '\0';
			s->len -= len + 1;
			memmove(s->buf, end + 1, s->len);
			return true;
		}
		if (s->len == sizeof(s->buf) || now >= s->deadline_us ||
		    poll(&in, 1, (int)((s->deadline_us - now) / 1000) + 1) <= 0)
			return false;
		n = read(s->fd, s->buf + s->len, sizeof(s->buf) - s->len);
		if (n <= 0)
			return false;
		s->len += (size_t)n;
	}
}

/* Sends one command and waits for its answer, over events. */
static int ask(struct session *s, const char *command, char *answer, size_t size)
{
	size_t len = strlen(command);

	errno = 0;
	if (write(s->fd, command, len) != (ssize_t)len || write(s->fd, "\n", 1) != 1)
		return complain("QEMU takes no command");
	while (line_read(s, answer, size)) {
		if (!strncmp(answer, "{\"return\"", 9))
			return 0;
		if (!strncmp(answer, "{\"error\"", 8)) {
			errno = 0;
			return complain("%s: %s", command, answer);
		}
	}
	return complain("no answer to %s", command);
}

int qmp_main(int argc, char **argv)
{
	static struct session s;
	static char answer[65536];
	const char *until = NULL;

	if (argc > 2 && !strcmp(argv[1], "-u")) {
		until = argv[2];
		argv += 2, argc -= 2;
	}
	if (argc < 3)
		return 2;
	if (session_open(&s, argv[1]))
		return 1;
	if (!line_read(&s, answer, sizeof(answer)))
		return complain("no greeting from %s", argv[1]);
	if (ask(&s, "{\"execute\":\"qmp_capabilities\"}", answer, sizeof(answer)))
		return 1;
	for (int i = 2; i < argc; i++) {
		if (i == argc - 1) {
			printf("%llu\n", (unsigned long long)now_us());
			fflush(stdout);
		}
		if (ask(&s, argv[i], answer, sizeof(answer)))
			return 1;
	}
	/* The last command again, until the answer is the one waited for. */
	while (until && !strstr(answer, until)) {
		nap();
		if (now_us() >= s.deadline_us) {
			errno = 0;
			return complain("still not %s: %s", until, answer);
		}
		if (ask(&s, argv[argc - 1], answer, sizeof(answer)))
			return 1;
	}
	puts(answer);
	return 0;
}
