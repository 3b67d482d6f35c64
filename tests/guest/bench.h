/* SPDX-License-Identifier: MIT */
#ifndef RUNNER_BENCH_H
#define RUNNER_BENCH_H

#include <stdbool.h>

struct settings;

/* Runs gap-1 with 256 MiB; prints the pause that the guest saw and each phase of the records: median,
 * minimum and maximum over the updates. Returns the runner's exit code. */
int bench_pause(const struct settings *set, bool json);

#endif
