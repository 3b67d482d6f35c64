/* SPDX-License-Identifier: MIT */
/* A thread that writes numbered blocks to a disk and checks that each reads back as it was written.
 */
#include "guest.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define BLOCK_LEN      4096
#define BLOCKS	       64
#define WAIT_STEP_MS   20
#define WAIT_DEVICE_MS 20000

static struct {
	int fd;
	char irq[16];
	uint32_t written[BLOCKS]; /* how often; 0: never, the content is unknown */
	_Atomic uint64_t writes, reads, bad, errs, max_ns;
} disk;

/* Every word of a block says which block it is, in which generation, and which word. */
static void block_fill(uint64_t *data, uint32_t block, uint32_t generation)
{
	for (uint64_t i = 0; i < BLOCK_LEN / sizeof(*data); i++)
		data[i] = ((uint64_t)generation << 32 | block << 12 | i) * 0x9e3779b97f4a7c15u;
}

static bool transfer(bool write, void *data, uint32_t block)
{
	uint64_t start = clock_now_ns(), spent;
	off_t at = (off_t)block * BLOCK_LEN;
	ssize_t n =
		write ? pwrite(disk.fd, data, BLOCK_LEN, at) : pread(disk.fd, data, BLOCK_LEN, at);

	spent = clock_now_ns() - start;
	if (spent > atomic_load(&disk.max_ns))
		atomic_store(&disk.max_ns, spent);
	if (n != BLOCK_LEN) {
		atomic_fetch_add(&disk.errs, 1);
		console_line("FAIL what=disk_%s block=%u errno=%d", write ? "write" : "read", block,
			     n < 0 ? errno : 0);
		return false;
	}
	atomic_fetch_add(write ? &disk.writes : &disk.reads, 1);
	return true;
}

static void *disk_run(void *unused)
{
	/* O_DIRECT: whole sectors, aligned; nothing comes from the page cache. */
	uint64_t *data = aligned_alloc(BLOCK_LEN, BLOCK_LEN);
	uint64_t *expected = aligned_alloc(BLOCK_LEN, BLOCK_LEN);
	uint32_t block = 1;

	(void)unused;
	while (data && expected) {
		block = (block * 1664525u + 1013904223u) % BLOCKS;
		if (disk.written[block]) {
			block_fill(expected, block, disk.written[block]);
			memset(data, 0, BLOCK_LEN);
			if (transfer(false, data, block) && memcmp(data, expected, BLOCK_LEN)) {
				atomic_fetch_add(&disk.bad, 1);
				console_line("FAIL what=disk_content block=%u", block);
			}
		}
		block_fill(data, block, disk.written[block] + 1);
		/* A failed write may or may not have reached the disk. */
		disk.written[block] = transfer(true, data, block) ? disk.written[block] + 1 : 0;
	}
	return NULL;
}

int disk_start(const char *path)
{
	struct timespec step = {0, WAIT_STEP_MS * 1000000};
	const char *name = strrchr(path, '/');
	pthread_t thread;
	unsigned int ms;
	int rc;

	/* The driver may still be probing the device. */
	for (ms = 0; ms < WAIT_DEVICE_MS; ms += WAIT_STEP_MS) {
		disk.fd = open(path, O_RDWR | O_DIRECT | O_CLOEXEC);
		if (disk.fd >= 0 || errno != ENOENT)
			break;
		nanosleep(&step, NULL);
	}
	if (disk.fd < 0) {
		console_line("FAIL what=disk path=%s errno=%d", path, errno);
		return -errno;
	}
	/* "nvme0n1" has interrupts "nvme0q0" and on; "vda" those of its virtio device, "virtio0-req.0" and on. */
	name = name ? name + 1 : path;
	if (strncmp(name, "nvme", 4))
		name = "virtio";
	snprintf(disk.irq, sizeof(disk.irq), "%.*s", name[0] == 'n' ? 5 : 6, name);
	rc = pthread_create(&thread, NULL, disk_run, NULL);
	return rc ? -rc : 0;
}

void disk_report(struct disk_stats *out)
{
	out->writes = atomic_load(&disk.writes);
	out->reads = atomic_load(&disk.reads);
	out->bad = atomic_load(&disk.bad);
	out->errs = atomic_load(&disk.errs);
	out->max_ns = atomic_load(&disk.max_ns);
	out->irqs = system_irq_count(disk.irq);
}
