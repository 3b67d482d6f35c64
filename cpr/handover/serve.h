/* SPDX-License-Identifier: MIT */
/* What is done for those who ask over the control socket. On the leader. */
#pragma once

#include <stdbool.h>

struct machine;
struct program;

/* Serves one request, if there is one. Does not return from an update that works. True: the guest is to
 * be stopped, which is the caller's business (the answer was given). */
bool serve_request(struct machine *m, struct program *p);

/* Says in the log that updates would be refused because of the program's file. Devices: check_look(). */
void serve_warn(const struct machine *m, const struct program *p);
