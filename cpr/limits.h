/* SPDX-License-Identifier: MIT */
/*
 * Limits of this process that its next image would not fit into. They can be lowered at any time, and they
 * hold for the old program on its way back as well: so they are looked at before anything is paused.
 */
#ifndef MOLT_LIMITS_H
#define MOLT_LIMITS_H

struct error;
struct ram;

/* 0, or -ENOMEM with the limit, its value and what is needed. @ram: guest memory as it is mapped now. */
int limits_check(const struct ram *ram, struct error *err);

#endif
