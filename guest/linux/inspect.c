/* SPDX-License-Identifier: MIT */
/* What a script may ask for while the guest runs: registers of a device, messages of the kernel. */
#include "guest.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAP_LEN 0x20000ul

static int kmsg = -1;

void inspect_start(void)
{
	kmsg = open("/dev/kmsg", O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (kmsg >= 0)
		lseek(kmsg, 0, SEEK_END);
}

/* A record is "level,number,time,flags;text\nmore" (Documentation/ABI/testing/dev-kmsg). */
void inspect_kernel_messages(char *unused)
{
	char record[1024];
	ssize_t len;

	(void)unused;
	for (;;) {
		char *text;

		len = read(kmsg, record, sizeof(record) - 1);
		if (len < 0 && errno == EPIPE) {
			console_line("KMSG messages were overwritten before they were read");
			continue;
		}
		if (len <= 0)
			break;
		record[len] = '\0';
		text = strchr(record, ';');
		if (!text)
			continue;
		text++;
		text[strcspn(text, "\n")] = '\0';
		console_line("KMSG <%d> %s", atoi(record) & 7, text);
	}
	console_line("KMSG_END");
}

void inspect_file(char *path)
{
	char line[256] = "";
	FILE *f = fopen(path ? path : "", "re");

	if (!f || !fgets(line, sizeof(line), f))
		console_line("FAIL what=read path=%s errno=%d", path ? path : "", errno);
	line[strcspn(line, "\n")] = '\0';
	console_line("READ %s", line);
	if (f)
		fclose(f);
}

void inspect_write(char *words)
{
	const char *path = words ? strsep(&words, " ") : "";
	size_t len = words ? strlen(words) : 0;
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	bool wrote = fd >= 0 && len && write(fd, words, len) == (ssize_t)len;

	console_line("WROTE %d", wrote ? 0 : errno);
	if (fd >= 0)
		close(fd);
}

void inspect_irqs(char *name)
{
	console_line("IRQS %llu", (unsigned long long)system_irq_count(name ? name : ""));
}

/* PCI Power Management 1.2, 3.2: PMCSR is 4 bytes into the capability. */
#define CAP_POINTER 0x34
#define CAP_PM	    1
#define PMCSR_STATE 3

void inspect_dstate(char *words)
{
	const char *path = words ? strsep(&words, " ") : "";
	int fd = open(path, O_RDWR | O_CLOEXEC), error = ENODEV;
	uint8_t at = CAP_POINTER, cap[2] = {0, 0};
	uint16_t pmcsr;
	bool found = fd >= 0 && pread(fd, &at, 1, at) == 1;

	for (int i = 0; found && cap[0] != CAP_PM && i < 48; i++) {
		at = i ? cap[1] : at;
		found = at && pread(fd, cap, sizeof(cap), at) == sizeof(cap);
	}
	if (found && cap[0] == CAP_PM && pread(fd, &pmcsr, 2, at + 4) == 2) {
		uint16_t want = (uint16_t)((pmcsr & ~PMCSR_STATE) | atoi(words ? words : ""));

		error = EIO;
		if (pwrite(fd, &want, 2, at + 4) == 2 && pread(fd, &pmcsr, 2, at + 4) == 2 &&
		    (pmcsr & PMCSR_STATE) == (want & PMCSR_STATE))
			error = 0;
	}
	console_line("WROTE %d", error);
	if (fd >= 0)
		close(fd);
}

void inspect_registers(char *words)
{
	const char *path = words ? strsep(&words, " ") : "", *word;
	char answer[512];
	int len = 0, fd = open(path, O_RDONLY | O_CLOEXEC);
	volatile const uint32_t *regs = MAP_FAILED;
	struct stat st;
	size_t size = 0;

	if (fd >= 0 && !fstat(fd, &st)) {
		size = (size_t)st.st_size < MAP_LEN ? (size_t)st.st_size : MAP_LEN;
		regs = mmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0);
	}
	if (regs == MAP_FAILED) {
		console_line("FAIL what=regs path=%s errno=%d", path, errno);
		goto out;
	}
	answer[0] = '\0';
	while (words && (word = strsep(&words, " ")) && len < (int)sizeof(answer) - 32) {
		unsigned long at = strtoul(word, NULL, 16);

		if (at % 4 == 0 && at < size)
			len += snprintf(answer + len, sizeof(answer) - (size_t)len, " %lx=%08x", at,
					regs[at / 4]);
	}
	console_line("REGS%s", answer);
	munmap((void *)(uintptr_t)regs, size);
out:
	if (fd >= 0)
		close(fd);
}
