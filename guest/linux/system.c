/* SPDX-License-Identifier: MIT */
/* What PID 1 owes the kernel: mounts, modules, the console, a clean end. */
#include "guest.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

void console_line(const char *fmt, ...)
{
	char buf[1024];
	va_list ap;
	int len;
	ssize_t done;

	va_start(ap, fmt);
	len = vsnprintf(buf, sizeof(buf) - 1, fmt, ap);
	va_end(ap);
	if (len < 0)
		return;
	if (len > (int)sizeof(buf) - 2)
		len = sizeof(buf) - 2;
	buf[len++] = '\n';
	/* One write, so that a kernel message cannot come between; the rest only if the console
	 * took a part. */
	for (int at = 0; at < len; at += (int)done) {
		done = write(STDOUT_FILENO, buf + at, (size_t)(len - at));
		if (done <= 0)
			return;
	}
}

void system_mount(void)
{
	mkdir("/proc", 0755);
	mkdir("/sys", 0755);
	mkdir("/dev", 0755);
	mount("proc", "/proc", "proc", 0, NULL);
	mount("sys", "/sys", "sysfs", 0, NULL);
	mount("dev", "/dev", "devtmpfs", 0, NULL);
}

void system_load_modules(void)
{
	char path[256];
	FILE *list = fopen("/modules.list", "re");

	if (!list)
		return;
	while (fgets(path, sizeof(path), list)) {
		int fd;

		path[strcspn(path, "\n")] = '\0';
		fd = open(path, O_RDONLY | O_CLOEXEC);
		if (fd < 0 || (syscall(SYS_finit_module, fd, "", 0) && errno != EEXIST))
			console_line("FAIL what=module path=%s errno=%d", path, errno);
		if (fd >= 0)
			close(fd);
	}
	fclose(list);
}

uint64_t system_irq_count(const char *name)
{
	char line[4096];
	uint64_t sum = 0;
	FILE *f = fopen("/proc/interrupts", "re");

	if (!f)
		return 0;
	while (fgets(line, sizeof(line), f)) {
		char *at = strchr(line, ':'), *end;

		if (!at || !strstr(line, name))
			continue;
		/* One column a CPU; the first word that is no number ends them. */
		for (at++;; at = end) {
			uint64_t n = strtoull(at, &end, 10);

			if (end == at || (*end != ' ' && *end != '\n'))
				break;
			sum += n;
		}
	}
	fclose(f);
	return sum;
}

uint64_t clock_now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

void system_end(int cmd)
{
	/* The console's last line must be out before the machine goes. */
	tcdrain(STDOUT_FILENO);
	sync();
	reboot(cmd);
	for (;;)
		pause();
}
