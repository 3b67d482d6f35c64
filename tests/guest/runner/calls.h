/* SPDX-License-Identifier: MIT */
/*
 * What the pause is made of, exactly: the system calls of the incumbent from its kick of the vCPUs until it has been
 * told that the guest runs, then those of the successor from the state's arrival to KVM_RUN, by who makes them, with
 * their number. They are compared with a table in tests/guest/calls/, which scripts/calls writes.
 */
#ifndef RUNNER_CALLS_H
#define RUNNER_CALLS_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/syscall.h>

/* A call that molt has no use for: molt-counted makes it with each allocation. */
#define CALLS_MALLOC SYS_getpgid

#define CALLS_LINES 256
#define CALLS_NAME  120

struct inject;
struct session;

struct calls {
	struct {
		char name[CALLS_NAME]; /* "old leader ioctl KVM_GET_IRQCHIP" */
		unsigned n;
	} line[CALLS_LINES];
	unsigned lines, total;
};

/* The calls of the pause among those recorded. -1: there is no whole pause in it, or it is too long;
 * session.error says so. */
int calls_in_pause(struct calls *c, struct session *s, const struct inject *in);

/* How many calls have a name that ends in @end. */
unsigned calls_ending(const struct calls *c, const char *end);

/* Compares with the table @name of folder $MOLT_CALLS, and prints each line that differs; or, with
 * $MOLT_CALLS_WRITE, writes it where it does. -1: session.error says why. */
int calls_check(const struct calls *c, struct session *s, const char *name);

#endif
