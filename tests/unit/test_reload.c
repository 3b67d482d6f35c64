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
#include "devices/virtio/balloon.h"
#include "devices/virtio/disk.h"
#include "devices/virtio/net.h"
#include "devices/virtio/rng.h"
#include "devices/virtio/vsock.h"
#include "tests/unit/any_vhost.h"
#include "tests/unit/reload_states.h"
#include "tests/unit/tree.h"
#include "vmm/console/backend.h"
#include "vmm/device.h"

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

static int open_beside_vfio(struct device *dev, struct error *err)
{
	return virtio_dev_open(&((struct balloon *)dev)->virtio, err);
}

static struct machine *reload_machine(bool fresh)
{
	static char edge[32], level[64];
	static struct device_class balloon;
	struct machine *m = vfio_machine_of(BDF ",unbind=eject", fresh);
	struct error err = {0};
	struct state_section ram = {.node = "ram", .cls = &ram_state_class, .state = &m->ram.state};
	fake_vfio_second(m);
	/* A machine with a device that is passed through has none (test_balloon); here only its state counts. */
	balloon = balloon_class;
	balloon.open = open_beside_vfio;
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
			 ?: machine_add_device(m, &vsock_class, "cid=42", &err)
			 ?: machine_add_device(m, &balloon, NULL, &err);
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
static void add_rings(struct lines *l, struct machine *m, const struct virtio_dev *v)
{
	const struct virtq *q = &v->queue[0];
	add(l, "%s rings %d %tx %tx %tx next %u quiet %d", v->owner->name, q->desc != NULL,
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
	add_rings(&l, m, &((struct disk *)machine_device(m, "disk", NULL))->virtio);
	add_rings(&l, m, &((struct balloon *)machine_device(m, "balloon", NULL))->virtio);
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

/* What the guest uses of the balloon and this program does not have. */
static void features_that_are_not_offered(void **state)
{
	struct machine *m = reload_machine(true);
	struct error err = {0};
	vfio_run(m);
	balloon_line(m);
	((struct balloon *)machine_device(m, "balloon", NULL))->state.virtio.features |=
		1ull << VIRTIO_BALLOON_F_STATS_VQ;
	struct fake_blob blob = save(m);
	struct machine *next = reload_machine(false);
	assert_int_equal(fake_load(next, &blob, &err), -EOPNOTSUPP);
	assert_non_null(strstr(err.text, "balloon: the guest uses features"));
	reload_free(next);
	end(m);
	free(blob.data);
}

/* None is left out but KVM's and the program's own; the IOAPIC's is in test_ioapic. */
static void every_class_is_there(void **state)
{
	static const char *const others[] = {"cpu", "x86", "svm", "ioapic", "program"};
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
					   TEST(features_that_are_not_offered),
					   TEST(every_class_is_there)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
