/* SPDX-License-Identifier: MIT */
/* `molt run --config FILE`: the options of molt run, one a line. */
#pragma once

#include <stdio.h>

#include "vmm/base/base.h"

/* Puts the options of each --config FILE in its place: what comes after it on the command line wins over it. The new
 * arguments live as long as the process; without such an option they stay as they are. A guest keeps what it was
 * started with: no update reads the file again. */
int config_file_expand(int *argc, char ***argv, struct error *err);

/* Is this argument a line of a FILE? */
bool config_file_gave(const char *word);

/* Puts FILE and line in front of @err if @word came from a file. Returns -errno of @err. */
int config_file_blame(const char *word, struct error *err);

/* Can a line of such a file give this text to an option? -EINVAL: it has a control character. */
int config_file_check(const char *name, const char *text, struct error *err);

/* One line. @text: NULL for an option without argument. */
void config_file_print(FILE *out, const char *name, const char *text);
