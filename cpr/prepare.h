/* SPDX-License-Identifier: MIT */
/* First step of an update, with the guest running: everything that can be checked. */
#ifndef MOLT_PREPARE_H
#define MOLT_PREPARE_H

#include <stdbool.h>

struct error;
struct machine;
struct program;
struct reasons;

/* Opens the program at @path for execution and checks the file: executable, for this architecture, and
 * (unless @insecure) in nobody else's hands. Returns the descriptor (close-on-exec) or -errno. */
int prepare_program(const char *path, bool insecure, struct error *err);

/* Can the guest be given to the program at @path? Opens and checks the file, asks every device, and then
 * the program itself (cpr/preflight.h). Returns the program's descriptor, which is kept as "successor": what
 * was checked is what runs. Or -errno with the first reason in @err, and all of them in @reasons. */
int prepare_check(struct machine *m, struct program *p, const char *path, struct reasons *reasons,
		  struct error *err);

/* Opens the program at @path, if it is a file that this host can run; unless @insecure it must also belong
 * to root or to the caller, and nobody else may write it. Returns its descriptor or -errno. */
int prepare_program(const char *path, bool insecure, struct error *err);

/* For the hand-over: opens @path for execution and checks it, and asks each device whether it can be kept. Returns the
 * descriptor, the caller's, or -errno with everything that speaks against it in @reasons. */
int prepare_update(struct machine *m, const char *path, struct reasons *reasons, struct error *err);

#endif
