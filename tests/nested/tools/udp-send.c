/* SPDX-License-Identifier: MIT */
/* udp-send ADDRESS PORT FIRST COUNT RATE: sends numbered packets, RATE a second, COUNT or until SIGTERM; prints
 * sent=N. */
#include <arpa/inet.h>
#include <endian.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "packet.h"

#define NS_PER_S 1000000000ull

static volatile sig_atomic_t enough;

static void on_term(int sig)
{
	enough = sig;
}

static void advance(struct timespec *t, uint64_t ns)
{
	ns += (uint64_t)t->tv_nsec;
	t->tv_sec += (time_t)(ns / NS_PER_S);
	t->tv_nsec = (long)(ns % NS_PER_S);
}

int main(int argc, char **argv)
{
	struct sockaddr_in to = {.sin_family = AF_INET};
	struct packet p = {.head = PACKET_HEAD, .end = PACKET_HEAD};
	struct timespec next;
	uint64_t first, count, rate, sent = 0, i;
	int fd;

	if (argc != 6 || inet_pton(AF_INET, argv[1], &to.sin_addr) != 1) {
		fprintf(stderr, "usage: udp-send ADDRESS PORT FIRST COUNT RATE\n");
		return 2;
	}
	to.sin_port = htons((uint16_t)atoi(argv[2]));
	first = strtoull(argv[3], NULL, 10);
	count = strtoull(argv[4], NULL, 10);
	rate = strtoull(argv[5], NULL, 10);
	fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || !rate || connect(fd, (struct sockaddr *)&to, sizeof(to))) {
		perror("udp-send");
		return 1;
	}
	memset(p.mark, PACKET_MARK, sizeof(p.mark));
	signal(SIGTERM, on_term);
	clock_gettime(CLOCK_MONOTONIC, &next);
	for (i = 0; i < count && !enough; i++) {
		clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &next, NULL);
		advance(&next, NS_PER_S / rate);
		p.seq = htobe64(first + i);
		if (send(fd, &p, sizeof(p), 0) == sizeof(p))
			sent++;
		else
			fprintf(stderr, "udp-send: packet %llu: %s\n",
				(unsigned long long)(first + i), strerror(errno));
	}
	printf("sent=%llu\n", (unsigned long long)sent);
	return sent == i ? 0 : 1;
}
