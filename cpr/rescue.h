/* SPDX-License-Identifier: MIT */
/*
 * The way back from inside the new image, before commit: it execs the old program, which restores from
 * the same blob under the same process id. Used when a step fails (rescue_now) and when the image
 * crashes or is nudged by the keeper (signal handlers on an alternate stack, installed first thing).
 * Close-on-exec is clear on everything kept until commit, so exec is all it takes.
 */
#ifndef MOLT_RESCUE_H
#define MOLT_RESCUE_H

#include "cpr/program.h"

struct handover;

/* Catches crashes from here on: in the new program of an update; and in the old one that the keeper
 * has brought back, which tries once more, since nobody else is left who could. */
void rescue_arm(const struct program_incoming *in, char **argv);

/* In that one's second try, which has no way back: @tell is called for a crash, and does not return. */
void rescue_arm_last(void (*tell)(int sig));

/* Where to note the reason and to see whether it was committed; NULL before it is mapped. */
void rescue_set_page(struct handover *page);

/* No way back from here on: this image is about to commit, or has the guest. A crash is an ordinary crash
 * again, and a nudge does nothing. Before the word is won, or another thread could go back from a guest
 * that runs: does not return when one is on its way already. A crash in between leads to the keeper. */
void rescue_disarm(void);

/* Execs the old program; returns only when that fails, or when there is no way back by exec (not
 * armed). */
void rescue_now(const char *reason);

#endif
