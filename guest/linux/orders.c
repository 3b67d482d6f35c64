/* SPDX-License-Identifier: MIT */
/* How the guest is told to end: a word on the console, or the power button. */
#include "guest.h"

#include <fcntl.h>
#include <linux/input.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static int input_fds[ORDER_FDS_MAX];
static int input_count;

/* Starts with the console, whose fd is stdin. */
int orders_open(void)
{
	input_fds[0] = STDIN_FILENO;
	input_count = 1;
	fcntl(STDIN_FILENO, F_SETFL, fcntl(STDIN_FILENO, F_GETFL) | O_NONBLOCK);
	for (int i = 0; i < 16 && input_count < ORDER_FDS_MAX; i++) {
		char path[32];
		int fd;

		snprintf(path, sizeof(path), "/dev/input/event%d", i);
		fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
		if (fd >= 0)
			input_fds[input_count++] = fd;
	}
	return input_count;
}

int orders_fds(int fds[ORDER_FDS_MAX])
{
	memcpy(fds, input_fds, sizeof(input_fds));
	return input_count;
}

static const struct {
	const char *word;
	enum order order;
	void (*answer)(char *rest);
} known[] = {
	{"stop", ORDER_STOP, NULL},
	{"reboot", ORDER_REBOOT, NULL},
	{"panic", ORDER_PANIC, NULL},
	{"read", ORDER_NONE, inspect_file},
	{"write", ORDER_NONE, inspect_write},
	{"dstate", ORDER_NONE, inspect_dstate},
	{"regs", ORDER_NONE, inspect_registers},
	{"irqs", ORDER_NONE, inspect_irqs},
	{"kmsg", ORDER_NONE, inspect_kernel_messages},
	{"load_disk", ORDER_NONE, load_disk},
	{"load_stream", ORDER_NONE, load_stream},
	{"use", ORDER_NONE, memory_use},
	{"bar", ORDER_NONE, bar_touch},
};

static enum order line_obey(char *line)
{
	char *rest = line;
	const char *word = strsep(&rest, " ");

	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
		if (strcmp(word, known[i].word))
			continue;
		if (known[i].answer)
			known[i].answer(rest);
		return known[i].order;
	}
	if (word[0])
		console_line("FAIL what=order word=%s", word);
	return ORDER_NONE;
}

static enum order console_read(void)
{
	static char line[256];
	static size_t len;
	enum order order = ORDER_NONE;
	char c;

	while (order == ORDER_NONE && read(STDIN_FILENO, &c, 1) == 1) {
		if (c != '\n' && c != '\r') {
			if (len < sizeof(line) - 1)
				line[len++] = c;
			continue;
		}
		line[len] = '\0';
		len = 0;
		order = line_obey(line);
	}
	return order;
}

enum order orders_read(int fd)
{
	struct input_event ev;

	if (fd == STDIN_FILENO)
		return console_read();
	while (read(fd, &ev, sizeof(ev)) == sizeof(ev))
		if (ev.type == EV_KEY && ev.code == KEY_POWER && ev.value == 1)
			return ORDER_STOP;
	return ORDER_NONE;
}
