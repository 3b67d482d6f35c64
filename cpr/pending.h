/* SPDX-License-Identifier: MIT */
/*
 * Signals that wait for an image of an update outlive its exec, but not its end: who takes the guest
 * over then, under another process id, is sent them again.
 */
#ifndef MOLT_PENDING_H
#define MOLT_PENDING_H

#include "cpr/raw.h"

/* Opens what pending_inherit reads of this process once it is a zombie. Returns a close-on-exec descriptor,
 * the caller's; -1 where there is no /proc: then such signals are lost. */
int pending_open(void);

/* Sends this process what the ended one had not taken yet of the leader's signals (SIGUSR1, SIGTERM, SIGINT,
 * SIGHUP; blocked here). Nothing once its parent has reaped it. Source: proc_pid_status(5), ShdPnd. */
RAW void pending_inherit(int status_fd);

#endif
