/* SPDX-License-Identifier: MIT */
/*
 * A new image alone, without a guest: the program under test, started as the old image starts it, on a copy
 * of a real update's state. It comes as far as its checks let it: to the state's, or, where that is
 * good, to the descriptors, which are missing. So every byte can be tried, at a millisecond each.
 */
#ifndef RUNNER_STATE_BYTES_H
#define RUNNER_STATE_BYTES_H

#include <sys/types.h>

struct session;

/* Takes from the new image of an update, which stands before its first call, how it was started, and its
 * state, which is its descriptor @fd. -1: session.error. */
int state_bytes_take(struct session *s, pid_t pid, int fd);

/* Each @step-th of its @len bytes changed, and the state cut off there: the image must end by itself, and say
 * that it is the state. */
int state_bytes_run(struct session *s, off_t len, off_t step);

#endif
