/* SPDX-License-Identifier: MIT */
/*
 * A page of guest memory that counts while the guest runs, for whoever can see that memory from
 * outside: the guest's own clocks do not tell a pause in which they stand still too.
 */
#ifndef GUEST_LINUX_COUNTER_H
#define GUEST_LINUX_COUNTER_H

#include <stdint.h>

#define COUNTER_MAGIC 0x6d6f6c74636e7472ull

/** One page, aligned to its size. All others in the guest's memory lack one of the two words. */
struct counter_page {
	uint64_t magic;	  /* COUNTER_MAGIC */
	uint64_t inverse; /* ~magic; made at run time, so that no copy of the program has it */
	uint64_t count;	  /* goes up all the time */
};

/** Starts the thread that counts; it takes what time the others leave. 0 or an errno. */
int counter_start(void);

#endif
