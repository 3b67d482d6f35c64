/* SPDX-License-Identifier: MIT */
/* A worker's side of its link to the parent (link.h). */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "cpr/handover/link.h"

struct error;
struct machine;

/* @sock: the socket to the parent, which is this process's parent now. */
void worker_link_init(const struct machine *m, int sock);

/* -1: there is no parent any more. */
int worker_link_socket(void);

/* To the parent; @fds stay the caller's. -ESRCH: there is none any more. */
int worker_send(enum link_kind kind, int64_t value, const char *text, const int *fds, unsigned nfds,
		struct error *err);

/* Sends a message that must arrive: the parent waits for it, and may kill this worker without it. */
void worker_tell(enum link_kind kind, int64_t value);

/* Gives the parent the log file, the level and the guest's name, so that its lines look like the worker's. */
void worker_tell_log(void);

/* Tells the parent, for as long as that takes, that this worker has the guest. */
void worker_owns(void);

/* The process id that the user knows: the parent's, while there is one. */
pid_t worker_known_pid(void);

/* LINK_PARTING and LINK_BACK have come. Between them this worker outlives its parent. */
void worker_parting(void);
void worker_back(void);
bool worker_is_parting(void);

/* The parent is lost: the guest runs on here. */
void worker_go_alone(const char *why);

/* When worker_link_keep() is due; 0: there is no such time. */
uint64_t worker_link_deadline(uint64_t now);
void worker_link_keep(uint64_t now);
