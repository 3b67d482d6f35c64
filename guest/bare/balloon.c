/* SPDX-License-Identifier: MIT */
/*
 * balloon: reports memory to its virtio balloon and uses it again, and knows what each page must hold: what was
 * reported is zero, all else is as it was written, also what it has put into the balloon. Host: 'q' ends.
 * Option event=1: EVENT_IDX.
 */
#include "guest.h"
#include "virtio.h"

#define TYPE_BALLOON 5
#define F_REPORTING  (1ull << 5)
#define VEC_BALLOON  0x40
#define PAGE_LEN     4096u
#define PAGE_WORDS   (PAGE_LEN / 8)
#define CHUNK_PAGES  16u
#define CHUNKS	     128u
#define LOST_US	     20000000 /* what is not there by then was lost */

enum { INFLATE, DEFLATE, REPORTING, QUEUES };

static struct virtio v;
static struct virtq_rings rings[QUEUES];
static struct virtq queue[QUEUES];
static uint64_t memory[CHUNKS][CHUNK_PAGES][PAGE_WORDS] __attribute__((aligned(PAGE_LEN)));
static uint64_t generation[CHUNKS]; /* 0: zeros */
static uint32_t numbers[CHUNK_PAGES];
static uint64_t reports, inflated, random = 88172645463325252ull;
static const char *wrong; /* what the guest ends with: at CPL3 it cannot */
static unsigned wrong_chunk, wrong_page;

static void on_balloon(struct trap_frame *frame)
{
	(void)frame;
	apic_eoi();
}

static uint64_t next_random(void)
{
	random ^= random << 13;
	random ^= random >> 7;
	random ^= random << 17;
	return random;
}

static uint64_t word_of(unsigned chunk, unsigned page, unsigned word)
{
	return generation[chunk]
		       ? (generation[chunk] << 32 | chunk << 16 | page) * 0x9e3779b97f4a7c15ull +
				 word
		       : 0;
}

/* The first and the last word of each page. */
static void write_or_check(unsigned c, bool write)
{
	for (unsigned p = 0; p < CHUNK_PAGES; p++)
		for (unsigned w = 0; w < PAGE_WORDS; w += PAGE_WORDS - 1) {
			volatile uint64_t *at = &memory[c][p][w];
			if (write)
				*at = word_of(c, p, w);
			else if (*at != word_of(c, p, w) && !wrong)
				wrong = "a page does not hold what it must", wrong_chunk = c,
				wrong_page = p;
		}
}

/* One buffer to the device and back. */
static void hand_over(unsigned q, const volatile void *at, uint32_t len, uint16_t flags)
{
	uint16_t from = rings[q].avail.idx;
	uint64_t until = rdtsc() + us_to_tsc(LOST_US);

	rings[q].desc[0] = (struct virtq_desc){(uintptr_t)at, len, flags, 0};
	virtq_offer(&queue[q], 0);
	virtq_kick(&queue[q], from);
	while (virtq_take(&queue[q], NULL) < 0 && !wrong)
		if (rdtsc() > until)
			wrong = "a buffer does not come back";
}

static uint64_t round_run(void *unused)
{
	unsigned c = (unsigned)(next_random() % CHUNKS);

	(void)unused;
	write_or_check(c, false);
	switch (next_random() % 4) {
	case 0:
	case 1:
		hand_over(REPORTING, memory[c], sizeof(memory[c]), VIRTQ_WRITE);
		generation[c] = 0;
		reports++;
		break;
	case 2:
		for (unsigned p = 0; p < CHUNK_PAGES; p++)
			numbers[p] = (uint32_t)((uintptr_t)memory[c][p] / PAGE_LEN);
		hand_over(INFLATE, numbers, sizeof(numbers), 0);
		hand_over(DEFLATE, numbers, sizeof(numbers), 0);
		inflated++;
		break;
	case 3:
		generation[c] = reports + inflated + 1;
		write_or_check(c, true);
		break;
	}
	write_or_check(c, false);
	return 0;
}

static void check(void)
{
	if (wrong)
		guest_fail("%s: chunk %u page %u, after %lu reports", wrong, wrong_chunk,
			   wrong_page, reports);
}

void guest_main(void)
{
	trap_set(VEC_BALLOON, on_balloon);
	virtio_open(&v, TYPE_BALLOON);
	for (unsigned q = 0; q < QUEUES; q++)
		queue[q].rings = &rings[q];
	virtio_start(&v, F_REPORTING | (option_number("event", 0) ? VIRTIO_F_EVENT_IDX : 0), queue,
		     QUEUES, VEC_BALLOON);
	if (!(v.features & F_REPORTING))
		guest_fail("a balloon without reporting");
	if (*(volatile uint32_t *)v.config)
		guest_fail("a balloon that wants %u pages", *(volatile uint32_t *)v.config);
	guest_printf("READY\n");
	while (serial_poll() != 'q') {
		user_call(round_run, NULL);
		check();
	}
	for (unsigned c = 0; c < CHUNKS; c++)
		write_or_check(c, false);
	check();
	guest_pass("balloon reports=%lu inflated=%lu", reports, inflated);
}
