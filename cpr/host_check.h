/* SPDX-License-Identifier: MIT */
/* Can this host run such a guest? Said before anything is started, by the steps that a start takes itself. */
#pragma once

#include <stdbool.h>

struct machine;

/* `molt host-check`: gets all of main's arguments, returns the exit status. @m: initialised, and of no further use. */
int host_check_run(struct machine *m, int argc, char *argv[]);

/* The same for the guest that m->opt describes (molt run --dry-run). */
int host_check(struct machine *m, bool json);
