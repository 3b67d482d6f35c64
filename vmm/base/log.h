/* SPDX-License-Identifier: MIT */
/* The log: lines on stderr, "molt: text". Safe from every thread; one write per line. */
#pragma once

#include <stdbool.h>

struct error;

/* While the terminal is raw, lines end in CR LF (set by the console). */
void log_set_raw(bool raw);

/* A name put before each line ("molt[name]: "), at most 32 bytes; NULL takes it off. */
void log_set_name(const char *name);

void log_info(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void log_warn(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* From a signal handler: one line, at most about 500 bytes of it. */
void log_signal(const char *text);
void log_error(const struct error *err);

/* May a message that a guest can trigger be printed? @burst of each @counter; the last one says
 * so. */
bool log_guest_ok(unsigned *counter, unsigned burst);
