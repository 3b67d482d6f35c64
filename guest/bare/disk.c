/* SPDX-License-Identifier: MIT */
/*
 * disk: writes and reads a virtio disk at random, many requests at a time, and knows what each block must hold. Host:
 * 'r' reports "DISK requests errors", 'e' and 'E': from now on writes may fail, and may not any more ("ERRORS",
 * "NONE"); 'c' takes the disk's size anew ("SIZE blocks generation told|quiet": was there a change since?); 'b' resets
 * the guest with requests in flight; 'q' ends: all is read back, and the checksum of the whole disk is told.
 *
 * Options: queues=N: that many, up to 4, each request in the one of its number; intx=1: INTA instead of MSI-X; event=1:
 * EVENT_IDX; reset=1: the driver resets the device now and then, with requests in flight; used=1: the disk need not be
 * empty; odd=1: data buffers begin at odd addresses.
 */
#include "guest.h"
#include "virtio.h"

#define VEC_DISK    0x40
#define TYPE_BLOCK  2
#define DEPTH	    16u
#define MAX_QUEUES  4u
#define BLOCK_LEN   4096u
#define BLOCK_WORDS (BLOCK_LEN / 8)
#define MAX_BLOCKS  4096u
#define SECTORS	    (BLOCK_LEN / 512)
#define F_MQ	    (1ull << 12)
#define NUM_QUEUES  34	     /* of the configuration */
#define LOST_US	    20000000 /* what is not there by then was lost */

enum { READ = 0, WRITE = 1, FLUSH = 4 };

struct request {
	struct {
		uint32_t type, reserved;
		uint64_t sector;
	} head;
	uint32_t block;
	volatile uint8_t status;
};

static struct virtq_rings rings[MAX_QUEUES];
static struct request requests[DEPTH];
static uint8_t space[DEPTH][2 * BLOCK_LEN] __attribute__((aligned(4096)));
static struct word {
	uint64_t v;
} __attribute__((packed)) * data[DEPTH]; /* each in its space; anywhere there */
static uint32_t generation[MAX_BLOCKS];	 /* of each block: 0: zeroes */
static bool unknown[MAX_BLOCKS];	 /* a write has failed: old or new */
static bool busy[MAX_BLOCKS];
static struct virtio v;
static struct virtq queue[MAX_QUEUES];
static uint16_t kicked[MAX_QUEUES]; /* available index up to which each was kicked */
static unsigned queues;
static volatile uint64_t irqs, spurious;
static uint64_t done, errors, resets, random = 88172645463325252ull;
static bool may_fail, with_resets;
static unsigned blocks;

static void on_disk(struct trap_frame *frame)
{
	(void)frame;
	if (option_number("intx", 0) && !(*v.isr & 1))
		spurious++; /* others' on the line; and a line that an update asserts once more */
	irqs++;
	apic_eoi();
}

static uint64_t next_random(void)
{
	random ^= random << 13;
	random ^= random >> 7;
	random ^= random << 17;
	return random;
}

static uint64_t word_of(uint32_t block, uint32_t gen, uint32_t i)
{
	return gen ? ((uint64_t)gen << 32 | block) * 0x9e3779b97f4a7c15ull + i : 0;
}

static const char *wrong; /* what the guest ends with: at CPL3 it cannot */
static uint64_t wrong_block, wrong_gen, wrong_word;

static void prepare(unsigned i)
{
	struct request *r = &requests[i];
	uint32_t type = next_random() % 16 == 0 ? FLUSH : next_random() % 2 ? WRITE : READ;

	do
		r->block = (uint32_t)(next_random() % blocks);
	while (busy[r->block]);
	r->head.type = type;
	r->head.reserved = 0;
	r->head.sector = type == FLUSH ? 0 : (uint64_t)r->block * SECTORS;
	r->status = 0xee;
	busy[r->block] = true;
	for (uint32_t k = 0; type == WRITE && k < BLOCK_WORDS; k++)
		data[i][k].v = word_of(r->block, generation[r->block] + 1, k);
}

