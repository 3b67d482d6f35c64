/* SPDX-License-Identifier: MIT */
/* Signals that the parent has passed on and no worker has said to be serving: a new owner of the guest gets them
 * again. */
#pragma once

#include "vmm/base/base.h"

#define PENDING_MAX 8

struct pending {
	int sig[PENDING_MAX];
	unsigned n;
};

/* Returns whether the signal is to be passed on: SIGUSR1 during an update is one more update after it, however often it
 * came. */
bool pending_add(struct pending *p, int sig);

/* A worker serves it. */
void pending_taken(struct pending *p, int sig);
