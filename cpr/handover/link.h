/* SPDX-License-Identifier: MIT */
/*
 * What parent and worker say to each other (messages of wire.h), and how a program image learns which of the two
 * it is. The parent of one version has workers of another, so nothing here ever changes its meaning: kinds are
 * added, and a kind that is not known is ignored.
 */
#pragma once

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct error;

enum link_kind {
	/* worker to parent */
	LINK_START =
		1, /* start a successor: descriptors of the program and of the new worker's peer socket; value: a
		    * number that no other request has, 0 from older workers */
	LINK_OWNER,  /* this worker has the guest from now on */
	LINK_NOTIFY, /* text for the supervisor (sd_notify(3)) */
	LINK_TAKEN,  /* value: signal; what it stands for is being done */
	LINK_PARTED, /* answer to LINK_PARTING: the worker outlives its parent for now */
	/* parent to worker */
	LINK_STARTED, /* value: process id or -errno; descriptor: its pidfd */
	LINK_SIGNAL,  /* value: one of link_signals(), or LINK_HANGUP */
	LINK_PARTING, /* the parent is about to exec its new program */
	LINK_BACK,    /* and here it is */
	/* the parent's next image, as a child in its rehearsal */
	LINK_READY,
	/* worker to parent */
	LINK_LOG, /* of the parent's log lines; value: level; text: the guest's name; descriptor: the file, if any */
	/* parent to worker, ahead of LINK_STARTED; older parents do not say it */
	LINK_ANSWERS, /* value: the number of the LINK_START that is answered */
};

/* A SIGHUP that says that the terminal is gone. No signal has this number. */
#define LINK_HANGUP 256

/* A worker that has given the guest away ends with it: the parent's status is then the new owner's. */
#define LINK_STATUS_HANDED 99

enum role_kind {
	ROLE_PERSON,	/* started by somebody: becomes a parent */
	ROLE_PARENT,	/* a parent that has execed itself */
	ROLE_REHEARSAL, /* a parent's next image, tried */
	ROLE_WORKER,	/* the first worker: makes the guest */
	ROLE_SUCCESSOR, /* a worker that is to take the guest */
	ROLE_CONFUSED,	/* the variable makes no sense */
};

struct role {
	enum role_kind kind;
	int link; /* socket to the parent; of ROLE_PARENT: to the worker */
	int peer; /* ROLE_SUCCESSOR: socket to the worker that has the guest; ROLE_WORKER: what the boot before has
		       * left (reboot.h), or -1 */
	pid_t worker; /* ROLE_PARENT */
};

#define ROLE_ENV     "MOLT_ROLE"
#define ROLE_ENV_LEN 64

/* The signals that are served: all that would end a process, but for those of a crash. A process that dies of one
 * would leave the terminal raw. */
void link_signals(sigset_t *set);

/* How this image was started; the variable is gone afterwards, and the descriptors are close-on-exec. */
struct role role_incoming(void);

/* "MOLT_ROLE=...": @text of ROLE_ENV_LEN bytes. */
void role_format(char *text, const struct role *role);
