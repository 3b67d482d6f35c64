/* SPDX-License-Identifier: MIT */
/*
 * The keeper: a child made with clone(CLONE_VM) that lives from the pause to the commit, and is two
 * things.
 *
 * It keeps the old address space: as it shares it, exec does not tear it down, nor the old VM; both go
 * when the keeper exits, after the guest runs again (facts: "What the pause costs").
 *
 * It is the way back: it has its own copy of the kept descriptors, the blob and the old program. When
 * the new image ends, or does not commit in time, the keeper wins the word in the handover page, makes
 * sure that the image is gone, and becomes the old program, which restores from the same blob. A hung
 * image is first sent KEEPER_NUDGE, whose handler execs the old program under the same process id.
 *
 * It runs on its own stack with raw system calls only, reads memory of the old program, which nobody
 * changes any more, and writes only the handover page.
 */
#ifndef MOLT_KEEPER_H
#define MOLT_KEEPER_H

#include <signal.h>
#include <sys/types.h>

#include "cpr/program.h"

#define KEEPER_NUDGE SIGXCPU

struct error;
struct fdset;
struct handover;

struct keeper {
	pid_t pid;	     /* 0: not started */
	unsigned changes;    /* of the descriptor table when it was copied */
	int wake;	     /* eventfd "keeper-wake": written when the update has ended */
	int self_pidfd;	     /* of this process, which will be the new image */
	int status;	     /* pending.h: of the same, or -1 */
	int blob_fd, exe_fd; /* what the old program is execed with; the caller's */
	const struct fdset *fds;
	struct handover *page;
	struct program_image image;
	void *stack;
};

/* Makes descriptors and stack: guest still running. */
int keeper_prepare(struct keeper *k, struct fdset *fds, struct error *err);

/* Says what the old program is to be execed with, and where the word is; guest still running. */
int keeper_way_back(struct keeper *k, struct program *p, struct handover *page, int blob_fd,
		    int exe_fd, struct error *err);

/* Starts it, guest still running, device lock held: it copies the descriptors. */
int keeper_start(struct keeper *k, struct error *err);

/* The guest stands still. Starts it anew in the rare case that descriptors were added or closed
 * meanwhile (a driver that enabled its interrupts). */
int keeper_refresh(struct keeper *k, struct error *err);

/* The old program was too late, and the keeper has won the word: it ends this image, and this does not
 * return. But if the keeper is killed before it does, the guest is the old program's again. */
void keeper_outlive(struct keeper *k);

/* The update is off, in the old program, which has won the word or has not armed the keeper: ends it,
 * and frees all. Also right when it was not started or not prepared. */
void keeper_cancel(struct keeper *k, struct fdset *fds);

/* The update has ended, in the image that committed: lets it go. */
void keeper_release(struct fdset *fds);

/* Reaps ended children without waiting (SIGCHLD). Returns whether there was one. */
bool keeper_reap(void);

#endif
