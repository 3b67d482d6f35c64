/* SPDX-License-Identifier: MIT */
/* The worker: the process that has, or is to have, the guest. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "cpr/handover/link.h"

struct error;
struct machine;
struct program;

/* As whom this image was started: ROLE_WORKER or ROLE_SUCCESSOR. Returns the exit status. */
int worker_run(struct machine *m, struct program *p, int argc, char *argv[],
	       const struct role *role);

/* To the parent; @fds stay the caller's. -ESRCH: there is none any more. */
int worker_send(enum link_kind kind, int64_t value, const char *text, const int *fds, unsigned nfds,
		struct error *err);

/* Tells the parent, for as long as that takes, that this worker has the guest. */
void worker_owns(void);

/* The process id that the user knows: the parent's, while there is one. */
pid_t worker_known_pid(void);

/* Registers the program's own state. */
int worker_register(struct machine *m, struct program *p, struct error *err);
