/* SPDX-License-Identifier: MIT */
/* A thread with one connection after the other to the host (AF_VSOCK), which sends everything back. A connection that
 * ends is counted, and followed by the next one. */
#include "guest.h"

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <linux/vm_sockets.h>

#define CHUNK	 4096
#define AGAIN_US 100000

static struct {
	unsigned int port;
	_Atomic uint64_t received, bad, ends;
} vsock;

static int open_one(void)
{
	struct sockaddr_vm to = {
		.svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_HOST, .svm_port = vsock.port};
	int fd = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || !connect(fd, (struct sockaddr *)&to, sizeof(to)))
		return fd;
	close(fd);
	return -1;
}

/* There and back. False: the connection has ended. */
static bool round_trip(int fd, uint8_t seed)
{
	uint8_t data[CHUNK], back[CHUNK];
	memset(data, seed, CHUNK);
	for (size_t done = 0; done < CHUNK;) {
		ssize_t n = send(fd, data + done, CHUNK - done, MSG_NOSIGNAL);
		if (n <= 0)
			return false;
		done += (size_t)n;
	}
	for (size_t done = 0; done < CHUNK;) {
		ssize_t n = recv(fd, back + done, CHUNK - done, 0);
		if (n <= 0)
			return false;
		done += (size_t)n;
	}
	if (memcmp(data, back, CHUNK))
		atomic_fetch_add(&vsock.bad, 1);
	atomic_fetch_add(&vsock.received, CHUNK);
	return true;
}

static void *vsock_run(void *unused)
{
	uint8_t seed = 0;
	(void)unused;
	for (;;) {
		int fd = open_one();
		if (fd < 0) {
			usleep(AGAIN_US);
			continue;
		}
		while (round_trip(fd, ++seed))
			;
		atomic_fetch_add(&vsock.ends, 1);
		close(fd);
	}
	return NULL;
}

int vsock_start(unsigned int port)
{
	pthread_t thread;
	vsock.port = port;
	return -pthread_create(&thread, NULL, vsock_run, NULL);
}

void vsock_report(struct vsock_stats *out)
{
	out->received = atomic_load(&vsock.received);
	out->bad = atomic_load(&vsock.bad);
	out->ends = atomic_load(&vsock.ends);
}
