/* SPDX-License-Identifier: MIT */
/*
 * A guest that resets begins anew in the same worker process, which executes its own program again: nothing of the
 * machine goes over exec, so each boot is a first one. What belongs to the host side goes over it: the console with
 * what it holds, the control socket and its clients, report, log, the guest's options and counters. Parent and
 * supervisor see no difference.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct error;
struct machine;
struct program;

/* Is the machine, which has ended (m->stop_code), to begin anew? */
bool reboot_wanted(const struct machine *m);

/* Or is it to be kept as it is (--on-crash pause)? */
bool reboot_instead_kept(const struct machine *m);

/* Why a machine that has ended is not updated. Returns -ECANCELED. */
int reboot_explain(const struct machine *m, struct error *err);

/* How long to wait before the guest begins anew, in ns: boots that do not last are further and further apart. Counts
 * them: once for each reboot. */
uint64_t reboot_wait_ns(void);
/* The same after a boot that lasted @lasted_ns; @quick counts those in a row that did not last, from 0 on. */
uint64_t reboot_backoff_ns(uint32_t *quick, uint64_t lasted_ns);

/* Stops vCPUs, devices and the event loop, and executes the program. Returns on failure only: the run ends then.
 * @link: the socket to the parent. @asked: an update was, and waits for the new image. */
int reboot(struct machine *m, struct program *p, int link, bool asked, char **argv,
	   struct error *err);

/* In the new image: the program's state and the descriptors that @fd, a sealed blob, has; m->kept has the rest until
 * reboot_done(). The program's section is registered. @asked: as reboot() was told. */
int reboot_resume(struct machine *m, struct program *p, int fd, bool *asked, struct error *err);
void reboot_done(struct machine *m);
