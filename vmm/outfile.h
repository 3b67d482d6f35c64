/* SPDX-License-Identifier: MIT */
/* Files to which lines are appended, --report and --log: descriptors "report" and "log", kept over updates, and opened
 * anew when they were rotated. By the leader. */
#pragma once

struct error;
struct machine;

/* Takes the descriptor @name, or opens @path for it; @path NULL: there is no such file, 0. Exit code of errors:
 * EXIT_CONFIG. */
int outfile_open(struct machine *m, const char *name, const char *path, struct error *err);

/* Opens @path again, and closes what had been open only then. */
int outfile_reopen(struct machine *m, const char *name, const char *path, struct error *err);

/* The log is this guest's from now on: name, level and file. */
int outfile_log(struct machine *m, struct error *err);
int outfile_log_reopen(struct machine *m, struct error *err);
