/* SPDX-License-Identifier: MIT */
/*
 * A guest that resets begins anew in the same worker process, which executes its own program again: nothing of the
 * machine goes over exec, so each boot is a first one. What belongs to the host side goes over it: the console with what
 * it holds, the control socket and its clients, report, log, the guest's options and counters. Parent and supervisor
 * see no difference.
 */
#pragma once

#include <stdbool.h>

struct error;
struct machine;
struct program;

/* Is the machine, which has ended (m->stop_code), to begin anew? */
bool reboot_wanted(const struct machine *m);

/* Stops vCPUs, devices and the event loop, and executes the program. Returns on failure only: the run ends then. @link: the
 * socket to the parent. */
int reboot(struct machine *m, struct program *p, int link, char **argv, struct error *err);

/* In the new image: the program's state and the descriptors that @fd, a sealed blob, has; m->kept has the rest until
 * reboot_done(). The program's section is registered. */
int reboot_resume(struct machine *m, struct program *p, int fd, struct error *err);
void reboot_done(struct machine *m);
