/* SPDX-License-Identifier: MIT */
#include "cpr/limits.h"

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include "cpr/sandbox.h"
#include "vmm/base/error.h"
#include "vmm/base/fd.h"
#include "vmm/base/num.h"
#include "vmm/ram.h"

#define SLACK_LEN (16 * MIB) /* what another build may need beyond this one */
#define STACK_MIN MIB

#define OFFER_PAGES 2048

/* What an update takes beyond a trial: two states, threads, the keeper, tables of pages. */
#define ROOM_LEN     (4 * MIB)
#define ROOM_CPU_LEN (128 * KIB)

/* What this process has mapped, and how much of it is writable and private: the new one needs about the
 * same (proc(5), statm: pages; the second to last number is data and stack). */
static int read_use(uint64_t *size, uint64_t *data)
{
	char text[128];
	unsigned long long all, private;
	if (file_read_text("/proc/self/statm", text, sizeof(text)) < 0 ||
	    sscanf(text, "%llu %*u %*u %*u %*u %llu", &all, &private) != 2)
		return -EIO;
	*size = all * PAGE_LEN;
	*data = private * PAGE_LEN;
	return 0;
}

int limits_check(const struct ram *ram, struct error *err)
{
	uint64_t size, data;
	int rc = read_use(&size, &data);
	if (rc)
		return error_errno(err, -rc, "/proc/self/statm");
	/* ram_map() asks for more than it uses, to align it. */
	const struct {
		const char *name, *option;
		int resource;
		uint64_t need;
	} limits[] = {
		{"address space (RLIMIT_AS)", "as", RLIMIT_AS,
		 size + ram->state.page_len + SLACK_LEN},
		{"data (RLIMIT_DATA)", "data", RLIMIT_DATA, data + SLACK_LEN},
		{"stack (RLIMIT_STACK)", "stack", RLIMIT_STACK, STACK_MIN},
	};
	for (unsigned i = 0; i < ARRAY_LEN(limits); i++) {
		struct rlimit now;
		if (getrlimit(limits[i].resource, &now) < 0 || now.rlim_cur == RLIM_INFINITY ||
		    now.rlim_cur >= limits[i].need)
			continue;
		error_set(err, ENOMEM, "limit of %s: %llu KiB, the next program may need %llu",
			  limits[i].name, (unsigned long long)(now.rlim_cur / KIB),
			  (unsigned long long)(limits[i].need / KIB));
		return error_hint(err, "prlimit --pid %d --%s=%llu:", (int)getpid(),
				  limits[i].option, (unsigned long long)limits[i].need);
	}
	return 0;
}

/* The kernel ends whoever has most pages resident, and to those of this process it adds 1000 times a
 * thousandth of all there are (mm/oom_kill.c, oom_badness). The thousandth is rounded down: a program that
 * has its guest's memory mapped may have 999 more. What is resident is counted by the CPU, and not exact. */
void limits_offer(int fd, size_t len)
{
	size_t pages = align_up(len, PAGE_LEN) / PAGE_LEN;
	for (size_t n = 0; pages && n < OFFER_PAGES; n += pages)
		if (mmap(NULL, len, PROT_READ, MAP_PRIVATE | MAP_POPULATE, fd, 0) == MAP_FAILED)
			return;
}

int limits_try_room(uint32_t cpus, struct error *err)
{
	const size_t len = ROOM_LEN + cpus * ROOM_CPU_LEN;
	char text[16];
	if (file_read_text(SANDBOX_OOM_FILE, text, sizeof(text)) < 0 ||
	    strcmp(text, SANDBOX_OOM_FIRST))
		return 0; /* it would be the guest that is ended */
	char *room = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (room == MAP_FAILED)
		return error_errno(err, errno, "%zu KiB for the update", len / KIB);
	for (size_t at = 0; at < len; at += PAGE_LEN)
		((volatile char *)room)[at] = 1;
	munmap(room, len);
	return 0;
}
