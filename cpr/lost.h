/* SPDX-License-Identifier: MIT */
/* The end of a guest that an update has lost: the old program failed as well, or the new one after it
 * had taken over. */
#ifndef MOLT_LOST_H
#define MOLT_LOST_H

struct blob;
struct error;
struct handover;
struct machine;

/* Writes the record, and with --keep-failed-state the blob, which holds what the guest kept secret: mode
 * 0600, and never through a link that somebody else put there. @times may be NULL. Extends @err by the
 * new program's failure, and by where the blob is; its exit code becomes EXIT_LOST. */
void lost_tell(struct machine *m, const struct blob *blob, const struct handover *times,
	       struct error *err);

#endif
