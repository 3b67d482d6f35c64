/* SPDX-License-Identifier: MIT */
/* The terminal that molt was started on. One per process, since a signal handler must find it. */
#pragma once

#include "vmm/base/base.h"

/* sizeof(struct termios2): the kernel's own structure, as the next program may have another C
 * library. */
#define TERMINAL_STATE_LEN 44

/* May this process touch @fd: its controlling terminal and in the foreground, or another? */
bool terminal_usable(int fd);

/* Saves the settings of @fd, makes it raw, and remembers it for terminal_restore: exit() and fatal
 * signals call it. */
int terminal_raw(int fd, uint8_t saved[TERMINAL_STATE_LEN], struct error *err);

/* @fd is raw already, from before the update: only remembers it. */
void terminal_adopt(int fd, const uint8_t saved[TERMINAL_STATE_LEN]);

/* Puts the remembered settings back, once. Any thread, and from signal handlers. */
void terminal_restore(void);
