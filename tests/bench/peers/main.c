/* SPDX-License-Identifier: MIT */
#include "peer.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#define LOOK_NS 20000000
#define WAIT_US 120000000

uint64_t now_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000u + (uint64_t)ts.tv_nsec / 1000;
}

int complain(const char *fmt, ...)
{
	int error = errno;
	va_list ap;

	fputs("peer: ", stderr);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fprintf(stderr, "%s%s\n", error ? ": " : "", error ? strerror(error) : "");
	return 1;
}

static off_t file_len(const char *path)
{
	struct stat st;

	return stat(path, &st) ? 0 : st.st_size;
}

int signal_main(int argc, char **argv)
{
	struct timespec nap = {0, LOOK_NS};
	uint64_t start = now_us();

	if (argc != 3)
		return 2;
	off_t before = file_len(argv[2]);
	printf("%llu\n", (unsigned long long)start);
	fflush(stdout);
	if (kill(atoi(argv[1]), SIGUSR1))
		return complain("signal to %s", argv[1]);
	while (file_len(argv[2]) <= before) {
		errno = 0;
		if (now_us() - start > WAIT_US)
			return complain("nothing new in %s", argv[2]);
		nanosleep(&nap, NULL);
	}
	return 0;
}

static const struct {
	const char *word, *usage;
	int (*main)(int argc, char **argv);
} words[] = {
	{"watch", "PID FILE", watch_main},
	{"signal", "PID FILE", signal_main},
	{"qmp", "[-u TEXT] SOCKET COMMAND...", qmp_main},
	{"memory", "PID", memory_main},
	{"first", "TEXT COMMAND...", first_main},
	{"stream", "PORT", stream_main},
};

int main(int argc, char **argv)
{
	size_t count = sizeof(words) / sizeof(words[0]);
	int status = 2;

	for (size_t i = 0; i < count && argc > 1; i++)
		if (!strcmp(argv[1], words[i].word))
			status = words[i].main(argc - 1, argv + 1);
	if (status == 2)
		for (size_t i = 0; i < count; i++)
			fprintf(stderr, "usage: peer %s %s\n", words[i].word, words[i].usage);
	return status;
}
