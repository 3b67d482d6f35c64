/* SPDX-License-Identifier: MIT */
/*
 * What the worker that has the guest (the incumbent) and the one that is to have it (the successor) say to
 * each other. In this order:
 *
 *   HELLO      successor: it is a molt, of this version; no descriptor leaves the incumbent before
 *   OFFER      incumbent: a state taken without pausing, memory for the real one, the page with the word
 *   FDS, GOT   incumbent: descriptors under their names, one batch after the other is acknowledged
 *   BUILD      incumbent: that was all; the successor builds the machine and loads the offered state to try it
 *   PROGRESS   successor: how far it is
 *   READY, NO  successor: everything is there; or why not, one reason per line
 *   FDS, STATE incumbent, in the pause: what was opened meanwhile, and the state
 *   DONE       successor: it has committed (page.h) and the guest runs
 *
 * A release understands the protocol of the two releases before it and is understood by them (CHANGELOG.md).
 */
#pragma once

#include <stdint.h>

#include "cpr/state/fdset.h"

#ifndef PROTOCOL_NEWEST /* tests/skew has builds of other versions */
#define PROTOCOL_OLDEST 1
#define PROTOCOL_NEWEST 1
#endif

enum protocol_kind {
	PROTOCOL_HELLO = 1, /* text: "molt-handover OLDEST NEWEST\nVERSION\nBUILD\n" */
	PROTOCOL_OFFER, /* descriptors: offered state, state to come, page; value: protocol in use */
	PROTOCOL_FDS,	/* text: struct protocol_fd for each descriptor */
	PROTOCOL_GOT,
	PROTOCOL_BUILD,
	PROTOCOL_PROGRESS, /* text: what; value: percent */
	PROTOCOL_READY,	   /* value: ns that loading the offered state took */
	PROTOCOL_NO,	   /* text: reasons */
	PROTOCOL_STATE,	   /* value: bytes of state */
	PROTOCOL_DONE,
};

/* On the wire. */
struct protocol_fd {
	char name[FDSET_NAME_LEN];
	uint64_t generation;
};
