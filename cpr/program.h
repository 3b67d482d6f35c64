/* SPDX-License-Identifier: MIT */
/* The program as it was started: its path and arguments, which travel in the blob. An update runs the file that is
 * at this path by then; after an update to another file the path is that file's. */
#pragma once

#include "cpr/state/fields.h"
#include "vmm/sched.h"

#define PROGRAM_PATH_LEN 4096
#define PROGRAM_ARGS_LEN 65536
#define PROGRAM_MAX_ARGS 1024

struct program {
	char path[PROGRAM_PATH_LEN];   /* absolute, symbolic links kept */
	char folder[PROGRAM_PATH_LEN]; /* in which the guest was started, "": not known */
	uint32_t args_len;
	uint32_t updates;	     /* updates this guest has seen */
	uint64_t reboots;	     /* how often it has begun anew */
	uint64_t started_s;	     /* CLOCK_BOOTTIME when the guest was started, 0: not known */
	char args[PROGRAM_ARGS_LEN]; /* argv, each with its NUL */
	struct thread_sched sched;   /* of the leader; new threads inherit it */
};

extern const struct state_class program_state_class;

/* The path that exec was given (AT_EXECFN, or @argv0), made absolute with the present working directory. */
int program_path(char path[PROGRAM_PATH_LEN], const char *argv0, struct error *err);

/* Goes to p->folder, so that relative paths among the options mean the same in each process that has the guest.
 * Where that cannot be it says so, and the process stays where it is. */
void program_go_to_folder(const struct program *p);

/* A worker is execed by a descriptor: its parent, who knows the path, leaves it in this variable. */
#define PROGRAM_PATH_ENV "MOLT_PROGRAM"

/* From main's argv, and the variable or program_path(). */
int program_init(struct program *p, int argc, char *const argv[], struct error *err);

/* Points @argv (PROGRAM_MAX_ARGS + 1 entries) into p->args. Returns argc or -EBADMSG. */
int program_argv(struct program *p, char *argv[], struct error *err);

/* The options that the guest was started with; they point into @p. */
struct options;
int program_options(struct program *p, struct options *opt, struct error *err);
