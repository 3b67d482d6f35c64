/* SPDX-License-Identifier: MIT */
/*
 * What incumbent and successor share while an update is under way: one page in a memfd, with the word that
 * decides who has the guest, and the time stamps of the phases.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct error;

/* The word: from OPEN it is changed exactly once, by compare-and-swap; whoever loses never touches the guest again. */
enum handover_owner {
	HANDOVER_OPEN = 0,	/* the incumbent's, or undecided after STATE */
	HANDOVER_COMMITTED = 1, /* the successor's */
	HANDOVER_TAKEN = 2,	/* taken back by the incumbent */
};

/* Ends of phases, CLOCK_MONOTONIC ns. The table in report.c names them. The pause lies between PREPARE and RUN. */
enum handover_stamp {
	STAMP_REQUEST, /* SIGUSR1 taken */
	STAMP_CHECK,   /* the program file and the devices were checked */
	STAMP_HELLO,   /* the successor runs, and is a molt */
	STAMP_READY,   /* it has built everything */
	STAMP_PREPARE, /* event loop and control socket stand still, irqfds are off; the guest still runs */
	STAMP_PARK,    /* vCPUs parked; each saves itself from here on */
	STAMP_SAVE,    /* interrupt controllers and clock are read */
	STAMP_BLOB,    /* vCPUs saved; written, sealed */
	STAMP_HOLD,    /* --debug-hold */
	STAMP_STATE,   /* the successor has it */
	STAMP_DEVICES, /* devices are loaded */
	STAMP_LOAD,    /* vCPUs and interrupt controllers are */
	STAMP_COMMIT,  /* the word won */
	STAMP_RUN,     /* irqfds attached, vCPUs released */
	STAMP_COUNT,
};

/* What can wait does: for so long the guest, just running again, need not share its CPUs with it. */
#define HANDOVER_HEAD_START_MS 2
#define HANDOVER_REST_MS       1 /* between two pieces of it */

struct handover {
	uint32_t owner; /* enum handover_owner */
	uint32_t reserved;
	uint64_t stamps[STAMP_COUNT];
};

/* A new page, whose memfd is *fd, the caller's; and the one behind @fd, which must be a memfd of that size.
 * NULL on error. */
struct handover *handover_new(int *fd, struct error *err);
struct handover *handover_map(int fd, struct error *err);

/* Unmaps it; NULL: nothing. */
void handover_unmap(struct handover *h);

void handover_stamp(struct handover *h, enum handover_stamp which);

/* Sleeps: --debug-hold, and the guest's head start. 0: returns at once. */
void handover_hold(uint32_t ms);

enum handover_owner handover_owner(const struct handover *h);

/* OPEN -> @owner. False: the other side was faster. */
bool handover_decide(struct handover *h, enum handover_owner owner);
