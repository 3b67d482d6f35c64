/* SPDX-License-Identifier: MIT */
/* What a program image takes over as a process: descriptors, arguments, handover page. */
#ifndef MOLT_ADOPT_H
#define MOLT_ADOPT_H

struct error;
struct handover;
struct machine;
struct program;
struct program_incoming;
struct state_blob;

/* Registers the program's own node with the machine; before machine_build in both branches. Fresh:
 * opens its executable for the way back. */
int program_register(struct machine *m, struct program *p, struct error *err);

/* Loads that node and parses the arguments in it into m->opt. */
int adopt_program(struct machine *m, struct program *p, struct state_blob *state,
		  struct error *err);

/* Loads the program's node, which was registered last, and parses the arguments in it. */
int adopt_options(struct machine *m, struct program *p, struct state_blob *state,
		  struct error *err);

/* Adopts the descriptors listed in @state into m->fds, parses the arguments into m->opt, maps the
 * page. A failure means that blob or descriptors are bad. */
int adopt_process(struct machine *m, struct program *p, const struct program_incoming *in,
		  struct state_blob *state, struct handover **page, struct error *err);

#endif
