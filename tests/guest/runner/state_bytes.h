/* SPDX-License-Identifier: MIT */
/*
 * A successor alone, without a guest: the program under test, started as the parent starts it, that is offered a copy
 * of a real update's state by the runner. It comes as far as its checks let it: to the state's, or, where that is
 * good, to the descriptors, which it does not get. So every byte can be tried, at a millisecond each.
 */
#ifndef RUNNER_STATE_BYTES_H
#define RUNNER_STATE_BYTES_H

#include <sys/types.h>

struct session;

/* Takes from the successor of an update how it was started; and the state that it is offered, descriptor @fd of
 * process @pid. -1: session.error. */
int state_bytes_take_words(struct session *s, pid_t pid);
int state_bytes_take_state(struct session *s, pid_t pid, int fd);

/* Each @step-th of its @len bytes changed, and the state cut off there: the successor must say no, and that it is the
 * state. */
int state_bytes_run(struct session *s, off_t len, off_t step);

#endif
