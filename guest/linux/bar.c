/* SPDX-License-Identifier: MIT */
/* A BAR that is memory: written and read back in each of its eighths, and how long that took. */
#include "guest.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define PLACES	 8
#define PAGE_LEN 4096

static volatile uint64_t *places[PLACES];
static uint64_t round_no;

static bool map(const char *path)
{
	int fd = open(path, O_RDWR | O_CLOEXEC);
	struct stat st;
	bool well = fd >= 0 && !fstat(fd, &st);

	for (int i = 0; well && i < PLACES; i++) {
		places[i] = mmap(NULL, PAGE_LEN, PROT_READ | PROT_WRITE, MAP_SHARED, fd,
				 st.st_size / PLACES * i);
		well = places[i] != MAP_FAILED;
	}
	if (!well)
		console_line("FAIL what=bar path=%s errno=%d", path, errno);
	if (fd >= 0)
		close(fd);
	return well;
}

void bar_touch(char *path)
{
	uint64_t first_ns = 0, start = clock_now_ns();
	unsigned int bad = 0;

	if (!places[0] && !map(path ? path : ""))
		return;
	start = clock_now_ns();
	for (unsigned int i = 0; i < PLACES; i++) {
		if (round_no && *places[i] != round_no * PLACES + i)
			bad++;
		*places[i] = (round_no + 1) * PLACES + i;
		if (!i)
			first_ns = clock_now_ns() - start;
	}
	round_no++;
	console_line("BAR round=%" PRIu64 " bad=%u first_us=%" PRIu64 " all_us=%" PRIu64, round_no,
		     bad, first_ns / 1000, (clock_now_ns() - start) / 1000);
}
