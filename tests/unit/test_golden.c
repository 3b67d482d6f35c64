/* SPDX-License-Identifier: MIT */
/*
 * State saved by every release, and by this program last, is in tests/golden/ as source; the build
 * compiles it, and $MOLT_GOLDEN lists the trees, oldest first. Each is loaded here into a machine of
 * this program, values compared. And what this program saves must equal the newest, so that nobody
 * changes the format without seeing it: scripts/golden writes it anew.
 *
 * The machine is the unit tests' (fake_vfio.h): the same everywhere. Devices load as they do in an
 * update; what belongs to KVM or to the process is loaded, but not used.
 */
#define FAKE_LINKAGE /* the fakes, though the real ones are linked in: their values are in the trees */
#include "tests/unit/fake_vfio.h"

#include <stdio.h>

#include "cpr/state/dump.h"
#include "cpr/program.h"
#include "cpr/inspect.h"
#include "devices/pc/pc.h"
#include "devices/virtio/balloon.h"
#include "devices/virtio/disk.h"
#include "devices/virtio/net.h"
#include "devices/virtio/rng.h"
#include "devices/virtio/vsock.h"
#include "tests/unit/any_vhost.h"
#include "tests/unit/blob.h"
#include "tests/unit/tree.h"
#include "vmm/arch/x86_64/cpu.h"
#include "vmm/base/pool.h"
#include "vmm/console/backend.h"

#define SLOT	     1 /* of the passed-through device */
#define BLOB_MAX     (1 << 20)
#define GOLDEN_BYTES 49947

static long golden_ioctl(int fd, unsigned long request, void *arg)
{
	return takes_all(request, arg) ? 0 : fake_vfio_ioctl(fd, request, arg);
}

static int setup(void **state)
{
	fake_vfio_setup(state);
	fake.ioctl = golden_ioctl;
	return 0;
}

/* State whose owner is not in this machine. */
struct rest {
	struct program program;
	struct x86_state x86;
	struct vcpu_state cpu;
	struct svm_state svm;
	struct ioapic_state ioapic;
	struct balloon_state balloon; /* this one has a passed-through device */
};

/* Values that tell elements and bytes apart, sparsely: the file is to be read. */
static void fill(const struct state_class *cls, void *state)
{
	for (uint32_t i = 0; i < cls->nfields; i++) {
		const struct field *f = &cls->fields[i];
		uint8_t *p = (uint8_t *)state + f->offset;
		uint32_t n = f->len_offset == FIELD_FIXED || f->count < 3 ? f->count : 3;
		if (f->len_offset != FIELD_FIXED)
			memcpy((uint8_t *)state + f->len_offset, &n, sizeof(n));
		for (uint32_t k = 0; k < n && k < 3; k++)
			for (uint32_t b = 0; b < f->size && b < 8; b++)
				p[k * f->size + b] = (uint8_t)(16 * i + 4 * k + b + 1);
	}
}

static void add(struct machine *m, const char *node, const struct state_class *cls, void *data)
{
	struct state_section s = {.cls = cls, .state = data};
	snprintf(s.node, sizeof(s.node), "%s", node);
	assert_int_equal(state_register(&m->tree, &s, NULL), 0);
}