static void offer(unsigned i)
{
	struct virtq *q = &queue[i % queues];
	struct virtq_desc *d = &q->rings->desc[3 * i];
	uint32_t type = requests[i].head.type;

	d[0] = (struct virtq_desc){(uintptr_t)&requests[i].head, 16, VIRTQ_NEXT,
				   (uint16_t)(3 * i + (type == FLUSH ? 2 : 1))};
	d[1] = (struct virtq_desc){(uintptr_t)data[i], BLOCK_LEN,
				   type == READ ? VIRTQ_NEXT | VIRTQ_WRITE : VIRTQ_NEXT,
				   (uint16_t)(3 * i + 2)};
	d[2] = (struct virtq_desc){(uintptr_t)&requests[i].status, 1, VIRTQ_WRITE, 0};
	virtq_offer(q, (uint16_t)(3 * i));
}

static void kick(void)
{
	for (unsigned q = 0; q < queues; q++) {
		virtq_kick(&queue[q], kicked[q]);
		kicked[q] = queue[q].rings->avail.idx;
	}
}

static void check_data(unsigned i)
{
	uint32_t block = requests[i].block, gen = generation[block];

	for (uint32_t k = 0; k < BLOCK_WORDS && !unknown[block]; k++) {
		if (data[i][k].v == word_of(block, gen, k))
			continue;
		wrong = "holds something else";
		wrong_block = block;
		wrong_gen = gen;
		wrong_word = data[i][k].v;
		return;
	}
}

static void finish(unsigned i)
{
	const struct request *r = &requests[i];
	bool write = r->head.type == WRITE;

	busy[r->block] = false;
	done++;
	if (r->status) {
		errors++;
		unknown[r->block] |= write;
		if (!may_fail || r->status != 1 || r->head.type == READ) {
			wrong = "has an error that it should not have";
			wrong_block = r->block;
			wrong_gen = r->head.type;
			wrong_word = r->status;
		}
	} else if (write) {
		generation[r->block]++;
		unknown[r->block] = false;
	} else if (r->head.type == READ) {
		check_data(i);
	}
}

/* Of the requests in queue @q: how many have come back. */
static unsigned take(unsigned q)
{
	unsigned n = 0;
	int head;

	for (; (head = virtq_take(&queue[q], NULL)) >= 0; n++)
		finish((unsigned)head / 3);
	return n;
}

static bool came(void)
{
	for (unsigned q = 0; q < queues; q++)
		if (queue[q].rings->used.idx != queue[q].seen)
			return true;
	return false;
}

/* Until @n requests have come back, each announced by an interrupt. */
static void take_back(unsigned n)
{
	while (n && !wrong) {
		struct user_wait wait = {&irqs, rdtsc() + us_to_tsc(LOST_US)};
		irqs = 0;
		for (unsigned q = 0; q < queues; q++)
			n -= take(q);
		if (n && !user_wait_flag(&wait))
			wrong = came() ? "was done, but its interrupt was lost" : "was lost";
	}
}

/* At odd addresses, each at another distance from a page's begin and end. */
static void buffers(bool odd)
{
	for (unsigned i = 0; i < DEPTH; i++)
		data[i] = (struct word *)&space[i][odd ? i * 250 + 1 : 0];
}

static void start(void)
{
	uint64_t features = option_number("event", 0) ? VIRTIO_F_EVENT_IDX : 0;

	virtio_start(&v, features | F_MQ, queue, queues, option_number("intx", 0) ? 0 : VEC_DISK);
	memset(kicked, 0, sizeof(kicked));
}

/* The driver gives up what is in flight: any of it may have been written. */
static void reset(unsigned n)
{
	resets++;
	start();
	for (unsigned i = 0; i < n; i++) {
		busy[requests[i].block] = false;
		unknown[requests[i].block] |= requests[i].head.type == WRITE;
	}
}

/* Returns how many requests are in flight now. */
static unsigned round_begin(void)
{
	unsigned n = 1 + (unsigned)(next_random() % DEPTH);

	for (unsigned i = 0; i < n; i++)
		prepare(i);
	for (unsigned i = 0; i < n; i++) {
		offer(i);
		if (next_random() % 4 == 0)
			kick();
	}
	kick();
	return n;
}

