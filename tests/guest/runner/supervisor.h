/* SPDX-License-Identifier: MIT */
/* The supervisor that the runner plays for guests with --control: what is sent to $NOTIFY_SOCKET (sd_notify(3)). */
#ifndef RUNNER_SUPERVISOR_H
#define RUNNER_SUPERVISOR_H

#include <sys/types.h>

struct session;

/* The next message, which is waited for, must contain both, and come from process @pid. That the main process is
 * another one now must not be said unless @a asks for it. */
int supervisor_told(struct session *s, pid_t pid, const char *a, const char *b);

#endif
