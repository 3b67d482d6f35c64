/* SPDX-License-Identifier: MIT */
/* Warming (vmm/warm.h) as a part of the hand-over: on a thread of its own, while the incumbent is told how far it
 * is. */
#pragma once

struct error;
struct machine;

/* Fills the page tables of the VM within the budget (--warm-budget). That not all of it is warm is no failure; an error
 * means that the VM must not be used, or that the incumbent, at the other end of @peer, is gone. */
int warm_machine(struct machine *m, int peer, struct error *err);
