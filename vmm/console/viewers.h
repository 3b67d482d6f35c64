/* SPDX-License-Identifier: MIT */
/* Who has attached to the console over the control socket (molt console): sees what the guest writes, and types. */
#pragma once

#include <stdint.h>
#include <stddef.h>

#define VIEWERS_MAX 4

struct console;

struct viewer {
	struct console *con;
	int fd; /* stream socket, non-blocking, "console-viewer:N" in the table of kept ones; -1: none */
	uint32_t events; /* watched now */
};

/* All: device lock held. */

/* Takes those whose descriptors are in the table, and forgets what was known before. */
void viewers_load(struct console *con);
/* Sends them what the guest has written. A client that does not keep up misses some of it. */
void viewers_write(struct console *con, const uint8_t *buf, size_t len);
/* Watches their input, where there is room for it. */
void viewers_watch(struct console *con);
