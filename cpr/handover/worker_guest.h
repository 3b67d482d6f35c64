/* SPDX-License-Identifier: MIT */
/* How the first worker gets its guest. */
#pragma once

#include <stdbool.h>

struct error;
struct machine;
struct program;

/* Makes the guest, or takes it over (`--take`). 0: it runs. @kept: what the boot before this one has left, or -1;
 * *@again is set where an update was asked for between the two boots. */
int worker_make_guest(struct machine *m, struct program *p, int argc, char *argv[], int kept,
		      bool *again, struct error *err);

/* Registers the program's own state. */
int worker_register(struct machine *m, struct program *p, struct error *err);
