/* SPDX-License-Identifier: MIT */
/*
 * Peer-to-peer DMA between two of the emulator's "edu" devices (QEMU, docs/specs/edu.rst): each can copy between a
 * buffer of its own and any DMA address. One copies what the other's registers say into its buffer, and from there into
 * a register of the other which then shows the complement. Or it copies one word of a network card's memory to the
 * next.
 */
#include "guest.h"

#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define EDU_ID	     0x11e81234u
#define EDU_BAR_LEN  0x100000
#define IGB_ID	     0x10c98086u
#define IGB_BAR_LEN  0x20000
#define COMMAND	     4
#define MEMORY	     2
#define MASTER	     4
#define REG_IDENT    0x00
#define REG_LIVENESS 0x04
#define REG_SRC	     0x80
#define REG_DST	     0x88
#define REG_COUNT    0x90
#define REG_CMD	     0x98
#define CMD_START    1u
#define CMD_OUT	     2u /* from the buffer */
#define BUFFER	     0x40000u
#define IGB_MTA	     0x5200 /* 82576: multicast table, memory as long as no packet is received */
#define CAP_EXPRESS  0x10
#define DEVCTL	     8 /* PCI Express, 7.5.3.4 */
#define DEVCTL_FLR   0x8000

struct edu {
	int config;
	uint64_t addr; /* of its BAR */
	volatile uint8_t *bar;
};

static uint32_t config_get(const struct edu *e, off_t off)
{
	uint32_t val = 0;
	return pread(e->config, &val, sizeof(val), off) == sizeof(val) ? val : ~0u;
}

static void command(const struct edu *e, uint16_t val)
{
	if (pwrite(e->config, &val, sizeof(val), COMMAND) != sizeof(val))
		console_line("FAIL what=p2p_command errno=%d", errno);
}

static bool bar_open(struct edu *e, const char *dir, uint32_t id, size_t len)
{
	char path[128];

	snprintf(path, sizeof(path), "%s/config", dir);
	e->config = open(path, O_RDWR | O_CLOEXEC);
	if (e->config < 0 || config_get(e, 0) != id) {
		close(e->config);
		return false;
	}
	snprintf(path, sizeof(path), "%s/resource0", dir);
	int fd = open(path, O_RDWR | O_SYNC | O_CLOEXEC);
	e->bar = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	e->addr = config_get(e, 0x10) & ~15u;
	command(e, MEMORY | MASTER);
	return e->bar != MAP_FAILED;
}

static volatile uint32_t *reg(const struct edu *e, unsigned int off)
{
	return (volatile uint32_t *)(e->bar + off);
}

static void copy(const struct edu *e, uint64_t src, uint64_t dst, uint32_t direction)
{
	const struct timespec rest = {.tv_nsec = 20000000};
	unsigned int tries = 0;

	*(volatile uint64_t *)(e->bar + REG_SRC) = src;
	*(volatile uint64_t *)(e->bar + REG_DST) = dst;
	*(volatile uint64_t *)(e->bar + REG_COUNT) = 4;
	*reg(e, REG_CMD) = CMD_START | direction;
	while (*reg(e, REG_CMD) & CMD_START && ++tries < 500)
		nanosleep(&rest, NULL);
	if (*reg(e, REG_CMD) & CMD_START)
		console_line("FAIL what=p2p_wait");
}

/* Whether @peer's registers can be read and written by @e's DMA. */
static int reaches(const struct edu *e, const struct edu *peer)
{
	*reg(peer, REG_LIVENESS) = 0;
	copy(e, peer->addr + REG_IDENT, BUFFER, 0);
	copy(e, BUFFER, peer->addr + REG_LIVENESS, CMD_OUT);
	return *reg(peer, REG_LIVENESS) == ~*reg(peer, REG_IDENT);
}

static unsigned int find(struct edu *e, unsigned int most, uint32_t id, size_t len)
{
	unsigned int n = 0;
	glob_t all;

	if (!glob("/sys/bus/pci/devices/*", 0, NULL, &all))
		for (size_t i = 0; i < all.gl_pathc && n < most; i++)
			n += bar_open(&e[n], all.gl_pathv[i], id, len);
	return n;
}

void p2p_say(void)
{
	struct edu e[2];
	unsigned int n = find(e, 2, EDU_ID, EDU_BAR_LEN);

	if (n < 2) {
		console_line("FAIL what=p2p_devices found=%u", n);
		return;
	}
	int there = reaches(&e[0], &e[1]), back = reaches(&e[1], &e[0]);
	command(&e[1], MASTER); /* decodes nothing any more, and then again */
	command(&e[1], MEMORY | MASTER);
	console_line("P2P there=%d back=%d again=%d", there, back, reaches(&e[0], &e[1]));
}

/* Whether @e's DMA copies one word of the network card's table to the next. */
static int reaches_igb(const struct edu *e, const struct edu *igb, uint32_t word)
{
	*reg(igb, IGB_MTA) = word;
	*reg(igb, IGB_MTA + 4) = 0;
	copy(e, igb->addr + IGB_MTA, BUFFER, 0);
	copy(e, BUFFER, igb->addr + IGB_MTA + 4, CMD_OUT);
	return *reg(igb, IGB_MTA + 4) == word;
}

/* Function level reset. Returns whether the table is empty afterwards. */
static int reset(const struct edu *igb)
{
	const struct timespec rest = {.tv_nsec = 200000000};
	unsigned int cap = config_get(igb, 0x34) & 0xff;

	while (cap && (config_get(igb, cap) & 0xff) != CAP_EXPRESS)
		cap = config_get(igb, cap) >> 8 & 0xff;
	uint16_t control = (uint16_t)(config_get(igb, cap + DEVCTL) | DEVCTL_FLR);
	if (!cap || pwrite(igb->config, &control, sizeof(control), cap + DEVCTL) != sizeof(control))
		return 0;
	nanosleep(&rest, NULL);
	return *reg(igb, IGB_MTA) == 0;
}

void p2p_reset_say(void)
{
	struct edu e, igb;

	if (!find(&e, 1, EDU_ID, EDU_BAR_LEN) || !find(&igb, 1, IGB_ID, IGB_BAR_LEN)) {
		console_line("FAIL what=p2p_devices");
		return;
	}
	int before = reaches_igb(&e, &igb, 0x12345678), done = reset(&igb);
	console_line("P2P before=%d reset=%d after=%d", before, done,
		     reaches_igb(&e, &igb, 0x9abcdef0));
}
