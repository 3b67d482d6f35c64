/* SPDX-License-Identifier: MIT */
/* The parent's children: what each is for, how it is started and ended, and what the one that has the guest is told. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "cpr/handover/link.h"
#include "cpr/handover/outbox.h"

struct error;

/* When the incumbent dies its successor may be committing: it gets this long to say so. A child that was killed gets
 * as long to end. */
#define HEIR_NS (5000 * NS_PER_MS)

/* Former workers may be ending while the next update begins. */
#define CHILDREN 8

enum child_role { CHILD_NONE, CHILD_OWNER, CHILD_SUCCESSOR, CHILD_FORMER, CHILD_REHEARSAL };

struct child {
	enum child_role role;
	pid_t pid;
	int pidfd; /* for the worker that asked for it; -1: it has the guest, or another image started it */
	int link;
	int exe; /* its program, or -1 */
	bool ended;
	int status;	      /* as waitpid gives it */
	bool ready;	      /* CHILD_REHEARSAL: has said so */
	bool stale;	      /* CHILD_REHEARSAL: of an image that is no longer the next */
	uint64_t deadline_ns; /* 0: none */
};

struct children {
	char **argv; /* of the parent, and of each child */
	struct child c[CHILDREN];
	struct outbox out; /* to the owner */
};

void children_init(struct children *all, char **argv);

/* The first one with that role, or NULL. CHILD_NONE: a free place. */
struct child *children_find(struct children *all, enum child_role role);

/* Is the worker that has the guest the only child? */
bool children_only_owner(struct children *all);

/* Is there a place for a successor, and one for a rehearsal? */
bool children_room(struct children *all);

/* @exe and @peer: the parent's, closed here. Returns the child or NULL. */
struct child *children_start(struct children *all, enum role_kind role, int exe, int peer,
			     struct error *err);

/* Kills the children whose deadline has passed. Returns the next deadline; UINT64_MAX: there is none. */
uint64_t children_deadlines(struct children *all, uint64_t now);

/* Kills and reaps all children: none outlives the parent. */
void children_end(struct children *all);

void child_kill(const struct child *c);

/* Frees its place. */
void child_forget(struct child *c);

/* Of one that has ended: its status as a shell has it. */
int child_exit_status(const struct child *c);

/* To the owner. What cannot be sent now waits in the outbox. */
void owner_tell_all(struct children *all, enum link_kind kind, int64_t value, const char *text,
		    int fd);
void owner_tell(struct children *all, enum link_kind kind, int value);
void owner_tell_again(struct children *all);
