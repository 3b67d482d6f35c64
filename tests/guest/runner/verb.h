/* SPDX-License-Identifier: MIT */
/* molt's verbs as a user runs them: a child of its own, its output and exit status. */
#ifndef RUNNER_VERB_H
#define RUNNER_VERB_H

#include <stddef.h>
#include <sys/types.h>

#define VERB_OUTPUT 16384

struct session;

struct verb {
	pid_t pid;
	int out;		/* its stdout and stderr */
	char text[VERB_OUTPUT]; /* all of it so far, as far as there is room */
	size_t len, seen;	/* of these, returned as lines */
};

/* Runs `molt WORD TARGET [MORE]...`; @target NULL: the session's socket. @more ends with NULL. */
int verb_start(struct session *s, struct verb *v, const char *word, const char *target,
	       const char *const more[]);
/* The next line of its output, NULL at its end. */
const char *verb_line(struct verb *v);
/* Waits for its end and returns its exit status. */
int verb_end(struct verb *v);

/* All three, and fails unless it exits with @status and says @part. */
int verb_run(struct session *s, struct verb *v, int status, const char *part, const char *word,
	     const char *const more[]);

#endif
