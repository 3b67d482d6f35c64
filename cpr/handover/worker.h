/* SPDX-License-Identifier: MIT */
/* The worker: the process that has, or is to have, the guest. */
#pragma once

struct machine;
struct program;
struct role;

/* As whom this image was started: ROLE_WORKER or ROLE_SUCCESSOR. Returns the exit status. */
int worker_run(struct machine *m, struct program *p, int argc, char *argv[],
	       const struct role *role);
