/* SPDX-License-Identifier: MIT */
/* The input of fuzz_wire.c: one byte of flags, then operations; for it and for the seeds. */
#ifndef MOLT_FUZZ_WIRE_H
#define MOLT_FUZZ_WIRE_H

/* Flags. */
#define WIRE_TO_SUCCESSOR 1
#define WIRE_CHECK	  2 /* the rest: of an incumbent */
#define WIRE_MANY	  4 /* more descriptors than a message holds */
#define WIRE_UNKNOWN	  8 /* the parent has not said who the successor is */

/* An operation; WIRE_SAY: then kind, shape, descriptors, and what those ask for. */
enum { WIRE_SAY, WIRE_RAW, WIRE_STEP, WIRE_WORD, WIRE_LATE, WIRE_HANG_UP, WIRE_OPS };

#define WIRE_KINDS 14

/* Shape: of the text, and of the value, which is otherwise the kind's own. */
enum { WIRE_TEXT_ITS, WIRE_TEXT_RAW, WIRE_TEXT_LONG, WIRE_TEXT_EDIT };
#define WIRE_VALUE_EDGE 4
#define WIRE_VALUE_RAW	8

/* Descriptors: how many, or the kind's own. */
enum { WIRE_FDS_ITS = 4, WIRE_FDS_CHOICES };

#endif
