/* SPDX-License-Identifier: MIT */
/* `molt run --config FILE`: the options of molt run, one a line. */
#pragma once

#include "vmm/base/base.h"

/* Puts the options of each --config FILE in its place: what comes after it on the command line wins over it. The new
 * arguments live as long as the process; without such an option they stay as they are. A guest keeps what it was started
 * with: no update reads the file again. */
int config_file_expand(int *argc, char ***argv, struct error *err);
