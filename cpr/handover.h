/* SPDX-License-Identifier: MIT */
/*
 * What old program, new program and keeper share while an update is under way: one page in a memfd,
 * with the word that decides who owns the guest, and the time stamps of the phases.
 */
#ifndef MOLT_HANDOVER_H
#define MOLT_HANDOVER_H

#include <stdbool.h>
#include <stdint.h>

struct error;
struct fdset;

/* The word: from OPEN it is changed exactly once, by compare-and-swap; whoever loses never touches
 * the guest again. */
enum handover_owner {
	HANDOVER_OPEN = 0,	/* old program's, or undecided after exec */
	HANDOVER_COMMITTED = 1, /* new program's */
	HANDOVER_TAKEN = 2,	/* taken back by the keeper */
};

/* Ends of phases, CLOCK_MONOTONIC ns. The table in report.c names them. */
enum handover_stamp {
	STAMP_REQUEST,	 /* SIGUSR1 taken */
	STAMP_PREFLIGHT, /* everything checked, the new program said yes; the guest still runs */
	STAMP_PREPARE,	 /* handover and keeper are ready; the guest still runs */
	STAMP_PAUSE,	 /* vCPUs parked, irqfds off; each saves itself from here on */
	STAMP_DETACH,	 /* interrupt controllers and clock read, DMA addresses invalid */
	STAMP_BLOB,	 /* vCPUs saved; written, sealed, read back */
	STAMP_HOLD,	 /* --debug-hold */
	STAMP_EXEC,	 /* new program's main */
	STAMP_ADOPT,	 /* blob parsed, descriptors checked */
	STAMP_BUILD,	 /* memory, VM, devices, irqchip, vCPUs */
	STAMP_DMA,	 /* DMA addresses given anew, routes set, while the vCPUs load */
	STAMP_LOAD,	 /* vCPU and VM state set */
	STAMP_COMMIT,	 /* the word won */
	STAMP_RUN,	 /* irqfds attached, vCPUs released */
	/* Of the hand-over between two living processes: */
	STAMP_HELLO, /* the successor runs, and is a molt */
	STAMP_READY, /* it has built everything */
	STAMP_STATE, /* it has the state */
	STAMP_MOVED, /* DMA addresses are the successor's */
	STAMP_COUNT,
};

#define HANDOVER_REASON_LEN 512

/* What can wait does: for so long the guest, just running again, need not share its CPUs with it. */
#define HANDOVER_HEAD_START_MS 2

struct handover {
	uint32_t owner; /* enum handover_owner */
	uint32_t
		armed; /* 1 from the moment the blob is whole: the keeper may bring the guest back */
	uint64_t deadline_ns; /* commit by then; whoever is execed sets it anew */
	uint64_t timeout_ns;
	uint64_t stamps[STAMP_COUNT];
	char reason[HANDOVER_REASON_LEN]; /* why the update failed; "" while it has not */
};

/* The same page for two living processes: a new one, whose memfd is *fd, the caller's; and the one behind @fd,
 * which must be a memfd of that size. NULL on error. */
struct handover *handover_new(int *fd, struct error *err);
struct handover *handover_map(int fd, struct error *err);

/* Creates the page and keeps its memfd in @fds as "handover"; @timeout_ms: from exec to commit. NULL
 * on error. */
struct handover *handover_create(struct fdset *fds, uint32_t timeout_ms, struct error *err);

/* Maps the page that @fds adopted; refuses one of another size. */
struct handover *handover_adopt(struct fdset *fds, struct error *err);

/* Unmaps it (NULL: nothing) and closes the memfd. */
void handover_close(struct handover *h, struct fdset *fds);

void handover_stamp(struct handover *h, enum handover_stamp which);

/* From here on the keeper brings the old program back if nobody commits within the page's timeout. */
void handover_arm(struct handover *h);

/* Sleeps: --debug-hold, and the guest's head start. 0: returns at once. */
void handover_hold(uint32_t ms);

/* Notes why the update failed; the first one stays. Async-signal-safe. */
void handover_blame(struct handover *h, const char *reason);

enum handover_owner handover_owner(const struct handover *h);

/* OPEN -> @owner. False: the other side was faster. */
bool handover_decide(struct handover *h, enum handover_owner owner);

#endif
