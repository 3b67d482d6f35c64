/* SPDX-License-Identifier: MIT */
/*
 * Fails single system calls of an update, from outside (ptrace): molt is the program that is shipped,
 * and knows nothing of it. A call has the same name in every run: the image and thread that make it,
 * the call with its request, and which of its kind there it is.
 */
#ifndef RUNNER_INJECT_H
#define RUNNER_INJECT_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define INJECT_MAX_CALLS 4096

struct session;

enum inject_image {
	IMAGE_NONE,
	IMAGE_OLD,    /* from SIGUSR1's arrival to exec, or to the wait for the next signal */
	IMAGE_NEW,    /* from exec to that wait */
	IMAGE_BACK,   /* execed by the new one: same process id */
	IMAGE_KEEPER, /* from its start to its end or exec */
	IMAGE_RESCUE, /* execed by the keeper */
};

/* vCPU threads count from when they are kicked to the old image's end, and from their start to their
 * first KVM_RUN; the event loop from its start to its first wait. What they do besides is no update. */
enum inject_role { ROLE_LEADER, ROLE_LOOP, ROLE_VCPU };

struct inject_call {
	enum inject_image image;
	enum inject_role role;
	unsigned cpu; /* ROLE_VCPU */
	int nr;
	unsigned long request; /* of ioctl, fcntl, futex; else 0 */
	unsigned n;	       /* how many like it came before */
	char file[32];	       /* what its descriptor is open on; "": none */
};

/* One thing that goes wrong. */
struct inject_shot {
	struct inject_call at;
	int error;    /* what the call returns; 0: SIGKILL comes instead */
	bool does_it; /* the call is done all the same (close) */
	bool hit;     /* it came to that */
};

struct inject {
	struct inject_shot shots[2];
	unsigned nshots;
	bool keeper;		 /* trace the keeper, and what it becomes */
	enum inject_image until; /* leave all of them alone once this one begins: NEW or KEEPER */
	bool recording;		 /* note what each call's descriptor is open on: takes time */
	bool early;		 /* record vCPUs before their kick too, but not KVM_RUN */

	/* Called once: with the old image's leader standing before exec, when all descriptors are final;
	 * or with the new one's at its very first call. May use inject_call_in. -1: failed. */
	int (*hook)(struct session *s, pid_t pid, void *opaque);
	enum inject_image hook_image;
	void *opaque;

	/* Result: */
	enum inject_image
		image;	 /* the one that waits for signals again; NONE: no traced one does */
	pid_t pid;	 /* its process */
	bool keeper_met; /* it was there, whether or not it came to a call */
	struct inject_call calls[INJECT_MAX_CALLS]; /* all that were made, in order */
	unsigned ncalls;
};

/* Asks for an update and follows it to its end. -1: session.error says why. */
int inject_update(struct session *s, struct inject *in);

/* What a call asks for: see struct inject_call. */
unsigned long inject_request_of(int nr, const uint64_t *args);

/* Waits for the next stop or end of a tracee, every other time @leader's first: one that makes calls
 * without pause would be all that is heard of. SIGCHLD is blocked. Its tid; 0: none in time. */
pid_t inject_next_stop(pid_t leader, int *status, uint64_t until);

/* Makes the process that the hook is called with do a system call of ours: its result or -errno. */
long inject_call_in(pid_t pid, long nr, long a, long b, long c);
/* Puts text into its memory, below its stack; returns the address. */
long inject_text_in(pid_t pid, const char *text);

/* "new vcpu0 ioctl KVM_SET_REGS #0", in a static buffer. */
const char *inject_call_name(const struct inject_call *c);

/* Says of each of @calls whether it is one that the update with the calls @base did not have: those of
 * each thread are compared in their order, without their numbers. -1: no memory. */
int inject_fresh(const struct inject_call *base, unsigned nbase, const struct inject_call *calls,
		 unsigned n, bool *fresh);

/* What can fail, and how. */
struct inject_kind {
	int nr;
	unsigned long request; /* 0: all that no row before this one names */
	const char *name;
	const int *errors; /* ends with 0; NULL: it is not failed at all, and this is why: */
	const char *excepted;
	bool does_it;	  /* see struct inject_shot */
	unsigned images;  /* bits; 0: in all */
	const char *file; /* only calls on it; see struct inject_call */
};

/* NULL: a call that nobody has thought of yet; the test then fails. */
const struct inject_kind *inject_kind_of(const struct inject_call *c);

/* "ENOMEM"; and whether a text tells of that error, in the words of either C library. */
const char *inject_error_name(int error);
bool inject_error_in(int error, const char *text);

#endif
