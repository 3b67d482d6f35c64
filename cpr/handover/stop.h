/* SPDX-License-Identifier: MIT */
/* SIGTERM, SIGINT and a terminal that hangs up press the guest's power button; a second signal ends it at once. */
#pragma once

#include <stdint.h>

struct machine;

struct stopping {
	int sig;	      /* 0: not asked yet */
	uint64_t deadline_ns; /* CLOCK_MONOTONIC; then the guest is ended */
};

/* @by: who asks, for the log. */
void stop_ask(struct machine *m, struct stopping *stop, int sig, const char *by);
void stop_on_signal(struct machine *m, struct stopping *stop, int sig);
