/* SPDX-License-Identifier: MIT */
/*
 * The program as it was started: path and arguments. They travel in the blob (node "program"), since
 * an update runs the file that is at that path when the update is asked for.
 */
#ifndef MOLT_PROGRAM_H
#define MOLT_PROGRAM_H

#include <stdbool.h>
#include <stdint.h>

#include "cpr/fields.h"

#define PROGRAM_PATH_LEN 4096
#define PROGRAM_ARGS_LEN 65536
#define PROGRAM_MAX_ARGS 1024

struct program {
	char path[PROGRAM_PATH_LEN]; /* absolute, symbolic links kept */
	uint32_t args_len;
	uint32_t updates;	     /* updates this guest has seen */
	char args[PROGRAM_ARGS_LEN]; /* argv, each with its NUL */
};

extern const struct state_class program_state_class;

struct error;

/* Environment variable by which exec tells the new program the blob's descriptor. */
#define PROGRAM_ENV "MOLT_UPDATE"

/* Was this program started by an update? Then its blob's descriptor, and the variable is gone. -1:
 * no; -2: the variable is there but names no descriptor. */
int program_incoming(void);

/* Executes the program open at @exe_fd with the arguments in @p, telling it @blob_fd. Descriptors are
 * as the caller left them. Returns only on failure: -errno, environment as before. */
int program_exec(struct program *p, int exe_fd, int blob_fd, struct error *err);

/* From main's argv: the path is the one exec was given (AT_EXECFN), made absolute with the present
 * working directory. */
int program_init(struct program *p, int argc, char *const argv[], struct error *err);

/* Points @argv (PROGRAM_MAX_ARGS + 1 entries) into p->args, ends it with NULL; returns argc or
 * -EBADMSG. */
int program_argv(struct program *p, char *argv[], struct error *err);

#endif
