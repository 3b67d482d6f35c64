/* SPDX-License-Identifier: MIT */
/* A thread that sends bytes to a serial port which sends them back, and accounts for each of them. */
#include "guest.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#define CHUNK	8 /* at once: half of a 16550's queue, so that none is dropped in the device */
#define WAIT_MS 10000
#define REST_MS 10 /* each byte is an interrupt: the guest has other things to do */

static struct {
	int fd;
	_Atomic uint64_t sent, received, bad, max_ns;
} tty;

/* Neighbours differ, and so do bytes that are a queue's length apart. */
static uint8_t byte_of(uint64_t n)
{
	return (uint8_t)(n * 167 + (n >> 8) * 13);
}

/* What does not come is missing in the account: sent is more than received. */
static bool receive(uint64_t first, unsigned int count)
{
	uint8_t data[CHUNK * 2];
	unsigned int got = 0;
	struct pollfd p = {.fd = tty.fd, .events = POLLIN};

	while (got < count) {
		ssize_t n = poll(&p, 1, WAIT_MS) == 1 ? read(tty.fd, data, sizeof(data)) : 0;
		if (n <= 0) {
			console_line("FAIL what=tty_wait at=%llu of=%u",
				     (unsigned long long)first + got, count);
			return false;
		}
		for (ssize_t i = 0; i < n; i++, got++)
			if (got >= count || data[i] != byte_of(first + got))
				atomic_fetch_add(&tty.bad, 1);
		atomic_fetch_add(&tty.received, (uint64_t)n);
	}
	return true;
}

static void *tty_run(void *unused)
{
	const struct timespec rest = {0, REST_MS * 1000000};
	uint64_t n = 0;
	bool well = true;

	(void)unused;
	while (well) {
		uint8_t data[CHUNK];
		uint64_t start = clock_now_ns();

		for (unsigned int i = 0; i < CHUNK; i++)
			data[i] = byte_of(n + i);
		if (write(tty.fd, data, CHUNK) != CHUNK) {
			console_line("FAIL what=tty_write errno=%d", errno);
			break;
		}
		atomic_fetch_add(&tty.sent, CHUNK);
		well = receive(n, CHUNK);
		n += CHUNK;
		uint64_t spent = clock_now_ns() - start;
		if (spent > atomic_load(&tty.max_ns))
			atomic_store(&tty.max_ns, spent);
		nanosleep(&rest, NULL);
	}
	return NULL;
}

int tty_start(const char *path)
{
	struct termios t;
	pthread_t thread;
	int rc;

	tty.fd = open(path, O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (tty.fd < 0 || tcgetattr(tty.fd, &t)) {
		console_line("FAIL what=tty path=%s errno=%d", path, errno);
		return -EIO;
	}
	cfmakeraw(&t);
	t.c_cflag |= CLOCAL | CREAD;
	cfsetspeed(&t, B115200);
	if (tcsetattr(tty.fd, TCSANOW, &t)) {
		console_line("FAIL what=tty_settings errno=%d", errno);
		return -EIO;
	}
	rc = pthread_create(&thread, NULL, tty_run, NULL);
	return rc ? -rc : 0;
}

void tty_report(struct tty_stats *out)
{
	/* In this order: what is under way counts as sent, never as received only. */
	out->received = atomic_load(&tty.received);
	out->sent = atomic_load(&tty.sent);
	out->bad = atomic_load(&tty.bad);
	out->max_ns = atomic_load(&tty.max_ns);
}
