/* SPDX-License-Identifier: MIT */
/*
 * Programs that fail as an update: files that are no program, programs that are no molt, and a build of molt
 * ($MOLT_FAULTY, cpr/fault.h) that does each of some things at each point before commit.
 */
#ifndef RUNNER_FAILING_H
#define RUNNER_FAILING_H

#include <stdbool.h>

struct session;

#define FAILING_MAX 192

/* How the file comes about: a copy of another one, changed. */
enum failing_kind {
	FAILING_ABSENT,
	FAILING_EMPTY,
	FAILING_DIRECTORY,
	FAILING_TEXT,
	FAILING_SCRIPT,
	FAILING_MODE,
	FAILING_CLASS32,
	FAILING_AARCH64,
	FAILING_CUT,
	FAILING_OTHER,
	FAILING_FAULT,
};

struct failing {
	char name[32];
	enum failing_kind kind;
	char arg[32];	    /* _OTHER: program, _MODE: octal, _FAULT: cpr/fault.h */
	const char *reason; /* part of the record's; NULL: the update is done all the same */
	bool hangs;	    /* molt waits for it as long as it may, while the guest runs */
	bool paused;	    /* it comes to that while the guest stands still */
	bool orphan;	    /* it leaves a process behind that molt knows nothing of */
};

/* Fills in all there are; returns how many. */
unsigned failing_rows(struct failing rows[FAILING_MAX]);

/* Puts it where molt was started from. */
int failing_install(struct session *s, const struct failing *f);

/* Makes $MOLT_FAULTY do @action from now on; *path: that program. */
int failing_fault(struct session *s, const char *action, const char **path);

#endif
