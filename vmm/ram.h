/* SPDX-License-Identifier: MIT */
/* Guest memory: one file (memfd, or --mem path=) mapped once, so that it outlives the program, cut
 * into regions of guest physical addresses. */
#pragma once

#include "cpr/state/fields.h"

struct fdset;

#define RAM_MAX_REGIONS 4
#define RAM_MAX_NODES	1024 /* a kernel's most: CONFIG_NODES_SHIFT is at most 10 */

struct ram_options {
	uint64_t size;	  /* bytes */
	uint32_t hugetlb; /* 0, or MiB of a hugetlb page: 2, 1024 */
	bool collapse;	  /* touch and collapse into huge pages at start */
	bool bind;	  /* to @node */
	uint32_t node;	  /* NUMA node of the host, below RAM_MAX_NODES */
	char path[4096];  /* "" for a memfd; a file, or a folder for an unnamed one */
};

struct ram_state {
	uint64_t size;
	uint64_t page_len; /* of the backing file: 4096, 2 MiB, 1 GiB */
	uint32_t nregions;
	uint32_t reserved;
	uint64_t gpa[RAM_MAX_REGIONS];
	uint64_t len[RAM_MAX_REGIONS];
	uint64_t offset[RAM_MAX_REGIONS]; /* in the file */
};

struct ram {
	struct ram_state state;
	int fd;
	uint8_t *hva; /* of file offset 0 */
	bool huge_advised;
};

/* Creates the file ("ram0" in @fds), sized and sealed or locked, with the architecture's regions. One that is there
 * must be empty, or a device DAX. */
int ram_create(struct ram *ram, const struct ram_options *opt, struct fdset *fds,
	       struct error *err);

/* Takes "ram0" from @fds and checks it against ram->state, which was loaded. */
int ram_adopt(struct ram *ram, struct fdset *fds, struct error *err);

/* Maps the file (2 MiB aligned, no populate), MADV_DONTDUMP, MADV_HUGEPAGE. */
int ram_map(struct ram *ram, struct error *err);

/* Memory is zero at first: of a new file it is, of a device it is made so. */
void ram_clear(struct ram *ram);

/* No guest has run in it: the file is empty again, so that a next start may take it. */
void ram_abandon(struct fdset *fds);

/* --mem collapse: touches everything and asks for huge pages; before DMA pins it. */
int ram_collapse(struct ram *ram, struct error *err);

/* Host address of [gpa, gpa + len), or NULL unless it lies in one region. */
void *ram_at(const struct ram *ram, uint64_t gpa, uint64_t len);

/* Guest address of what is at @hva; false: it is none of guest memory. In a signal handler, too. */
bool ram_gpa(const struct ram *ram, const void *hva, uint64_t *gpa);

/* How much of guest memory is there (touched by this worker), in pages of which size. Reads /proc: not in the pause. */
#define RAM_PAGE_SIZES 2
struct ram_pages {
	uint64_t page_len, bytes;
};
unsigned ram_count_pages(const struct ram *ram, struct ram_pages pages[RAM_PAGE_SIZES]);

/* Page size in use, for the report: "2M", "4K (2M: 128 of 256 MiB)". Reads /proc: not in the
 * pause. */
void ram_page_text(const struct ram *ram, char *buf, size_t size);

extern const struct state_class ram_state_class;
