/* SPDX-License-Identifier: MIT */
/* The log: lines on stderr ("molt: text"), or in a file, there with the time and the level. Safe from every thread; one
 * write per line. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct error;

enum log_level { LOG_LEVEL_ERROR, LOG_LEVEL_WARNING, LOG_LEVEL_INFO };

/* While the terminal is raw, lines end in CR LF (set by the console). */
void log_set_raw(bool raw);

/* A name put before each line ("molt[name]: "), at most 32 bytes; NULL takes it off. */
void log_set_name(const char *name);

/* Lines of a higher one are left out. */
void log_set_level(enum log_level most);

/* From now on lines go to @fd, which is duplicated; errors to stderr as well, and what @fd does not take. Threads that
 * are writing go on with the one before or this one. Returns 0 or -errno: nothing has changed. */
int log_set_file(int fd);
/* That duplicate, whose number stays the same, or -1. */
int log_file(void);

/* All three, as another process has them, which may be hostile: a @level that is none, or a @name that would not do
 * as one word, changes nothing. @name "": none, @fd -1: it stays. */
void log_adopt(const char *name, int64_t level, int fd);

/* A text that begins with a blank goes on with this thread's line before, and has its level. */
void log_info(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void log_warn(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* From a signal handler: one line of an error, at most about 500 bytes of it. */
void log_signal(const char *text);
void log_error(const struct error *err);

/* May a message that a guest can trigger be printed? @burst of each @counter; the last one says
 * so. */
bool log_guest_ok(unsigned *counter, unsigned burst);
