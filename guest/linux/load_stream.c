/* SPDX-License-Identifier: MIT */
/* How much one TCP connection moves to or from a peer (tests/bench/peers/stream.c), or how often a byte there and
 * back. */
#include "guest.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static uint8_t buffer[256 * 1024];

static int peer_connect(const char *host, unsigned int port)
{
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
	int on = 1, fd;

	if (inet_pton(AF_INET, host, &to.sin_addr) != 1)
		return -EINVAL;
	fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	if (connect(fd, (struct sockaddr *)&to, sizeof(to)) ||
	    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on))) {
		int rc = -errno;
		close(fd);
		return rc;
	}
	return fd;
}

/* All of it counts once the peer has it, and has closed the connection. */
static ssize_t send_until(int fd, uint64_t until_ns)
{
	ssize_t sum = 0, n;
	char c;

	while (clock_now_ns() < until_ns) {
		n = send(fd, buffer, sizeof(buffer), MSG_NOSIGNAL);
		if (n < 0)
			return -errno;
		sum += n;
	}
	if (shutdown(fd, SHUT_WR) || read(fd, &c, 1))
		return -EIO;
	return sum;
}

static ssize_t receive_until(int fd, uint64_t until_ns)
{
	ssize_t sum = 0, n;

	while (clock_now_ns() < until_ns) {
		n = read(fd, buffer, sizeof(buffer));
		if (n <= 0)
			return n ? -errno : -EPIPE;
		sum += n;
	}
	return sum;
}

static ssize_t turns_until(int fd, uint64_t until_ns)
{
	ssize_t turns = 0;

	for (; clock_now_ns() < until_ns; turns++)
		if (send(fd, buffer, 1, MSG_NOSIGNAL) != 1 || read(fd, buffer, 1) != 1)
			return -EPIPE;
	return turns;
}

static const struct {
	const char *word;
	char first; /* tells the peer */
	ssize_t (*run)(int fd, uint64_t until_ns);
} kinds[] = {
	{"send", 's', send_until},
	{"receive", 'r', receive_until},
	{"turns", 't', turns_until},
};

static ssize_t kind_run(int fd, const char *word, uint64_t until_ns)
{
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
		if (!strcmp(kinds[i].word, word))
			return send(fd, &kinds[i].first, 1, MSG_NOSIGNAL) == 1
				       ? kinds[i].run(fd, until_ns)
				       : -EPIPE;
	return -EINVAL;
}

void load_stream(char *words)
{
	char host[16], word[8];
	unsigned int port, ms;
	uint64_t start, end;
	ssize_t sum = -EINVAL;
	int fd = -1;

	if (words && sscanf(words, "%15s %u %7s %u", host, &port, word, &ms) == 4)
		fd = peer_connect(host, port);
	start = clock_now_ns();
	if (fd >= 0)
		sum = kind_run(fd, word, start + (uint64_t)ms * 1000000);
	end = clock_now_ns();
	if (fd >= 0)
		close(fd);
	if (sum < 0)
		console_line("FAIL what=load_stream errno=%d", fd < 0 ? -fd : (int)-sum);
	else
		console_line("LOAD done=%llu us=%llu", (unsigned long long)sum,
			     (unsigned long long)((end - start) / 1000));
}
