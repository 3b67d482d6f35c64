/* SPDX-License-Identifier: MIT */
/*
 * The update, for main. The orchestration half of cpr/ (update, prepare, blob, keeper, handover,
 * report, program) may include everything but main.
 */
#ifndef MOLT_UPDATE_H
#define MOLT_UPDATE_H

#include <stdbool.h>

struct error;
struct machine;
struct program;

/* Registers the program's own node; before machine_build in both branches. */
int update_init(struct machine *m, struct program *p, struct error *err);

/* Old program, on the leader: replaces this program by the one at its path now. Returns only if that
 * could not be done: the guest runs on, the reason was reported. */
void update_run(struct machine *m, struct program *p);

/* New program: takes the guest over from blob descriptor @fd and lets it run. m->opt is filled from
 * the blob. On failure the guest has not been touched since exec; *committed says whether it is
 * already ours alone. */
int update_resume(struct machine *m, struct program *p, int fd, bool *committed, struct error *err);

#endif
