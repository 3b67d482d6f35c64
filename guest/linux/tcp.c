/* SPDX-License-Identifier: MIT */
/* A thread with one TCP connection to a peer that sends everything back, and an account of each byte. */
#include "guest.h"

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <unistd.h>

#define CHUNK	16384
#define AHEAD	(8 * CHUNK) /* under way at most, less than what both sockets have room for */
#define WAIT_MS 20000

static struct {
	int fd;
	_Atomic uint64_t sent, received, bad;
} tcp;

/* Neighbours differ, and so do bytes that are a segment's length apart. */
static uint8_t byte_of(uint64_t n)
{
	return (uint8_t)(n * 167 + (n >> 8) * 13);
}

static ssize_t send_some(uint64_t at)
{
	uint8_t data[CHUNK];
	for (unsigned int i = 0; i < CHUNK; i++)
		data[i] = byte_of(at + i);
	return send(tcp.fd, data, CHUNK, MSG_DONTWAIT | MSG_NOSIGNAL);
}

static ssize_t receive_some(uint64_t at)
{
	uint8_t data[CHUNK];
	ssize_t n = recv(tcp.fd, data, CHUNK, MSG_DONTWAIT);
	for (ssize_t i = 0; i < n; i++)
		if (data[i] != byte_of(at + (uint64_t)i))
			atomic_fetch_add(&tcp.bad, 1);
	return n ? n : -1; /* nobody closes it */
}

static bool failed(ssize_t n)
{
	return n < 0 && errno != EAGAIN && errno != EINTR;
}

/* On the last processor: the interface's queue of that one, where it has several, is not the pings'. */
static void stay_on_last_cpu(void)
{
	cpu_set_t last;

	CPU_ZERO(&last);
	CPU_SET((int)sysconf(_SC_NPROCESSORS_ONLN) - 1, &last);
	sched_setaffinity(0, sizeof(last), &last);
}

static void *tcp_run(void *unused)
{
	uint64_t sent = 0, received = 0;
	ssize_t n = 0;

	(void)unused;
	stay_on_last_cpu();
	for (;;) {
		struct pollfd p = {.fd = tcp.fd, .events = POLLIN};
		if (sent - received < AHEAD)
			p.events |= POLLOUT;
		if (poll(&p, 1, WAIT_MS) != 1) {
			errno = ETIMEDOUT;
			break;
		}
		errno = 0;
		if (p.revents & POLLOUT) {
			n = send_some(sent);
			if (failed(n))
				break;
			sent += n > 0 ? (uint64_t)n : 0;
			atomic_store(&tcp.sent, sent);
		}
		if (p.revents & ~POLLOUT) {
			n = receive_some(received);
			if (failed(n))
				break;
			received += n > 0 ? (uint64_t)n : 0;
			atomic_store(&tcp.received, received);
		}
	}
	console_line("FAIL what=tcp errno=%d sent=%llu received=%llu", errno,
		     (unsigned long long)sent, (unsigned long long)received);
	return NULL;
}

int tcp_start(const struct config *cfg)
{
	struct sockaddr_in to = {.sin_family = AF_INET,
				 .sin_addr.s_addr = cfg->peer,
				 .sin_port = htons((uint16_t)cfg->tcp_port)};
	pthread_t thread;
	int rc;

	tcp.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (tcp.fd < 0 || connect(tcp.fd, (struct sockaddr *)&to, sizeof(to))) {
		console_line("FAIL what=tcp_connect errno=%d", errno);
		return -EIO;
	}
	rc = pthread_create(&thread, NULL, tcp_run, NULL);
	return rc ? -rc : 0;
}

void tcp_report(struct tcp_stats *out)
{
	/* In this order: what is under way counts as sent, never as received only. */
	out->received = atomic_load(&tcp.received);
	out->sent = atomic_load(&tcp.sent);
	out->bad = atomic_load(&tcp.bad);
}
