/* SPDX-License-Identifier: MIT */
#ifndef MOLT_TEST_BENCH_H
#define MOLT_TEST_BENCH_H

#include <stdbool.h>

struct settings;

/* Makes the updates (100 unless @set says) and prints the pause as the guest saw it, by phase, and that
 * of the program @floor (NULL: without). Returns the exit status. */
int bench_pause(const struct settings *set, const char *floor, bool json);

#endif
