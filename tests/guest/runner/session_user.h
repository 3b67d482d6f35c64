/* SPDX-License-Identifier: MIT */
/*
 * molt as an ordinary user: no capability, no new privileges, one supplementary group, which owns
 * /dev/kvm. That is a node of its own in a mount namespace of its own: the host's stays as it is, and
 * this one can be closed to the user while molt runs.
 */
#ifndef RUNNER_SESSION_USER_H
#define RUNNER_SESSION_USER_H

#include <stdbool.h>

struct session;

/* Is this process allowed to do all that? */
bool session_user_possible(void);
/* May it make a pid namespace, as a container has? */
bool session_container_possible(void);
/* In a new mount namespace: nobody else sees its mounts. Where the root is no mount point, as in a chroot may be, it
 * cannot be made private: then it is the same tree once more, below /proc, which is a mount. @proc: and with a /proc
 * of its own. */
bool session_user_mounts(bool proc);
/* The session's folder and report become the user's. */
int session_user_give(struct session *s, const char *report);
/* In the child that is about to exec; ends it on failure. */
void session_user_become(const struct session *s);
/* From now on the user cannot open /dev/kvm. */
int session_user_close(struct session *s);
/* Removes what the others left in the session's folder. */
void session_user_end(const struct session *s);

#endif
