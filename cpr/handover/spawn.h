/* SPDX-License-Identifier: MIT */
/* Starting a program as a child of the parent. */
#pragma once

#include <sys/types.h>

#include "cpr/handover/link.h"

struct error;

/* Starts @exe (an executable opened for reading) with @argv and this process's environment, as @role: role->link
 * and role->peer are handed over, and so is what this process has without close-on-exec. The child is
 * killed when this process ends. *pidfd: the caller's. Returns its process id or -errno. */
pid_t spawn(int exe, char **argv, const struct role *role, int *pidfd, struct error *err);

/* The environment with the variable of @role in front, in memory of its own (free it), or NULL. @text: of
 * ROLE_ENV_LEN bytes, and as long-lived. */
char **spawn_environment(char *text, const struct role *role);
