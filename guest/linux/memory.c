/* SPDX-License-Identifier: MIT */
/* Memory that is used, checked and given back to the guest's kernel, on the console's orders. */
#include "guest.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define MIB	   (1ul << 20)
#define BLOCKS_MAX 4096ul
#define WORDS	   (MIB / sizeof(uint64_t))
#define STEP	   8 /* a word of each cache line */

/* Each block is a mapping of its own, of one MiB. */
static uint64_t *blocks[BLOCKS_MAX];
static unsigned long used;
static uint64_t generation;

static uint64_t word_of(const uint64_t *block, uint64_t i)
{
	return (block[0] + i) * 0x9e3779b97f4a7c15u;
}

static bool use_one(void)
{
	uint64_t *block =
		mmap(NULL, MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (block == MAP_FAILED)
		return false;
	block[0] = ++generation;
	for (uint64_t i = STEP; i < WORDS; i += STEP)
		block[i] = word_of(block, i);
	blocks[used++] = block;
	return true;
}

static bool is_whole(const uint64_t *block)
{
	for (uint64_t i = STEP; i < WORDS; i += STEP)
		if (block[i] != word_of(block, i))
			return false;
	return block[0] && block[0] <= generation;
}

void memory_use(char *words)
{
	unsigned long want = words ? strtoul(words, NULL, 10) : 0, bad = 0;

	for (unsigned long i = 0; i < used; i++)
		bad += !is_whole(blocks[i]);
	while (used > want)
		munmap(blocks[--used], MIB);
	while (used < want && used < BLOCKS_MAX && use_one())
		;
	console_line("USED %lu bad=%lu", used, bad);
}
