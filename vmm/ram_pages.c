/* SPDX-License-Identifier: MIT */
/* The pages of guest memory: asking for huge ones, telling which are in use, mapping them before the guest
 * asks for them. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "vmm/base/error.h"
#include "vmm/base/log.h"
#include "vmm/ram.h"

#define HUGE_LEN     (2 * MIB)
#define PREFAULT_LEN (8 * MIB)

/* linux/mman.h: newer than some C libraries. */
#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22 /* 5.14 */
#endif
#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23 /* 5.14 */
#endif
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25 /* 6.1 */
#endif

int ram_collapse(struct ram *ram, struct error *err)
{
	uint64_t size = align_down(ram->state.size, HUGE_LEN), start_ns = now_ns(), done = 0;

	if (ram->state.page_len > PAGE_LEN)
		return 0;
	log_info("guest memory: touching and collapsing %llu MiB into huge pages",
		 (unsigned long long)(size / MIB));
	for (uint64_t at = 0; at < size; at += HUGE_LEN) {
		uint8_t *chunk = ram->hva + at;
		/* Pages that do not exist cannot be collapsed (EINVAL). */
		if (madvise(chunk, HUGE_LEN, MADV_POPULATE_WRITE) < 0) {
			error_errno(err, errno, "guest memory: touching it at %llu MiB",
				    (unsigned long long)(at / MIB));
			return error_exit(err, EXIT_HOST);
		}
		if (!madvise(chunk, HUGE_LEN, MADV_COLLAPSE)) {
			done += HUGE_LEN;
		} else if (errno == EINVAL) {
			log_warn("guest memory: this kernel cannot collapse this file's pages "
				 "(MADV_COLLAPSE needs 6.1)");
			return 0;
		}
	}
	log_info("guest memory: %llu of %llu MiB are in huge pages, after %llu ms",
		 (unsigned long long)(done / MIB), (unsigned long long)(size / MIB),
		 (unsigned long long)((now_ns() - start_ns) / 1000000));
	return 0;
}

/* Each run of pages that mincore(2) found. Reading maps several at once, and to be written to as well, since
 * the mapping is shared. */
static int populate(uint8_t *hva, const unsigned char *present, size_t pages)
{
	for (size_t i = 0, end; i < pages; i = end) {
		for (end = i + 1; end < pages && (present[end] & 1) == (present[i] & 1); end++)
			;
		if (present[i] & 1 &&
		    madvise(hva + i * PAGE_LEN, (end - i) * PAGE_LEN, MADV_POPULATE_READ) < 0)
			return -errno;
	}
	return 0;
}

/* Where there is something at or after @at; the end where there is nothing, or the file does not tell: a
 * device's lseek may do nothing, and say 0. */
static uint64_t next_data(const struct ram *ram, uint64_t at)
{
	off_t data = at < ram->state.size ? lseek(ram->fd, (off_t)at, SEEK_DATA) : -1;
	bool told = data >= (off_t)at && (uint64_t)data < ram->state.size;
	return told ? (uint64_t)data : ram->state.size;
}

bool ram_prefault(struct ram *ram)
{
	static unsigned char present[PREFAULT_LEN / PAGE_LEN];
	uint64_t at = align_down(next_data(ram, ram->prefault_at), PAGE_LEN);
	uint64_t left = ram->state.size - at;
	size_t len = left < PREFAULT_LEN ? left : PREFAULT_LEN;

	/* Where this fails pages come with their faults, as ever. */
	if (len && (mincore(ram->hva + at, len, present) < 0 ||
		    populate(ram->hva + at, present, len / PAGE_LEN)))
		len = left;
	ram->prefault_at = at + len;
	return len < left;
}

/* KiB of the mapping that are behind entries of 2 MiB in this process's page tables. */
static uint64_t huge_kib(const struct ram *ram)
{
	static const char *const keys[] = {"ShmemPmdMapped:", "FilePmdMapped:"};
	uint64_t from = (uintptr_t)ram->hva, to = from + ram->state.size, sum = 0;
	bool inside = false;
	char line[512];

	FILE *f = fopen("/proc/self/smaps", "re");
	if (!f)
		return 0;
	while (fgets(line, sizeof(line), f)) {
		unsigned long long a, b;
		if (sscanf(line, "%llx-%llx ", &a, &b) == 2)
			inside = a >= from && b <= to;
		for (unsigned i = 0; inside && i < ARRAY_LEN(keys); i++)
			if (!strncmp(line, keys[i], strlen(keys[i])))
				sum += strtoull(line + strlen(keys[i]), NULL, 10);
	}
	fclose(f);
	return sum;
}

void ram_page_text(const struct ram *ram, char *buf, size_t size)
{
	if (ram->state.page_len >= GIB) {
		snprintf(buf, size, "%lluG", (unsigned long long)(ram->state.page_len / GIB));
	} else if (ram->state.page_len >= MIB) {
		snprintf(buf, size, "%lluM", (unsigned long long)(ram->state.page_len / MIB));
	} else {
		uint64_t huge_mib = huge_kib(ram) / KIB;
		if (huge_mib)
			snprintf(buf, size, "4K (2M: %llu of %llu MiB)",
				 (unsigned long long)huge_mib,
				 (unsigned long long)(ram->state.size / MIB));
		else
			snprintf(buf, size, "4K");
	}
}
