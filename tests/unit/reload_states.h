/* SPDX-License-Identifier: MIT */
/* What a guest may have done to the machine of test_reload.c, which alone includes this. */
#ifndef MOLT_TEST_RELOAD_STATES_H
#define MOLT_TEST_RELOAD_STATES_H

#include <signal.h>

#include "devices/virtio/disk.h"
#include "devices/virtio/net.h"
#include "tests/unit/fake_vfio.h"
#include "vmm/console/backend.h"

enum {
	FIRST = 1,
	SECOND,
	EDGE,
	LEVEL,
	DISK,
	NET,
	RNG,
	VSOCK,
	BALLOON
}; /* slots: passed through, the tests' */
#define ECAM_ELSEWHERE 0xd0000000ull

static void quiet(struct machine *m)
{
	for (unsigned slot = FIRST; slot <= BALLOON; slot++)
		config_put(m, slot, PCI_COMMAND, 2, 0);
	for (unsigned slot = FIRST; slot <= SECOND; slot++) {
		config_put(m, slot, PM_CAP + PCI_PM_CTRL, 2, 0);
		config_put(m, slot, PCI_ROM_ADDRESS, 4, 0);
		config_put(m, slot, MSIX_CAP + PCI_MSIX_FLAGS, 2, 0);
		config_put(m, slot, MSI_CAP + PCI_MSI_FLAGS, 2, 0);
	}
	config_put(m, EDGE, 0x40 + PCI_MSIX_FLAGS, 2, 0);
	config_put(m, DISK, 0x40 + PCI_MSIX_FLAGS, 2, 0);
	config_put(m, BALLOON, 0x40 + PCI_MSIX_FLAGS, 2, 0);
}

static void decode(struct machine *m)
{
	for (unsigned slot = FIRST; slot <= BALLOON; slot++)
		config_put(m, slot, PCI_COMMAND, 2,
			   PCI_COMMAND_MEMORY | PCI_COMMAND_IO | PCI_COMMAND_MASTER);
}

