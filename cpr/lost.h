/* SPDX-License-Identifier: MIT */
/* The end of a guest that an update has lost: the old program failed as well, or the new one after it
 * had taken over. */
#ifndef MOLT_LOST_H
#define MOLT_LOST_H

#include "cpr/program.h"

struct blob;
struct error;
struct handover;
struct machine;

/* Writes the record, and with --keep-failed-state the blob, which holds what the guest kept secret: mode
 * 0600, and never through a link that somebody else put there. @times may be NULL. Extends @err by the
 * new program's failure, and by where the blob is; its exit code becomes EXIT_LOST. */
void lost_tell(struct machine *m, const struct blob *blob, const struct handover *times,
	       struct error *err);

/* Where that image (PROGRAM_AGAIN) is the last that could have the guest: until it has, a crash of it is told
 * the same way and ends the process with EXIT_LOST. @blob and *@times are looked at then. Else nothing. */
void lost_watch(enum program_mode mode, struct machine *m, const struct blob *blob,
		struct handover *const *times);

#endif
