/* SPDX-License-Identifier: MIT */
/* What follows the pause in the successor. */
#pragma once

struct machine;
struct report;

/* The guest runs: starts what serves it, tells the incumbent (@peer, which is closed) and the parent, and reports. */
void finish(struct machine *m, int peer, struct report *report);