/* With virtio devices, SVM and an IOAPIC, unless a state is loaded that is older. */
static struct machine *golden_machine(bool fresh, bool virtio, struct rest *rest)
{
	static const struct device_class *const devices[] = {&serial_class, &cmos_class,
							     &power_class};
	struct machine *m = vfio_machine_of(virtio ? BDF ",unbind=eject" : BDF, fresh);
	struct error err = {0};
	add(m, "program", &program_state_class, &rest->program);
	add(m, "ram", &ram_state_class, &m->ram.state);
	assert_int_equal(paused_register(m, &err) ?: counters_register(m, &err), 0);
	assert_int_equal(console_open(m, "none", &m->console, &err), 0);
	add(m, "x86", &x86_state_class, &rest->x86);
	add(m, "cpu@0", &cpu_state_class, &rest->cpu);
	for (unsigned i = 0; i < ARRAY_LEN(devices); i++)
		assert_int_equal(machine_add_device(m, devices[i], NULL, &err), 0);
	static char arg[32];
	if (fresh)
		snprintf(arg, sizeof(arg), "trigger=%d", eventfd(0, 0));
	if (machine_add_device(m, &testdev_class, arg, &err))
		fail_msg("%s", err.text);
	if (virtio)
		add(m, "svm@0", &svm_state_class, &rest->svm);
	if (virtio)
		add(m, "ioapic", &ioapic_state_class, &rest->ioapic);
	if (virtio)
		add(m, "balloon", balloon_class.state, &rest->balloon);
	if (virtio && (machine_add_device(m, &disk_class, "disk.raw,serial=golden", &err) ||
		       machine_add_device(m, &net_class, "user,mac=52:54:00:12:34:56", &err) ||
		       machine_add_device(m, &rng_class, NULL, &err) ||
		       machine_add_device(m, &vsock_class, "cid=42", &err)))
		fail_msg("%s", err.text);
	if (virtio && fresh) {
		assert_int_equal(fdset_keep(&m->fds, "disk@0:file", memfd_create("disk", 0), &err),
				 0);
		assert_int_equal(
			fdset_keep(&m->fds, "net@0:link", socket(AF_UNIX, SOCK_STREAM, 0), &err),
			0);
	}
	return m;
}

/* As a driver leaves it: queues with their rings in memory, and an interrupt that is not acknowledged. */
static void live_virtio(struct virtio_state *s, uint64_t features, uint64_t gpa)
{
	s->features = features;
	s->status = 0xf;
	s->isr = 1;
	s->config_vector = 0;
	s->feature_select = s->driver_feature_select = 1;
	for (uint32_t q = 0; q < s->queues; q++, gpa += 0x3000) {
		s->desc[q] = gpa;
		s->avail[q] = gpa + 0x1000;
		s->used[q] = gpa + 0x2000;
		s->size[q] = 64;
		s->enabled[q] = 1;
		s->vector[q] = q + 1;
		s->index[q] = 0xfffe - q;
	}
}

static void live_disk(struct disk *disk)
{
	disk->state.sectors = 2048;
	disk->state.block_len = 512;
	live_virtio(&disk->state.virtio, 0x130000240, 0x100000);
}

/* With a part of a frame that has come, and the rest of one that goes. */
static void live_net(struct net *net)
{
	live_virtio(&net->state.virtio, 0x130018020, 0x110000);
	net->state.virtio.queue_select = 1;
	net->state.rx_len = 5;
	memcpy(net->state.rx, "\0\0\0\x3cx", 5);
	net->state.tx_len = 3;
	memcpy(net->state.tx, "end", 3);
	net->state.up = 0;
}

