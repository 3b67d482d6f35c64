/* SPDX-License-Identifier: MIT */
/* First step of an update, with the guest running: everything that can be checked or made ready. */
#ifndef MOLT_PREPARE_H
#define MOLT_PREPARE_H

struct error;
struct machine;

/* Opens the program at @path for execution and checks it: there, a file, executable, not writable by
 * everybody, for this architecture. Returns the descriptor (close-on-exec) or -errno with the reason. */
int prepare_program(const char *path, struct error *err);

/* Asks every device whether it can be updated now. */
int prepare_devices(struct machine *m, struct error *err);

#endif
