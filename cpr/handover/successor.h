/* SPDX-License-Identifier: MIT */
/* The other side of an update (incumbent.h): the worker that is to have the guest. */
#pragma once

struct error;
struct machine;
struct program;

/* Takes the guest from the worker at the other end of @peer, which is closed: 0, the guest runs in this
 * process. Otherwise it has not been touched, the other side has been told why, and this process shall end. */
int successor_run(struct machine *m, struct program *p, int peer, struct error *err);
