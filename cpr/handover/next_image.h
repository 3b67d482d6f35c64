/* SPDX-License-Identifier: MIT */
/*
 * How the parent becomes the new program after an update: the same process, new code. That image has never run as a
 * parent, so it is rehearsed first as a child. Then the worker is told to outlive its parent (LINK_PARTING), and when
 * it has answered the parent executes the image.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct child;
struct children;

struct next_image {
	int exe;	     /* its program, or -1: there is none */
	bool rehearsed;	     /* it has passed its rehearsal */
	uint64_t parting_ns; /* waiting for LINK_PARTED since; 0: not */
};

/* @exe: the program of the worker that has the guest from now on; taken. */
void next_image_set(struct next_image *next, struct children *all, int exe);

/* Takes one more step, if none is under way. @signals: some wait to be served; no worker is told to part then. */
void next_image_go_on(struct next_image *next, struct children *all, bool signals);

void next_image_rehearsed(struct next_image *next, const struct child *c);

/* LINK_PARTED has come: executes the image, unless it is not asked for any more, or something else has begun (@busy).
 * Returns only then, and on failure. */
void next_image_become(struct next_image *next, struct children *all, bool busy);

/* Gives up at the deadline for LINK_PARTED. Returns that deadline; UINT64_MAX: there is none. */
uint64_t next_image_deadline(struct next_image *next, struct children *all, uint64_t now);
