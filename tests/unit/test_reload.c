/* SPDX-License-Identifier: MIT */
/*
 * A successor loads a state that was offered while the guest ran, and later the one of the pause. Load A, then load B,
 * is load B: here each pair of a number of states, of every device, and all that a load makes, which is the state that
 * would be saved, regions of the buses, memory slots, sources of interrupts and their routes.
 */
#define FAKE_LINKAGE /* the fakes, though the real ones are linked in */
#include "tests/unit/fake_vfio.h"

#include <stdio.h>

#include "cpr/inspect.h"
#include "devices/pc/pc.h"
#include "devices/virtio/disk.h"
#include "devices/virtio/net.h"
#include "devices/virtio/rng.h"
#include "devices/virtio/vsock.h"
#include "tests/unit/any_vhost.h"
#include "tests/unit/tree.h"
#include "vmm/console/backend.h"
#include "vmm/device.h"

enum { FIRST = 1, SECOND, EDGE, LEVEL, DISK, NET }; /* slots: passed through, the tests' */
#define ECAM_ELSEWHERE 0xd0000000ull

void machine_stop(struct machine *m, int code, const char *reason)
{
	fail_msg("the machine is stopped: %s", reason);
}

static long any_ioctl(int fd, unsigned long request, void *arg)
{
	return takes_all(request, arg) ? 0 : fake_vfio_ioctl(fd, request, arg);
}

static int setup(void **state)
{
	fake_vfio_setup(state);
	fake.ioctl = any_ioctl;
	vf.irq_room = NVEC;
	return 0;
}

/* ---- the machine: one device of each class at least ---- */

static struct machine *reload_machine(bool fresh)
{
	static char edge[32], level[64];
	struct machine *m = vfio_machine(fresh);
	struct error err = {0};
	struct state_section ram = {.node = "ram", .cls = &ram_state_class, .state = &m->ram.state};
	fake_vfio_second(m);
	if (fresh) {
		snprintf(edge, sizeof(edge), "trigger=%d", eventfd(0, 0));
		snprintf(level, sizeof(level), "trigger=%d,unmask=%d", eventfd(0, 0),
			 eventfd(0, 0));
	}
	int rc = state_register(&m->tree, &ram, &err)
			 ?: paused_register(m, &err)
			 ?: counters_register(m, &err)
			 ?: console_open(m, "none", &m->console, &err)
			 ?: machine_add_device(m, &testdev_class, edge, &err)
			 ?: machine_add_device(m, &testdev_class, level, &err)
			 ?: machine_add_device(m, &disk_class, "disk.raw", &err)
			 ?: machine_add_device(m, &net_class, "user", &err)
			 ?: machine_add_device(m, &rng_class, NULL, &err)
			 ?: machine_add_device(m, &vsock_class, "cid=42", &err);
	((struct disk *)machine_device(m, "disk", NULL))->state.block_len = 512;
	if (!rc && fresh)
		rc = fdset_keep(&m->fds, "disk@0:file", memfd_create("disk", 0), &err)
			     ?: fdset_keep(&m->fds, "net@0:link", socket(AF_UNIX, SOCK_STREAM, 0),
					   &err);
	for (unsigned i = 0; !rc && devices_fixed[i]; i++)
		if (devices_fixed[i] != &pci_host_class)
			rc = machine_add_device(m, devices_fixed[i], NULL, &err);
	if (rc)
		fail_msg("%s", err.text);
	return m;
}

static void reload_free(struct machine *m)
{
	pool_free(m->console);
	vfio_machine_free(m);
}

/* ---- what a guest may have done ---- */

static void quiet(struct machine *m)
{
	for (unsigned slot = FIRST; slot <= NET; slot++)
		config_put(m, slot, PCI_COMMAND, 2, 0);
	for (unsigned slot = FIRST; slot <= SECOND; slot++) {
		config_put(m, slot, PM_CAP + PCI_PM_CTRL, 2, 0);
		config_put(m, slot, PCI_ROM_ADDRESS, 4, 0);
		config_put(m, slot, MSIX_CAP + PCI_MSIX_FLAGS, 2, 0);
		config_put(m, slot, MSI_CAP + PCI_MSI_FLAGS, 2, 0);
	}
	config_put(m, EDGE, 0x40 + PCI_MSIX_FLAGS, 2, 0);
	config_put(m, DISK, 0x40 + PCI_MSIX_FLAGS, 2, 0);
}