/* What a guest and its host did to it: nothing stays at what it is after reset. */
static void live(struct machine *m, struct rest *rest)
{
	struct power_state *power = fake_section(m, "power@600")->state;
	memset(rest, 0, sizeof(*rest));
	strcpy(rest->program.path, "/usr/bin/molt");
	strcpy(rest->program.folder, "/var/lib/guests");
	memcpy(rest->program.args, "molt\0run", 9);
	rest->program.args_len = 9;
	rest->program.updates = 3;
	rest->program.reboots = 2;
	m->counters.state = (struct counters_state){.failures = {1, 2},
						    .pauses = {3, 4},
						    .pauses_ns = 5,
						    .exits = 6,
						    .interrupts = 7,
						    .console_dropped = 8,
						    .reported = 9};
	m->paused = (struct paused_state){
		.since_s = 4, .uid = 5, .pid = 6, .code = 7, .reason = "triple fault"};
	fill(&x86_state_class, &rest->x86);
	fill(&cpu_state_class, &rest->cpu);
	fill(&svm_state_class, &rest->svm);
	fill(&ioapic_state_class, &rest->ioapic);
	rest->balloon.virtio.queues = 3;
	live_virtio(&rest->balloon.virtio, 0x130000020, 0x120000);
	m->console->state = (struct console_state){.escape = 1,
						   .raw = 1,
						   .refused = 1,
						   .unsent = 7,
						   .ring_len = 14,
						   .in_len = 2,
						   .termios = {1, 2, 3},
						   .in = "ls",
						   .ring = "login: \033[0mabc"};

	guest_write(&m->pio, 0x3f9, 1, 0x05); /* IER */
	guest_write(&m->pio, 0x3fb, 1, 0x03); /* LCR: 8N1 */
	guest_write(&m->pio, 0x3ff, 1, 0x5a); /* SCR */
	guest_write(&m->pio, 0x70, 1, 0x33);
	guest_write(&m->pio, 0x71, 1, 0x77);
	*power = (struct power_state){0};
	fill(&power_state_class, power);
	guest_write(&m->pio, 0xcf8, 4, 0x80000800);
	/* As a driver leaves it: MSI-X on, vectors 1 and 6 unmasked, decoding memory. */
	config_put(m, SLOT, PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
	uint64_t table = pci_bar_addr(&vfio_of(m)->pci, 0) + 0x2000;
	for (unsigned i = 1; i <= 6; i += 5) {
		guest_write(&m->mmio, table + 16 * i, 8, 0xfee00000);
		guest_write(&m->mmio, table + 16 * i + 8, 8, 0x40 + i);
	}
	config_put(m, SLOT, MSIX_CAP + PCI_MSIX_FLAGS, 2, PCI_MSIX_FLAGS_ENABLE);
	/* The host wants it back, and the guest has not heard of it. */
	struct pci_slots *slots = (struct pci_slots *)machine_device(m, "pci-slots", NULL);
	slots->state.ask = 1 << SLOT;
	slots->state.asked_s[SLOT] = 77;
	live_disk((struct disk *)machine_device(m, "disk", NULL));
	live_net((struct net *)machine_device(m, "net", NULL));
}

static struct machine *golden_live(struct rest *rest)
{
	struct machine *m = golden_machine(true, true, rest);
	vfio_run(m);
	live(m, rest);
	return m;
}

/* The blob, without descriptors: their identities are the host's. */
static void *saved(struct machine *m)
{
	static const struct state_header header = {.version = "golden", .build_id = "0"};
	static struct fdset none;
	struct error err = {0};
	size_t len;
	void *buf = aligned_alloc(8, BLOB_MAX);
	if (state_save(&m->tree, &none, &header, buf, BLOB_MAX, &len, &err))
		fail_msg("save: %s", err.text);
	return buf;
}

static void machine_free(struct machine *m)
{
	pool_free(m->console);
	vfio_machine_free(m);
}

/* A tree of the build's, in the form of a blob. */
static void *golden_read(const char *path, size_t *len)
{
	void *buf = aligned_alloc(8, BLOB_MAX);
	FILE *in = fopen(path, "r");
	if (!in)
		fail_msg("%s: %s", path, strerror(errno));
	size_t n = fread(buf, 1, BLOB_MAX / 2, in);
	fclose(in);
	assert_int_equal(fdt_check_full(buf, n), 0);
	*len = blob_seal(buf);
	return buf;
}

/* Loads @golden into a new machine, which has the descriptors of @live, and returns what that would
 * save. */
static void *reloaded(const void *golden, size_t len, const struct machine *live)
{
	static struct state_blob blob;
	static struct rest rest;
	struct error err = {0};
	memset(&rest, 0xa5, sizeof(rest));
	bool virtio = memmem(golden, len, "disk@0", strlen("disk@0"));
	struct machine *m = golden_machine(false, virtio, &rest);
	for (unsigned i = 0; i < live->fds.n; i++)
		assert_int_equal(fdset_keep(&m->fds, live->fds.e[i].name, live->fds.e[i].fd, &err),
				 0);
	if (!memmem(golden, len, "irq_unused", strlen("irq_unused")))
		fake_all_vectors(m);
	int rc = fake_realize(m, &err);
	if (!rc)
		rc = state_open(&blob, golden, len, &err);
	if (!rc)
		rc = state_claim(&blob, "fds") < 0;
	if (!rc)
		rc = fake_load_devices(m, &blob, &err);
	if (rc)
		fail_msg("load: %s", err.text);
	void *again = saved(m);
	machine_free(m);
	return again;
}

/* All that @golden says, @now says too; it may say more. */
static void assert_contains(const void *now, const void *golden)
{
	int node, prop, at, len, got_len;
	fdt_for_each_subnode(node, golden, 0) {
		const char *name, *where = fdt_get_name(golden, node, NULL);
		at = fdt_subnode_offset(now, 0, where);
		if (at < 0)
			fail_msg("node %s is lost", where);
		fdt_for_each_property_offset(prop, golden, node) {
			const void *want = fdt_getprop_by_offset(golden, prop, &name, &len);
			const void *got = fdt_getprop(now, at, name, &got_len);
			if (strcmp(name, "version") && strcmp(name, "needs") &&
			    (!got || got_len != len || memcmp(got, want, (size_t)len)))
				fail_msg("node %s: field %s is lost or changed", where, name);
		}
	}
}

static const char *newest; /* path of the last tree */

static void every_golden_state_is_loaded(void **state)
{
	static struct rest rest;
	const char *list = getenv("MOLT_GOLDEN");
	if (!list || !*list)
		fail_msg("MOLT_GOLDEN names no trees (ctest sets it)");
	struct machine *m = golden_live(&rest);
	char *copy = strdup(list), *left = copy;
	for (const char *path; (path = strsep(&left, ":"));) {
		size_t len;
		void *golden = golden_read(path, &len);
		void *again = reloaded(golden, len, m);
		assert_contains(again, golden);
		newest = list + (path - copy);
		free(golden);
		free(again);
	}
	free(copy);
	machine_free(m);
}

static void this_program_saves_the_newest(void **state)
{
	assert_non_null(newest);
	static struct rest rest;
	struct machine *m = golden_live(&rest);
	size_t len;
	void *golden = golden_read(newest, &len), *now = saved(m);
	/* Part of the pause: a larger one takes longer. */
	assert_int_equal(fdt_totalsize(now), GOLDEN_BYTES);
	print_message("where this fails, the format of the state was changed: CONTRIBUTING.md\n");
	tree_assert_equal(now, golden);
	/* And it loads that without losing anything. */
	void *again = reloaded(golden, len, m);
	tree_assert_equal(again, golden);
	free(golden);
	free(again);
	free(now);
	machine_free(m);
}

/* The machine has a node of each class that this program knows, and none of another; and nodes are
 * named after their classes. */
static void the_machine_has_all_classes(void **state)
{
	static struct schema own, machine;
	static struct state_blob blob;
	static struct rest rest;
	struct machine *m = golden_live(&rest);
	struct error err = {0};
	void *now = saved(m);
	assert_int_equal(state_open(&blob, now, BLOB_MAX, &err), 0);
	assert_int_equal(schema_of_blob(&machine, &blob, &err), 0);
	schema_own(&own);
	for (unsigned i = 0; i < own.n; i++)
		if (!schema_find(&machine, own.classes[i].name))
			fail_msg("class %s has no node", own.classes[i].name);
	for (unsigned i = 0; i < machine.n; i++) {
		const struct schema_class *c = &machine.classes[i];
		size_t n = strlen(c->name);
		if (!schema_find(&own, c->name))
			fail_msg("class %s is not in the schema", c->name);
		if (strncmp(c->node, c->name, n) || (c->node[n] && c->node[n] != '@'))
			fail_msg("node %s of class %s", c->node, c->name);
	}
	free(now);
	machine_free(m);
}

static const char *write_path;

static void write_source(void **state)
{
	static struct rest rest;
	struct machine *m = golden_live(&rest);
	void *now = saved(m);
	FILE *out = fopen(write_path, "w");
	assert_non_null(out);
	dump_dts(now, out);
	assert_int_equal(fclose(out), 0);
	free(now);
	machine_free(m);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(every_golden_state_is_loaded, setup,
						fake_vfio_teardown),
		cmocka_unit_test_setup_teardown(the_machine_has_all_classes, setup,
						fake_vfio_teardown),
		cmocka_unit_test_setup_teardown(this_program_saves_the_newest, setup,
						fake_vfio_teardown),
	};
	const struct CMUnitTest write[] = {
		cmocka_unit_test_setup_teardown(write_source, setup, fake_vfio_teardown),
	};
	if (argc == 3 && !strcmp(argv[1], "--write")) { /* scripts/golden */
		write_path = argv[2];
		return cmocka_run_group_tests(write, NULL, NULL);
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
