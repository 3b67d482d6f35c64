/* SPDX-License-Identifier: MIT */
#include "cpr/pending.h"

#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/syscall.h>

#define STATUS_MAX 4096 /* of the keeper's stack */

int pending_open(void)
{
	return open("/proc/self/status", O_RDONLY | O_CLOEXEC);
}

/* The value of a line of hexadecimal digits. 0: there is no such line. */
RAW static uint64_t field(const char *text, const char *name)
{
	for (bool start = true; *text; start = *text++ == '\n') {
		unsigned n = 0;
		uint64_t value = 0;
		while (start && name[n] && text[n] == name[n])
			n++;
		if (name[n])
			continue;
		for (text += n; *text && *text != '\n'; text++)
			value = value << 4 |
				(uint64_t)(*text <= '9' ? *text - '0' : *text - 'a' + 10);
		return value;
	}
	return 0;
}

RAW void pending_inherit(int status_fd)
{
	static const int inherited[] = {SIGUSR1, SIGTERM, SIGINT, SIGHUP};
	char text[STATUS_MAX];
	long n = raw_syscall(SYS_pread64, status_fd, (long)text, sizeof(text) - 1, 0, 0);

	text[n > 0 ? n : 0] = 0;
	uint64_t pending = field(text, "ShdPnd:\t");
	long self = raw_syscall(SYS_getpid, 0, 0, 0, 0, 0);
	for (unsigned i = 0; i < sizeof(inherited) / sizeof(inherited[0]); i++)
		if (pending & 1ull << (inherited[i] - 1))
			raw_syscall(SYS_kill, self, inherited[i], 0, 0, 0);
}
