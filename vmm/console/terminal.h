/* SPDX-License-Identifier: MIT */
/*
 * The terminal that molt was started on: raw mode, and back on every way out. One per process,
 * since a signal handler must find it. For the console only.
 */
#pragma once

#include "vmm/base/base.h"

/* sizeof(struct termios2) of asm-generic/termbits.h: the kernel's own structure, since the settings
 * may go to a program that was built with another C library. */
#define TERMINAL_STATE_LEN 44

/* Is @fd a terminal that this process may use: its controlling one and in the foreground, or not
 * the controlling one at all? Otherwise touching it would stop the process. */
bool terminal_usable(int fd);

/* Saves the settings of @fd in @saved, makes it raw (bytes go through as they are, in both
 * directions), and remembers it for terminal_restore, which fatal signals and exit() call too. */
int terminal_raw(int fd, uint8_t saved[TERMINAL_STATE_LEN], struct error *err);

/* @fd is raw already, from before the update: only remembers it. */
void terminal_adopt(int fd, const uint8_t saved[TERMINAL_STATE_LEN]);

/* Puts the remembered settings back, once. Any thread, and from signal handlers. */
void terminal_restore(void);
