/* SPDX-License-Identifier: MIT */
/* The pages of guest memory: asking for huge ones, telling which are in use. */
#include <sys/mman.h>

#include "vmm/ram.h"

#define HUGE_LEN (2 * MIB)

/* linux/mman.h: newer than some C libraries. */
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
	log_info("guest memory: touching and collapsing %lu MiB into huge pages", size / MIB);
	for (uint64_t at = 0; at < size; at += HUGE_LEN) {
		uint8_t *chunk = ram->hva + at;
		/* Pages that do not exist cannot be collapsed (EINVAL). */
		if (madvise(chunk, HUGE_LEN, MADV_POPULATE_WRITE) < 0)
			return error_end(err, EXIT_HOST, errno,
					 "guest memory: touching it at %lu MiB: %m", at / MIB);
		if (!madvise(chunk, HUGE_LEN, MADV_COLLAPSE)) {
			done += HUGE_LEN;
		} else if (errno == EINVAL) {
			log_warn("guest memory: this kernel cannot collapse this file's pages "
				 "(MADV_COLLAPSE needs 6.1)");
			return 0;
		}
	}
	log_info("guest memory: %lu of %lu MiB are in huge pages, after %lu ms", done / MIB,
		 size / MIB, ((now_ns() - start_ns) / 1000000));
	return 0;
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
		snprintf(buf, size, "%luG", ram->state.page_len / GIB);
	} else if (ram->state.page_len >= MIB) {
		snprintf(buf, size, "%luM", ram->state.page_len / MIB);
	} else {
		uint64_t huge_mib = huge_kib(ram) / KIB;
		if (huge_mib)
			snprintf(buf, size, "4K (2M: %lu of %lu MiB)", huge_mib,
				 ram->state.size / MIB);
		else
			snprintf(buf, size, "4K");
	}
}
