/* SPDX-License-Identifier: MIT */
/* How a guest is: for people and their tools (molt status), and for a monitoring system (molt metrics). */
#pragma once

#include <stdint.h>

struct machine;
struct program;

/* Both answer whoever has asked the control socket last. */
void status_answer(struct machine *m, const struct program *p);
void metrics_answer(struct machine *m, const struct program *p);

uint64_t status_uptime_s(const struct program *p);
