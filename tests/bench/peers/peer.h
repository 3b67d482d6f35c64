/* SPDX-License-Identifier: MIT */
/*
 * peer: what `scripts/bench peers` and `io --bed` need in the bed's host (L1) to look at a guest from outside, to talk
 * to QEMU and to a guest. One static program of a few words; only the files in this folder include this. All times are
 * microseconds of L1's CLOCK_MONOTONIC.
 */
#ifndef BENCH_PEER_H
#define BENCH_PEER_H

#include <stdint.h>

/* Each returns the program's exit status: 0 done, 1 not (the reason is on stderr), 2 usage. */

/** watch PID FILE: until SIGTERM, appends to FILE a line for each time the guest stood still, and for its life. */
int watch_main(int argc, char **argv);
/** signal PID FILE: prints the time, sends SIGUSR1, and waits until FILE has more in it. */
int signal_main(int argc, char **argv);
/** qmp SOCKET COMMAND...: prints the time before the last command, and its answer. */
int qmp_main(int argc, char **argv);
/** memory PID: what memory_print() does. */
int memory_main(int argc, char **argv);
/** first TEXT COMMAND...: from start to TEXT on its output, and its memory at that moment. */
int first_main(int argc, char **argv);
/** stream PORT: serves guests' connections until it is killed. */
int stream_main(int argc, char **argv);

/** L1's CLOCK_MONOTONIC in us. */
uint64_t now_us(void);

/** The only child of a process (molt's worker), or 0. */
int only_child(int pid);

/** Prints "rss_kb=KB private_kb=KB guest_kb=KB" of a process and its only child: resident without guest memory, of
 * that what no other process maps, and guest memory. 0, or 1 after complaining. */
int memory_print(int pid);

/** Prints to stderr what went wrong, with errno's text if it is not 0; returns 1. */
int complain(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/**
 * The counter of the guest whose memory process @pid, or its only child, has in its largest memory file, mapped
 * read-only for the rest of this program's life: it stays valid when @pid is replaced. NULL after
 * complaining.
 */
const volatile uint64_t *counter_find(int pid);

#endif
