/* SPDX-License-Identifier: MIT */
/* First step of an update, with the guest running: everything that can be checked. */
#ifndef MOLT_PREPARE_H
#define MOLT_PREPARE_H

struct error;
struct machine;
struct program;
struct reasons;

/* Can the guest be given to the program at @path? Opens and checks the file, asks every device, and then
 * the program itself (cpr/preflight.h). Returns the program's descriptor, which is kept as "successor": what
 * was checked is what runs. Or -errno with the first reason in @err, and all of them in @reasons. */
int prepare_check(struct machine *m, struct program *p, const char *path, struct reasons *reasons,
		  struct error *err);

#endif
