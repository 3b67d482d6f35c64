/* SPDX-License-Identifier: MIT */
/* How many requests a block device does, with so many always in flight, past the page cache. */
#include "guest.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#define MAX_DEPTH 64
#define ALIGN	  4096
#define MAX_BLOCK (4u << 20)

struct disk_load {
	int fd;
	bool write, random;
	unsigned int block, depth;
	uint64_t blocks, next, done; /* of the device; to ask for; that have come back */
	aio_context_t aio;
	struct iocb iocb[MAX_DEPTH];
};

static uint64_t next_block(struct disk_load *l)
{
	uint64_t seq = l->next++;

	if (l->random) {
		/* SplitMix64: each number's bits are mixed. */
		seq *= 0x9e3779b97f4a7c15u;
		seq = (seq ^ seq >> 30) * 0xbf58476d1ce4e5b9u;
		seq = (seq ^ seq >> 27) * 0x94d049bb133111ebu;
		seq ^= seq >> 31;
	}
	return seq % l->blocks;
}

static int submit(struct disk_load *l, struct iocb **list, long n)
{
	for (long i = 0; i < n; i++)
		list[i]->aio_offset = (int64_t)(next_block(l) * l->block);
	while (n > 0) {
		long taken = syscall(SYS_io_submit, l->aio, n, list);

		if (taken <= 0)
			return taken ? -errno : -EAGAIN;
		list += taken;
		n -= taken;
	}
	return 0;
}

/* What came back, into @list. */
static long reap(struct disk_load *l, long least, long most, struct iocb **list)
{
	struct io_event events[MAX_DEPTH];
	long n = syscall(SYS_io_getevents, l->aio, least, most, events, NULL);

	for (long i = 0; i < n; i++) {
		if (events[i].res != l->block)
			return events[i].res < 0 ? (long)events[i].res : -EIO;
		list[i] = (struct iocb *)(uintptr_t)events[i].obj;
	}
	return n < 0 ? -errno : n;
}

static int run(struct disk_load *l, uint64_t until_ns, uint64_t *end_ns)
{
	struct iocb *list[MAX_DEPTH];
	long n = l->depth;
	int rc;

	for (long i = 0; i < n; i++)
		list[i] = &l->iocb[i];
	do {
		rc = submit(l, list, n);
		if (rc)
			return rc;
		n = reap(l, 1, l->depth, list);
		if (n < 0)
			return (int)n;
		l->done += (uint64_t)n;
		*end_ns = clock_now_ns();
	} while (*end_ns < until_ns);
	if (n == (long)l->depth)
		return 0;
	n = reap(l, l->depth - n, l->depth, list);
	return n < 0 ? (int)n : 0;
}

static int prepare(struct disk_load *l, const char *path, uint8_t **data)
{
	uint64_t len;

	l->fd = open(path, (l->write ? O_RDWR : O_RDONLY) | O_DIRECT | O_CLOEXEC);
	if (l->fd < 0 || ioctl(l->fd, BLKGETSIZE64, &len))
		return -errno;
	l->blocks = len / l->block;
	*data = aligned_alloc(ALIGN, (size_t)l->depth * l->block);
	if (!*data || !l->blocks)
		return -ENOMEM;
	memset(*data, 0x5a, (size_t)l->depth * l->block);
	for (unsigned int i = 0; i < l->depth; i++)
		l->iocb[i] = (struct iocb){
			.aio_lio_opcode = l->write ? IOCB_CMD_PWRITE : IOCB_CMD_PREAD,
			.aio_fildes = (uint32_t)l->fd,
			.aio_buf = (uintptr_t)*data + (size_t)i * l->block,
			.aio_nbytes = l->block,
		};
	return syscall(SYS_io_setup, l->depth, &l->aio) ? -errno : 0;
}

void load_disk(char *words)
{
	static struct disk_load l;
	char path[32], what[8], order[16];
	unsigned int ms;
	uint64_t start, end = 0;
	uint8_t *data = NULL;
	int rc = -EINVAL;

	l = (struct disk_load){.fd = -1};
	if (words &&
	    sscanf(words, "%31s %7s %15s %u %u %u", path, what, order, &l.block, &l.depth, &ms) ==
		    6 &&
	    l.block && l.block <= MAX_BLOCK && !(l.block % 512) && l.depth &&
	    l.depth <= MAX_DEPTH) {
		l.write = !strcmp(what, "write");
		l.random = !strcmp(order, "random");
		rc = prepare(&l, path, &data);
	}
	start = clock_now_ns();
	if (!rc)
		rc = run(&l, start + (uint64_t)ms * 1000000, &end);
	if (l.aio)
		syscall(SYS_io_destroy, l.aio);
	free(data);
	if (l.fd >= 0)
		close(l.fd);
	if (rc)
		console_line("FAIL what=load_disk errno=%d", -rc);
	else
		console_line("LOAD done=%llu us=%llu", (unsigned long long)l.done,
			     (unsigned long long)((end - start) / 1000));
}
