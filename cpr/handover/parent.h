/* SPDX-License-Identifier: MIT */
/*
 * The parent: the process whose id the user and the supervisor know. It starts workers, passes signals on to the one
 * that has the guest, and ends with its status; it has no guest, no /dev/kvm and no device. After an update it
 * execs itself into the new program: the same process, new code.
 */
#pragma once

struct role;

/* As whom this image was started: ROLE_PERSON, ROLE_PARENT or ROLE_REHEARSAL. Returns the exit status. */
int parent_run(int argc, char *argv[], const struct role *role);