static void decode_one(struct machine *m)
{
	config_put(m, SECOND, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
}

/* Each BAR is where the other device's was. */
static void swapped(struct machine *m)
{
	decode(m);
	for (unsigned off = PCI_BASE_ADDRESS_0; off < PCI_BASE_ADDRESS_0 + 6 * 4; off += 4) {
		uint32_t first = config_get(m, FIRST, off, 4);
		config_put(m, FIRST, off, 4, config_get(m, SECOND, off, 4));
		config_put(m, SECOND, off, 4, first);
	}
}

/* One BAR on the other's: it decodes nothing. */
static void collided(struct machine *m)
{
	decode(m);
	config_put(m, SECOND, PCI_BASE_ADDRESS_0, 4, config_get(m, FIRST, PCI_BASE_ADDRESS_0, 4));
}

static void moved(struct machine *m)
{
	decode(m);
	config_put(m, FIRST, PCI_BASE_ADDRESS_0, 4, FAKE_MMIO32 + 0x8000000);
	config_put(m, EDGE, PCI_BASE_ADDRESS_0, 4, FAKE_MMIO32 + 0x8010000);
}

static void with_rom(struct machine *m)
{
	decode(m);
	config_put(m, FIRST, PCI_ROM_ADDRESS, 4, (FAKE_MMIO32 + 0x9000000) | 1);
}

static void asleep(struct machine *m)
{
	decode(m);
	config_put(m, FIRST, PM_CAP + PCI_PM_CTRL, 2, 3);
}

/* Vectors @mask of the first device's, unmasked. */
static void msix_table(struct machine *m, unsigned mask)
{
	decode(m);
	uint64_t table = pci_bar_addr(&vfio_of(m)->pci, 0) + 0x2000;
	for (unsigned i = 0; i < NVEC; i++) {
		guest_write(&m->mmio, table + 16 * i, 8, 0xfee00000 + 0x1000 * mask);
		guest_write(&m->mmio, table + 16 * i + 8, 8,
			    (0x40 + i) | (uint64_t) !(mask >> i & 1) << 32);
	}
}

static void msix(struct machine *m)
{
	msix_table(m, 0x42);
	config_put(m, FIRST, MSIX_CAP + PCI_MSIX_FLAGS, 2, PCI_MSIX_FLAGS_ENABLE);
	config_put(m, EDGE, 0x40 + PCI_MSIX_FLAGS, 2, PCI_MSIX_FLAGS_ENABLE);
}

static void msix_others(struct machine *m)
{
	msix_table(m, 0x8d);
	config_put(m, FIRST, MSIX_CAP + PCI_MSIX_FLAGS, 2, PCI_MSIX_FLAGS_ENABLE);
	config_put(m, SECOND, MSIX_CAP + PCI_MSIX_FLAGS, 2, PCI_MSIX_FLAGS_ENABLE);
}

static void msix_masked(struct machine *m)
{
	msix_table(m, 0xff);
	config_put(m, FIRST, MSIX_CAP + PCI_MSIX_FLAGS, 2,
		   PCI_MSIX_FLAGS_ENABLE | PCI_MSIX_FLAGS_MASKALL);
}

/* The host has fewer vectors today. */
static void msix_few(struct machine *m)
{
	config_put(m, FIRST, MSIX_CAP + PCI_MSIX_FLAGS, 2, 0);
	vf.irq_room = 3;
	msix_table(m, 0xff);
	config_put(m, FIRST, MSIX_CAP + PCI_MSIX_FLAGS, 2, PCI_MSIX_FLAGS_ENABLE);
	vf.irq_room = NVEC;
}

/* And now none: enabled, and without an eventfd. */
static void msix_none(struct machine *m)
{
	config_put(m, FIRST, MSIX_CAP + PCI_MSIX_FLAGS, 2, 0);
	vf.irq_room = 0;
	msix_table(m, 0xff);
	config_put(m, FIRST, MSIX_CAP + PCI_MSIX_FLAGS, 2, PCI_MSIX_FLAGS_ENABLE);
	vf.irq_room = NVEC;
}

static void msi(struct machine *m, unsigned log2n, uint32_t masked)
{
	config_put(m, SECOND, MSI_CAP + PCI_MSI_FLAGS, 2, 0);
	config_put(m, SECOND, MSI_CAP + PCI_MSI_ADDRESS_LO, 4, 0xfee01000 + (log2n << 12));
	config_put(m, SECOND, MSI_CAP + PCI_MSI_DATA_64, 2, 0x60);
	config_put(m, SECOND, MSI_CAP + PCI_MSI_MASK_64, 4, masked);
	config_put(m, SECOND, MSI_CAP + PCI_MSI_FLAGS, 2, PCI_MSI_FLAGS_ENABLE | log2n << 4);
}

static void msi_four(struct machine *m)
{
	msi(m, 2, 0x4);
}

static void msi_one(struct machine *m)
{
	msi(m, 0, 0);
}

static void intx_off(struct machine *m)
{
	config_put(m, LEVEL, PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_INTX_DISABLE);
}

static uint64_t bar_of(struct machine *m, unsigned slot)
{
	return pci_bar_addr(vfio_of(m)->pci.host->devs[slot], 0);
}

/* A driver has started the virtio device in @slot: one queue of @size with rings at @gpa. */
static void started(struct machine *m, unsigned slot, uint64_t gpa, uint32_t size)
{
	decode(m);
	uint64_t bar = bar_of(m, slot);
	const uint64_t regs[][3] = {
		{20, 1, 0},
		{20, 1, 3},
		{8, 4, 1},
		{12, 4, 1},
		{20, 1, 11},
		{22, 2, 0},
		{24, 2, size},
		{26, 2, 1},
		{32, 4, (uint32_t)gpa},
		{36, 4, gpa >> 32},
		{40, 4, (uint32_t)gpa + 0x1000},
		{44, 4, gpa >> 32},
		{48, 4, (uint32_t)gpa + 0x2000},
		{52, 4, gpa >> 32},
		{28, 2, 1},
		{20, 1, 15},
	};
	for (unsigned i = 0; i < ARRAY_LEN(regs); i++)
		guest_write(&m->mmio, bar + regs[i][0], (unsigned)regs[i][1], regs[i][2]);
	assert_int_equal(guest_read(&m->mmio, bar + 28, 2), 1);
}

static void with_msix(struct machine *m, unsigned slot, uint64_t gpa)
{
	started(m, slot, gpa, 64);
	guest_write(&m->mmio, bar_of(m, slot) + 0x4010, 8, 0xfee00000);
	guest_write(&m->mmio, bar_of(m, slot) + 0x4018, 8, 0x51);
	config_put(m, slot, 0x40 + PCI_MSIX_FLAGS, 2, PCI_MSIX_FLAGS_ENABLE);
}

static void with_line(struct machine *m, unsigned slot, uint64_t gpa)
{
	started(m, slot, gpa, 128);
	config_put(m, slot, 0x40 + PCI_MSIX_FLAGS, 2, 0);
}

static void disk_msix(struct machine *m)
{
	with_msix(m, DISK, 0x100000);
}

static void disk_line(struct machine *m)
{
	with_line(m, DISK, 4 * GIB);
}

static void balloon_msix(struct machine *m)
{
	with_msix(m, BALLOON, 0x110000);
}

static void balloon_line(struct machine *m)
{
	with_line(m, BALLOON, 4 * GIB + 0x10000);
}

static struct net *net_of(struct machine *m)
{
	return (struct net *)machine_device(m, "net", NULL);
}

static void net_stuck(struct machine *m)
{
	net_of(m)->state.up = 0;
	net_of(m)->state.rx_len = 300;
	net_of(m)->state.tx_len = 20;
	net_of(m)->rx_at = 0;
}

/* No guest can do that; a state can say it. */
static void ecam_elsewhere(struct machine *m)
{
	((struct pci_host *)machine_device(m, "pci-host", NULL))->state.ecam_base = ECAM_ELSEWHERE;
}

static void old_devices(struct machine *m)
{
	struct console_state *s = &m->console->state;
	m->counters.state = (struct counters_state){.exits = 3, .failures = {1, 2}};
	m->paused = (struct paused_state){
		.since_s = 7, .uid = 8, .pid = 9, .code = 10, .reason = "crashed"};
	guest_write(&m->pio, 0x3fb, 1, 0x03);
	guest_write(&m->pio, 0x3ff, 1, 0x5a);
	guest_write(&m->pio, 0x3f9, 1, 0x05);
	guest_write(&m->pio, 0x70, 1, 0x33);
	guest_write(&m->pio, 0x71, 1, 0x77);
	guest_write(&m->pio, 0x602, 2, 0x100);
	guest_write(&m->pio, 0xcf8, 4, 0x80000800);
	decode(m);
	const struct pci_dev *edge = vfio_of(m)->pci.host->devs[EDGE];
	guest_write(&m->mmio, pci_bar_addr(edge, 0) + 8, 8, 0x1122334455667788);
	*s = (struct console_state){.escape = 1,
				    .raw = 1,
				    .refused = 1,
				    .unsent = 4,
				    .ring_len = 7,
				    .in_len = 2,
				    .termios = {9, 8, 7},
				    .in = "pw",
				    .ring = "secret "};
}

static void asked_back(struct machine *m)
{
	const uint64_t one = 1;
	m->leader = pthread_self();
	signal(MACHINE_WAKE_SIGNAL, SIG_IGN);
	assert_int_equal(write(vfio_of(m)->trouble_fd[VFIO_TROUBLE_REQUEST], &one, sizeof(one)),
			 sizeof(one));
	serve_loop(m);
}

/* There is no way back from here: the last one. */
static void ejected(struct machine *m)
{
	msix(m);
	asked_back(m);
	guest_write(&m->pio, 0x614, 4, 1 << FIRST);
	assert_int_equal(m->gone_slots, 1 << FIRST);
}

static const struct {
	const char *name;
	void (*make)(struct machine *m);
} states[] = {
	{"quiet", quiet},
	{"decode", decode},
	{"decode one", decode_one},
	{"swapped", swapped},
	{"collided", collided},
	{"moved", moved},
	{"with ROM", with_rom},
	{"asleep", asleep},
	{"MSI-X", msix},
	{"other MSI-X", msix_others},
	{"MSI-X masked", msix_masked},
	{"MSI-X, few vectors", msix_few},
	{"MSI-X, no vector", msix_none},
	{"MSI of 4", msi_four},
	{"MSI of 1", msi_one},
	{"INTx off", intx_off},
	{"disk with MSI-X", disk_msix},
	{"disk with its line", disk_line},
	{"balloon with MSI-X", balloon_msix},
	{"balloon with its line", balloon_line},
	{"net that is stuck", net_stuck},
	{"ECAM elsewhere", ecam_elsewhere},
	{"old devices", old_devices},
	{"asked back", asked_back},
	{"ejected", ejected},
};

/* Back to where a driver begins, so that eventfds of a kind that was on before are other ones. */
static void base(struct machine *m)
{
	struct pci_host *host = (struct pci_host *)machine_device(m, "pci-host", NULL);
	host->state.ecam_base = FAKE_ECAM;
	quiet(m);
	m->console->state = (struct console_state){0};
	m->paused = (struct paused_state){0};
	m->counters = (struct counters){0};
}

#endif