static uint64_t round_run(void *arg)
{
	unsigned n = round_begin();

	(void)arg;
	if (with_resets && next_random() % 64 == 0)
		return n;
	take_back(n);
	return 0;
}

/* One block, and nothing else. */
static void one(uint32_t type, uint32_t block)
{
	prepare(0);
	busy[requests[0].block] = false;
	requests[0].block = block;
	requests[0].head.type = type;
	requests[0].head.sector = type == FLUSH ? 0 : (uint64_t)block * SECTORS;
	busy[block] = true;
	for (uint32_t k = 0; type == WRITE && k < BLOCK_WORDS; k++)
		data[0][k].v = word_of(block, generation[block] + 1, k);
	offer(0);
	kick();
	take_back(1);
}

/* What is not known is written again; then all is read. The checksum: FNV-1a over words. */
static uint64_t read_back(void *arg)
{
	uint64_t sum = 0xcbf29ce484222325ull;

	(void)arg;
	for (uint32_t b = 0; b < blocks && !wrong; b++)
		if (unknown[b])
			one(WRITE, b);
	one(FLUSH, 0);
	for (uint32_t b = 0; b < blocks && !wrong; b++) {
		one(READ, b);
		for (uint32_t k = 0; k < BLOCK_WORDS; k++)
			sum = (sum ^ data[0][k].v) * 0x100000001b3ull;
	}
	return sum;
}

static void check(void)
{
	if (wrong)
		guest_fail("after %lu requests block %lu %s (%lx, %lx); status %x, used %u of %u",
			   done, wrong_block, wrong, wrong_gen, wrong_word, virtio_status(&v),
			   rings[0].used.idx, rings[0].avail.idx);
	if (virtio_status(&v) & VIRTIO_NEEDS_RESET)
		guest_fail("the device wants a reset");
}

static void blocks_count(void)
{
	blocks = *(volatile uint32_t *)v.config / SECTORS;
	if (!blocks || blocks > MAX_BLOCKS)
		guest_fail("a disk of %u blocks", blocks);
}

static bool order(int c)
{
	if (c == 'r')
		guest_printf("DISK %lu %lu\n", done, errors);
	if (c == 'e' || c == 'E') {
		may_fail = c == 'e';
		guest_printf("%s\n", may_fail ? "ERRORS" : "NONE");
	}
	if (c == 'c') {
		blocks_count();
		guest_printf("SIZE %u %u %s\n", blocks, virtio_generation(&v),
			     *v.isr & 2 ? "told" : "quiet");
	}
	if (c == 'b') {
		round_begin();
		guest_reset();
		guest_fail("the guest runs on");
	}
	return c != 'q';
}

void guest_main(void)
{
	bool intx = option_number("intx", 0);

	queues = (unsigned)option_number("queues", 1);
	if (!queues || queues > MAX_QUEUES)
		guest_fail("queues=%u", queues);
	trap_set(VEC_DISK, on_disk);
	virtio_open(&v, TYPE_BLOCK);
	if (intx)
		ioapic_set(v.pin, IOAPIC_LEVEL | VEC_DISK);
	with_resets = option_number("reset", 0);
	buffers(option_number("odd", 0));
	for (unsigned q = 0; q < queues; q++)
		queue[q].rings = &rings[q];
	start();
	if (*(volatile uint16_t *)(v.config + NUM_QUEUES) != queues)
		guest_fail("a disk of %u queues", *(volatile uint16_t *)(v.config + NUM_QUEUES));
	if (queues > 1 && !(v.features & F_MQ))
		guest_fail("a disk that offers no queues");
	blocks_count();
	random += rdtsc(); /* not what the boot before did */
	for (unsigned b = 0; b < blocks; b++)
		unknown[b] = option_number("used", 0);
	guest_printf("READY %u\n", blocks);
	while (order(serial_poll())) {
		unsigned left = (unsigned)user_call(round_run, NULL);
		check();
		if (left)
			reset(left);
	}
	uint64_t sum = user_call(read_back, NULL);
	check();
	guest_pass("disk requests=%lu errors=%lu resets=%lu spurious=%lu sum=%lx", done, errors,
		   resets, spurious, sum);
}
