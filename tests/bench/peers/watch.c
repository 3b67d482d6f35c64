/* SPDX-License-Identifier: MIT */
/*
 * Looks at the guest's counter a thousand times a second. Lines of its file are
 *
 *   GAP from=US to=US own=US
 *   ALIVE at=US
 *
 * a gap is from the last look at which the counter had moved to the first at which it had again; own is the
 * longest time within it in which this program itself was not run: where that is most of the gap,
 * it was L1 that stood still. Alive is a guest that counts, twice a second.
 */
#include "peer.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#define LOOK_US	 1000
#define GAP_US	 3000
#define ALIVE_US 500000

static volatile sig_atomic_t ended;

static void end(int unused)
{
	(void)unused;
	ended = 1;
}

static void nap(unsigned int us)
{
	struct timespec ts = {us / 1000000, (long)(us % 1000000) * 1000};

	nanosleep(&ts, NULL);
}

static int watch(const volatile uint64_t *counter, int file)
{
	uint64_t moved = now_us(), looked = moved, told = moved, own = 0, count = *counter;

	while (!ended) {
		uint64_t now, seen;

		nap(LOOK_US);
		seen = *counter;
		now = now_us();
		if (now - looked > own)
			own = now - looked;
		looked = now;
		if (seen == count)
			continue;
		if (now - moved >= GAP_US &&
		    dprintf(file, "GAP from=%" PRIu64 " to=%" PRIu64 " own=%" PRIu64 "\n", moved,
			    now, own) < 0)
			return complain("write of a gap");
		if (now - told >= ALIVE_US) {
			told = now;
			if (dprintf(file, "ALIVE at=%" PRIu64 "\n", now) < 0)
				return complain("write of a sign of life");
		}
		count = seen;
		moved = now;
		own = 0;
	}
	return 0;
}

int watch_main(int argc, char **argv)
{
	struct sched_param first = {.sched_priority = 1};
	const volatile uint64_t *counter;
	int file;

	if (argc != 3)
		return 2;
	counter = counter_find(atoi(argv[1]));
	if (!counter)
		return 1;
	file = open(argv[2], O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
	if (file < 0)
		return complain("open %s", argv[2]);
	signal(SIGTERM, end);
	/* It looks when it is time, whatever else L1 has to do, and not some 50 us later. */
	sched_setscheduler(0, SCHED_FIFO, &first);
	prctl(PR_SET_TIMERSLACK, 1);
	return watch(counter, file);
}
