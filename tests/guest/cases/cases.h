/* SPDX-License-Identifier: MIT */
/* The table of test cases. */
#ifndef RUNNER_CASES_H
#define RUNNER_CASES_H

#include <stdbool.h>

#define TEST_ARGS 20

struct session;

struct test_case {
	const char *name;
	const char *guest; /* file in the folder of guests */
	/* What the host does, from READY to the guest's end (drives.h). */
	int (*drive)(struct session *s, unsigned updates);
	unsigned cpus;
	unsigned updates;
	unsigned min_us, max_us;     /* random wait before each update, or inside it */
	const char *args[TEST_ARGS]; /* molt's; %T, %U: numbers of the trigger and unmask eventfds;
				   * %N: of a network interface's link;
				   * %D: the session's folder */
	const char *cmdline; /* the guest's, after cpus=, tsc_khz=, updates=, slow=; may be NULL */
	/* Why it cannot pass on a KVM without hardware virtualisation; NULL: it can. */
	const char *soft_kvm_note;
	unsigned long_updates; /* with --long; 0: as many as otherwise */
	bool shipped;  /* only as it is shipped, static: another C library makes other calls */
	bool user;     /* molt is an ordinary user's, in the group of /dev/kvm (session_user.h) */
	bool cgroup;   /* molt is put into a memory cgroup (cgroup.h) */
	bool svm;      /* only where KVM lets a guest have guests, by SVM */
	bool emulated; /* only on an emulated host, which is harmed */
	unsigned disk_mib; /* a file of zeroes, %D/disk, is there when molt starts */
	bool strict;	   /* only where direct I/O wants memory that is aligned (direct.h) */
	bool container;	   /* molt is process 1 of a pid namespace */
};

/* Ends a case that hangs; with --long, ten times as much. */
#define TEST_DEADLINE_S 300

extern const struct test_case test_cases[];
extern const unsigned test_cases_len;

#endif
