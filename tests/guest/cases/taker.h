/* SPDX-License-Identifier: MIT */
/* `molt run --take` as a process of the test: a taker, and the takers that fail. For drives_take.c. */
#ifndef RUNNER_TAKER_H
#define RUNNER_TAKER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "tests/guest/runner/session.h"

#define TAKER_REFUSED 70	   /* exit status of who may not have the guest */
#define TAKER_END_MS  30000	   /* so long may a process take to end */
#define TAKER_GAP_NS  250000000ull /* 200 ms are the deadline in the pause */

/* Before the first one of a guest. */
void taker_begin(void);

/* Looks at the guest's clock. */
int taker_sample(struct session *s);

/* The longest time for which the guest has stood still since it was asked last. */
int taker_gap(struct session *s, uint64_t *ns);

/* Nothing that the supervisor was told until now counts. */
void taker_drain(struct session *s);

/* @namespaces: CLONE_NEW...; @stranger: as another user. */
pid_t taker_start(struct session *s, const char *program, int namespaces, bool stranger);

/* Waits for its end. Its exit status as a shell has it, or -1. */
int taker_end(struct session *s, pid_t taker);

/* The record says that @taker has the guest: who gave it away has ended well and said who has it, and @taker is as any
 * other parent. @elsewhere: in namespaces of its own. */
int taker_moved(struct session *s, pid_t taker, const char *program, bool elsewhere);

/* A whole one, from its start to what must be true afterwards. */
int taker_run(struct session *s, const char *program, bool elsewhere);

/* The same, and the guest stands still no longer than it may. */
int taker_run_seen(struct session *s, const char *program, bool elsewhere);

/* An update by signal, of the program that has taken the guest, in the same process. */
int taker_update(struct session *s);

/* Takers that fail at each of their points; at most @limit of them. */
int takers_faults(struct session *s, unsigned limit);

/* What happens to the taker's own parent: @sig at the point @fault; @reason: of the refusal, or NULL. */
int takers_parent_row(struct session *s, const char *fault, int sig, const char *reason);

/* A program that speaks another protocol is refused; a newer one that knows this one is not. */
int takers_protocol_rows(struct session *s);

/* Who comes second is told so. */
int takers_busy_rows(struct session *s);

/* Another user is refused, though the socket's mode lets it in. */
int takers_stranger_row(struct session *s);

/* A taker whose process id has no number where the guest is. */
int takers_unseen_rows(struct session *s);

#endif
