/* SPDX-License-Identifier: MIT */
/*
 * packets-in FILE FIRST COUNT: how many of these numbered packets lie in a file, such as the memory
 * of a guest that stands still, /proc/PID/fd/N; prints found=N.
 */
#include <endian.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "packet.h"

#define CHUNK (1u << 20)
#define EDGE  64 /* before and after a chunk: a packet may lie across */
#define STEP  16 /* a run of PACKET_MARK_LEN bytes has a whole word at some multiple of it */

static uint8_t buf[EDGE + CHUNK + EDGE];
static uint8_t *seen;
static uint64_t first, count, found;

static void packet_at(const uint8_t *mark)
{
	struct packet p;
	uint64_t seq;

	memcpy(&p, mark - offsetof(struct packet, mark), sizeof(p));
	seq = be64toh(p.seq);
	for (size_t i = 0; i < PACKET_MARK_LEN; i++)
		if (p.mark[i] != PACKET_MARK)
			return;
	if (memcmp(p.head, PACKET_HEAD, sizeof(p.head)) ||
	    memcmp(p.end, PACKET_HEAD, sizeof(p.end)) || seq < first || seq - first >= count ||
	    seen[seq - first])
		return;
	seen[seq - first] = 1;
	found++;
}

/* The chunk lies between two edges. */
static void search(size_t len)
{
	static const uint64_t marks = PACKET_MARK * 0x0101010101010101ull;

	for (size_t at = EDGE; at < EDGE + len; at += STEP) {
		const uint8_t *start = buf + at;

		if (memcmp(start, &marks, sizeof(marks)))
			continue;
		for (int back = 0; back < STEP && start[-1] == PACKET_MARK; back++)
			start--;
		packet_at(start);
	}
}

int main(int argc, char **argv)
{
	int fd = argc == 4 ? open(argv[1], O_RDONLY | O_CLOEXEC) : -1;
	ssize_t n;

	if (fd < 0) {
		fprintf(stderr, "usage: packets-in FILE FIRST COUNT\n");
		return 2;
	}
	first = strtoull(argv[2], NULL, 10);
	count = strtoull(argv[3], NULL, 10);
	seen = calloc(count, 1);
	if (!seen)
		return 1;
	for (off_t at = 0;; at += CHUNK) {
		memset(buf, 0, sizeof(buf));
		n = at ? pread(fd, buf, sizeof(buf), at - EDGE)
		       : pread(fd, buf + EDGE, sizeof(buf) - EDGE, 0);
		if (n <= (at ? EDGE : 0))
			break;
		search(CHUNK);
	}
	printf("found=%llu\n", (unsigned long long)found);
	return n < 0;
}
