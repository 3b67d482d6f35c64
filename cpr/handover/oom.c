/* SPDX-License-Identifier: MIT */
/* Who is ended first where memory is short, and whether there is enough to go on. */
#include "cpr/handover/oom.h"
#include "vmm/base/base.h"

#include <fcntl.h>
#include <sys/mman.h>

#define TRIES 3

/* KVM takes some 200 KiB at once for a vCPU's first entry (mmu_topup_memory_caches), and a page for each table. The
 * base is for the incumbent, which makes two blobs. */
#define PROBE_BASE  (1536ul << 10)
#define PROBE_STACK (128u << 10) /* records and answers are put together there */
#define PROBE_CPU   (512ul << 10)

static int put(const char *text)
{
	fd_auto int fd = open(OOM_PATH, O_WRONLY | O_CLOEXEC);
	return fd < 0 ? -errno : fd_write_all(fd, text, strlen(text));
}

void oom_restore(void)
{
	char path[64], text[16];
	int rc = -1;
	snprintf(path, sizeof(path), "/proc/%d/oom_score_adj", (int)getppid());
	for (unsigned tries = 0; rc && tries < TRIES; tries++)
		rc = put(file_read_text(path, text, sizeof(text)) > 0 ? text : "0");
	if (rc)
		log_warn(OOM_PATH " stays " OOM_FIRST ": %s", strerror(-rc));
}

int oom_probe(unsigned cpus, struct error *err)
{
	size_t len = PROBE_BASE + cpus * PROBE_CPU;
	void *room = mmap(NULL, len, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	if (room == MAP_FAILED)
		return error_errno(err, errno, "%zu KiB of room for running vCPUs", len >> 10);
	munmap(room, len);
	return 0;
}

__attribute__((noinline)) void oom_probe_stack(void)
{
	char room[PROBE_STACK];
	for (size_t at = PROBE_STACK; at > 0; at -= 4096)
		room[at - 1] = 0;
	__asm__ volatile("" : : "r"(room) : "memory"); /* it is used */
}
