/* SPDX-License-Identifier: MIT */
/*
 * Fails single system calls of an update, from outside (ptrace): molt is the program that is shipped,
 * and knows nothing of it. All its processes are followed. A call has the same name in every run: the image and
 * thread that make it, the call with its request, and which of its kind there it is.
 */
#ifndef RUNNER_INJECT_H
#define RUNNER_INJECT_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define INJECT_MAX_CALLS 8192

struct session;

/* An update's, from when it is asked for until parent and worker wait for nothing but the next one. */
enum inject_image {
	IMAGE_NONE,
	IMAGE_OLD,    /* the worker that has the guest when the update is asked for */
	IMAGE_PARENT, /* the process that the user knows, until it execs */
	IMAGE_CHILD,  /* its children between clone and exec */
	IMAGE_NEW,    /* the successor, from exec on */
	IMAGE_TRIAL,  /* the rehearsal of the parent's next image, from exec on */
	IMAGE_NEXT,   /* the parent, from exec on */
	IMAGES,
};

/* vCPU threads count from when they are kicked to when the guest runs again, and from their start to their first
 * KVM_RUN for the guest; the event loop, and a disk's threads, from their start to their first wait or request. What
 * they do besides is no update. */
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
	bool recording; /* note what each call's descriptor is open on: takes time */
	bool early;	/* record vCPUs before their kick too, but not KVM_RUN */
	/* The process was just started and is stopped: all calls are recorded, of its first child as IMAGE_OLD and
	 * its second as IMAGE_NEW, until all have ended; no signal asks for an update. */
	bool fresh;

	/* Called with each call that counts before it is made, its thread @tid standing there. May use
	 * inject_call_in and change the thread's memory. 1: that was enough, all of them are left alone from
	 * here on; -1: failed. */
	int (*hook)(struct session *s, const struct inject_call *c, pid_t tid, const uint64_t *args,
		    void *opaque);
	void *opaque;

	/* Result: */
	enum inject_image image; /* that has the guest: OLD or NEW; NONE: no traced one does */
	pid_t pid;		 /* its process */
	bool paused;		 /* the vCPUs were kicked */
	bool alone;		 /* the parent is gone */
	bool renewed;		 /* the parent has execed */
	struct inject_call calls[INJECT_MAX_CALLS]; /* all that were made, in order */
	unsigned ncalls;
};

/* Asks for an update and follows it to its end. -1: session.error says why. */
int inject_update(struct session *s, struct inject *in);

/* The worker of a session at rest, which is its only child. 0: there is none, or more. */
pid_t inject_worker(pid_t parent);

/* Makes the process that the hook is called with do a system call of ours: its result or -errno. */
long inject_call_in(pid_t pid, long nr, long a, long b, long c);
/* Puts text into its memory, below its stack; returns the address. */
long inject_text_in(pid_t pid, const char *text);
/* Its memory. -1: not all of it is there. */
int inject_read(pid_t pid, uint64_t at, void *to, size_t len);
int inject_write(pid_t pid, uint64_t at, const void *from, size_t len);

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

/* ---- between inject.c and inject_who.c ---- */

#define INJECT_PROCESSES 8

struct inject_process {
	pid_t pid;
	enum inject_image image;
	unsigned threads;     /* that its leader has started in this image */
	bool idle;	      /* its leader is about to wait, without a time limit, for: */
	uint64_t poll, npoll; /* struct pollfd, in its memory */
};

/* What a process has become by exec: IMAGE_NEW or IMAGE_TRIAL. */
enum inject_image inject_image_of(pid_t pid);
/* The role of a thread, by its name. */
enum inject_role inject_role_of(pid_t pid, pid_t tid, unsigned *cpu);
pid_t inject_tgid_of(pid_t tid);
/* Whether nothing is there that its leader waits for. */
bool inject_quiet(const struct inject_process *p);

#endif