static void decode(struct machine *m)
{
	for (unsigned slot = FIRST; slot <= NET; slot++)
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

static uint64_t disk_bar(struct machine *m)
{
	return pci_bar_addr(vfio_of(m)->pci.host->devs[DISK], 0);
}

/* A driver has started it: one queue of @size with rings at @gpa. */
static void disk_started(struct machine *m, uint64_t gpa, uint32_t size)
{
	decode(m);
	uint64_t bar = disk_bar(m);
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
	assert_int_equal(((struct disk *)machine_device(m, "disk", NULL))->state.virtio.enabled[0],
			 1);
}

static void disk_msix(struct machine *m)
{
	disk_started(m, 0x100000, 64);
	guest_write(&m->mmio, disk_bar(m) + 0x4010, 8, 0xfee00000);
	guest_write(&m->mmio, disk_bar(m) + 0x4018, 8, 0x51);
	config_put(m, DISK, 0x40 + PCI_MSIX_FLAGS, 2, PCI_MSIX_FLAGS_ENABLE);
}

static void disk_line(struct machine *m)
{
	disk_started(m, 4 * GIB, 128);
	config_put(m, DISK, 0x40 + PCI_MSIX_FLAGS, 2, 0);
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
	{"net that is stuck", net_stuck},
	{"ECAM elsewhere", ecam_elsewhere},
	{"old devices", old_devices},
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

/* ---- all that a load makes, as text ---- */

static int line_cmp(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

struct lines {
	char *text[512];
	unsigned n;
};

__attribute__((format(printf, 2, 3))) static void add(struct lines *l, const char *format, ...)
{
	va_list ap;
	va_start(ap, format);
	assert_true(l->n < ARRAY_LEN(l->text));
	assert_true(vasprintf(&l->text[l->n++], format, ap) >= 0);
	va_end(ap);
}

static void lines_free(struct lines *l)
{
	for (unsigned i = 0; i < l->n; i++)
		free(l->text[i]);
}

static void add_bus(struct lines *l, const char *name, const struct bus *bus)
{
	for (unsigned i = 0; i < bus->n; i++)
		add(l, "%s %llx+%llx %s", name, (unsigned long long)bus->regions[i].base,
		    (unsigned long long)bus->regions[i].len, bus->regions[i].name);
}

/* Slots by what is behind them: each program has its own mapping of that. */
static void add_slots(struct lines *l, struct machine *m)
{
	for (unsigned i = 0; i < VM_MAX_SLOTS; i++)
		if (m->vm.slots[i].len)
			add(l, "slot %llx+%llx", (unsigned long long)m->vm.slots[i].gpa,
			    (unsigned long long)m->vm.slots[i].len);
}

static void add_sources(struct lines *l, struct machine *m)
{
	for (const struct irq_source *s = m->irq.sources; s; s = s->next)
		if (s->wanted)
			add(l, "source kind %d fd %d %d gsi %u wanted %llx %x", s->kind, s->fd,
			    s->unmask_fd, s->gsi, (unsigned long long)s->msi_addr, s->msi_data);
		else
			add(l, "source kind %d fd %d %d gsi %u", s->kind, s->fd, s->unmask_fd,
			    s->gsi);
	for (unsigned gsi = 0; gsi < IRQ_MAX_GSI; gsi++)
		if (m->irq.gsi_used[gsi / 8] & 1u << gsi % 8)
			add(l, "gsi %u", gsi);
	assert_int_equal(irq_routes_commit(&m->irq, NULL), 0);
	for (unsigned i = 0; i < fake.nmsi; i++)
		add(l, "route %u %x %x", fake.msi[i].gsi, fake.msi[i].u.msi.address_lo,
		    fake.msi[i].u.msi.data);
}

/* Where the rings are, in each program's own mapping. */
static void add_disk(struct lines *l, struct machine *m)
{
	const struct virtio_dev *v = &((struct disk *)machine_device(m, "disk", NULL))->virtio;
	const struct virtq *q = &v->queue[0];
	add(l, "disk rings %d %tx %tx %tx next %u quiet %d", q->desc != NULL,
	    q->desc ? (uint8_t *)q->desc - m->ram.hva : 0,
	    q->desc ? (uint8_t *)q->avail - m->ram.hva : 0,
	    q->desc ? (uint8_t *)q->used - m->ram.hva : 0, q->next, v->quiet);
}

static void add_device(struct lines *l, const struct pci_dev *pci)
{
	for (unsigned i = 0; i < PCI_BARS; i++)
		if (pci->bars[i].mapped)
			add(l, "%s BAR %u at %llx", pci->owner->name, i,
			    (unsigned long long)pci->bars[i].addr);
	add(l, "%s MSI-X %d MSI %d", pci->owner->name, pci->msix ? pci->msix->enabled : -1,
	    pci->msi ? pci->msi->enabled : -1);
}

static struct lines view(struct machine *m)
{
	const struct pci_host *host = (struct pci_host *)machine_device(m, "pci-host", NULL);
	struct lines l = {0};
	add_bus(&l, "mmio", &m->mmio);
	add_bus(&l, "pio", &m->pio);
	add_slots(&l, m);
	add_sources(&l, m);
	for (unsigned i = 0; i < host->ndevs; i++)
		add_device(&l, host->devs[i]);
	const struct net *net = (struct net *)machine_device(m, "net", NULL);
	add_disk(&l, m);
	add(&l, "net %u waits %u %u at %u told %u", net->config.status, net->state.rx_len,
	    net->state.tx_len, net->rx_at, net->pair[0].blocked + net->pair[0].starved);
	add(&l, "console fds %d %d terminal %d", m->console->in_fd, m->console->out_fd,
	    m->console->terminal);
	qsort(l.text, l.n, sizeof(l.text[0]), line_cmp);
	return l;
}

static void assert_same_view(struct machine *twice, struct machine *once, const char *what)
{
	struct lines a = view(twice), b = view(once);
	for (unsigned i = 0; i < a.n || i < b.n; i++)
		if (i >= a.n || i >= b.n || strcmp(a.text[i], b.text[i]))
			fail_msg("%s: '%s', expected '%s'", what, i < a.n ? a.text[i] : "nothing",
				 i < b.n ? b.text[i] : "nothing");
	lines_free(&a);
	lines_free(&b);
}

/* ---- the tests ---- */

static struct machine *taken(const struct fake_blob *blob)
{
	struct machine *m = reload_machine(false);
	struct error err = {0};
	if (fake_load(m, blob, &err))
		fail_msg("%s", err.text);
	return m;
}

static struct fake_blob save(struct machine *m)
{
	irq_detach_all(&m->irq, NULL);
	struct fake_blob blob = fake_save(m);
	irq_attach_all(&m->irq, IRQ_MSI);
	irq_attach_all(&m->irq, IRQ_LEVEL);
	return blob;
}

/* The incumbent, with the eventfds that it has opened. */
static void end(struct machine *m)
{
	irq_detach_all(&m->irq, NULL);
	for (unsigned i = 0; i < m->fds.n; i++) {
		int fd = m->fds.e[i].fd;
		if (fd != vf.container && fd != vf.group && fd != vf.device && fd != vf.second)
			close(fd);
	}
	reload_free(m);
}

static void pair(unsigned a, unsigned b, bool anew)
{
	struct machine *m = reload_machine(true);
	struct error err = {0};
	char what[96];
	snprintf(what, sizeof(what), "%s, %s%s", states[a].name, anew ? "reset, " : "",
		 states[b].name);
	vfio_run(m);
	states[a].make(m);
	struct fake_blob offered = save(m);
	struct machine *twice = taken(&offered);
	if (anew)
		base(m);
	states[b].make(m);
	struct fake_blob last = save(m);
	if (fake_load_again(twice, &last, &err))
		fail_msg("%s: %s", what, err.text);
	struct machine *once = taken(&last);
	assert_same_view(twice, once, what);
	struct fake_blob again = fake_save(twice);
	tree_assert_equal(again.data, last.data);
	free(again.data);
	free(last.data);
	free(offered.data);
	reload_free(once);
	reload_free(twice);
	end(m);
}

static void each_pair(void **state)
{
	for (unsigned a = 0; a < ARRAY_LEN(states); a++)
		for (unsigned b = 0; b < ARRAY_LEN(states); b++)
			for (int anew = 0; anew < 2; anew++) {
				pair(a, b, anew);
				fake_vfio_teardown(NULL);
				setup(NULL);
			}
}

/* A state that says what is there already costs nothing of what is dear in a pause. */
static void the_same_again(void **state)
{
	struct machine *m = reload_machine(true);
	struct error err = {0};
	vfio_run(m);
	msix(m);
	msi_four(m);
	struct fake_blob blob = save(m);
	struct machine *next = taken(&blob);
	assert_int_equal(irq_routes_commit(&next->irq, &err), 0);
	/* What MSI has no use for survives where a source stays registered. */
	for (struct irq_source *s = next->irq.sources; s; s = s->next)
		s->unmask_fd = s->kind == IRQ_MSI ? 4711 : s->unmask_fd;
	fake.slot_calls = fake.uploads = 0;
	if (fake_load_again(next, &blob, &err))
		fail_msg("%s", err.text);
	assert_int_equal(irq_routes_commit(&next->irq, &err), 0);
	assert_int_equal(fake.slot_calls, 0);
	assert_int_equal(fake.uploads, 0);
	for (struct irq_source *s = next->irq.sources; s; s = s->next)
		assert_true(s->kind == IRQ_LEVEL || s->unmask_fd == 4711);
	reload_free(next);
	end(m);
	free(blob.data);
}

/* None is left out but KVM's, the program's own and the balloon's, which no device may be beside (test_balloon). */
static void every_class_is_there(void **state)
{
	static const char *const others[] = {"cpu", "x86", "svm", "program", "balloon"};
	static struct schema own;
	struct machine *m = reload_machine(true);
	vfio_run(m);
	schema_own(&own);
	for (unsigned i = 0; i < own.n; i++) {
		bool there = false;
		for (unsigned k = 0; k < m->tree.n; k++)
			there |= !strcmp(m->tree.sections[k].cls->name, own.classes[i].name);
		for (unsigned k = 0; k < ARRAY_LEN(others); k++)
			there |= !strcmp(others[k], own.classes[i].name);
		if (!there)
			fail_msg("no device of class %s", own.classes[i].name);
	}
	end(m);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, fake_vfio_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {TEST(each_pair), TEST(the_same_again),
					   TEST(every_class_is_there)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
