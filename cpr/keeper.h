/* SPDX-License-Identifier: MIT */
/*
 * The keeper: a child made with clone(CLONE_VM) that lives from the pause to the commit. As it shares
 * the old address space, exec does not tear that down, nor the old VM: both go when the keeper exits,
 * after the guest runs again (facts: "What the pause costs"). It runs on its own stack with raw system
 * calls only and touches no memory but that stack.
 */
#ifndef MOLT_KEEPER_H
#define MOLT_KEEPER_H

#include <sys/types.h>

struct error;
struct fdset;

struct keeper {
	pid_t pid;
	int wake_read;	/* the keeper's end */
	int wake_write; /* closing the last one lets the keeper go; kept over exec: "keeper-wake" */
	int self_pidfd; /* of this process: tells the keeper that it died */
	void *stack;
};

/* Makes the descriptors and the stack: guest still running. */
int keeper_prepare(struct keeper *k, struct fdset *fds, struct error *err);

/* Starts it. The descriptor table it copies must be final. */
int keeper_start(struct keeper *k, struct error *err);

/* The update is off, in the old program: lets it go, waits for it, and frees all. Also right when it
 * was prepared but not started. */
void keeper_cancel(struct keeper *k, struct fdset *fds);

/* The update is done, in the new program: lets it go. */
void keeper_release(struct fdset *fds);

/* Reaps ended children without waiting (SIGCHLD). */
void keeper_reap(void);

#endif
