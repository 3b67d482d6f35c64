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
	uint64_t started_s;	     /* CLOCK_BOOTTIME when the guest was started, 0: not known */
	char args[PROGRAM_ARGS_LEN]; /* argv, each with its NUL */
};

extern const struct state_class program_state_class;

struct error;
struct fdset;

/* Environment variable by which exec tells the next program image what it is to take over. */
#define PROGRAM_ENV "MOLT_UPDATE"

enum program_mode {
	PROGRAM_FRESH,	   /* started by a person: no variable */
	PROGRAM_NEW,	   /* the new program of an update */
	PROGRAM_BACK,	   /* the old program again, execed by the new one, which failed */
	PROGRAM_RESCUE,	   /* the old program again, execed by the keeper: another process id */
	PROGRAM_PREFLIGHT, /* a new program, only asked whether it could (cpr/preflight.h) */
	PROGRAM_AGAIN,	   /* the one the keeper execed failed, and execed itself once more */
	PROGRAM_CONFUSED,  /* the variable is there but makes no sense */
};

/* The image that the keeper execed, or that one's second try: nobody else is left. */
static inline bool program_from_keeper(enum program_mode mode)
{
	return mode == PROGRAM_RESCUE || mode == PROGRAM_AGAIN;
}

struct program_incoming {
	enum program_mode mode;
	int blob_fd;
	int sig; /* PROGRAM_BACK: the signal that the new program crashed by, 0: it failed politely */
	int old_fd; /* executable of the program that the guest ran under before the update;
		       PROGRAM_PREFLIGHT: where the answer goes */
};

/* How this image was started; the variable is gone afterwards. */
struct program_incoming program_incoming(void);

/* argv and environment for the next image, in memory of their own, so that a crash handler or the keeper
 * can exec with them. */
struct program_image {
	char **argv, **envp;
	char variable[64];
};

/* With the arguments in @p, until program_image_free. */
int program_image_init(struct program_image *img, struct program *p,
		       const struct program_incoming *next, struct error *err);
void program_image_free(struct program_image *img);

/* With main's @argv, for the rest of this image's life. */
int program_image_back(struct program_image *img, char **argv, const struct program_incoming *next);

/* The executable of this very program, open for the way back: descriptor "program" of @fds. */
int program_open_self(struct fdset *fds, struct error *err);

/* The update has ended as @mode says: one of the two executables ("program", "successor") is this
 * program's and stays as "program"; the other is closed. Counts the update if it was one. */
void program_settle(struct program *p, struct fdset *fds, enum program_mode mode);

/* The path that exec was given (AT_EXECFN, or @argv0), made absolute with the present working directory. */
int program_path(char path[PROGRAM_PATH_LEN], const char *argv0, struct error *err);

/* A worker is execed by a descriptor: its parent, who knows the path, leaves it in this variable. */
#define PROGRAM_PATH_ENV "MOLT_PROGRAM"

/* From main's argv, and the variable or program_path(). */
int program_init(struct program *p, int argc, char *const argv[], struct error *err);

/* Points @argv (PROGRAM_MAX_ARGS + 1 entries) into p->args, ends it with NULL; returns argc or
 * -EBADMSG. */
int program_argv(struct program *p, char *argv[], struct error *err);

#endif
