/* SPDX-License-Identifier: MIT */
/*
 * A machine without KVM for tests of the PCI bus and its devices. Each test file that includes this
 * replaces vmm/vm.c, vmm/machine.c and the architecture's layout; buses, interrupts and the state
 * codec are the real ones. Weak fakes give way to the real ones where those are linked in, unless the file
 * says otherwise.
 */
#ifndef MOLT_TEST_FAKE_MACHINE_H
#define MOLT_TEST_FAKE_MACHINE_H

#include <errno.h>
#include <linux/kvm.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "devices/pci/pci.h"
#include "tests/unit/unit.h"
#include "vmm/arch.h"
#include "vmm/base/pool.h"
#include "vmm/machine.h"

#ifndef FAKE_LINKAGE
#define FAKE_LINKAGE __attribute__((weak))
#endif

#define FAKE_ECAM   0xe0000000ull
#define FAKE_MMIO32 0xc0000000ull
#define FAKE_MMIO64 0x4000000000ull
#define FAKE_PIO    0x1010ull /* not aligned for every BAR */

/* What KVM was told. */
static struct {
	unsigned irqfds;   /* attached now */
	unsigned attaches; /* ever */
	int fds[4096];	   /* by descriptor: GSI + 1 of its irqfd, 0: none */
	struct kvm_irq_routing_entry msi[IRQ_MAX_GSI]; /* of the last routing table */
	unsigned nmsi;
	int slot_error;	       /* errno value that vm_slot_add fails with */
	int irqfd_error;       /* the same when an irqfd is attached */
	unsigned irqfd_errors; /* how often; 0: always */
	void *slot_hva[VM_MAX_SLOTS];
	unsigned slot_calls;		  /* slots added and removed */
	unsigned uploads;		  /* of routing tables */
	uint64_t mmio64_base, mmio64_len; /* 0: FAKE_MMIO64 and 64 GiB */
	unsigned address_bits;
	long (*ioctl)(int fd, unsigned long request, void *arg); /* everything else */
} fake;

long vm_ioctl(int fd, unsigned long request, void *arg)
{
	if (request == KVM_IRQFD) {
		const struct kvm_irqfd *irqfd = arg;
		bool off = irqfd->flags & KVM_IRQFD_FLAG_DEASSIGN;
		if (!off && fake.irqfd_error) {
			int error = fake.irqfd_error;
			if (fake.irqfd_errors && !--fake.irqfd_errors)
				fake.irqfd_error = 0;
			return -error;
		}
		assert_true(irqfd->fd < ARRAY_LEN(fake.fds));
		assert_int_equal(fake.fds[irqfd->fd], off ? irqfd->gsi + 1 : 0);
		fake.fds[irqfd->fd] = off ? 0 : (int)irqfd->gsi + 1;
		fake.irqfds += off ? -1 : 1;
		fake.attaches += !off;
		return 0;
	}
	if (request == KVM_SET_GSI_ROUTING) {
		const struct kvm_irq_routing *r = arg;
		fake.nmsi = 0;
		fake.uploads++;
		for (uint32_t i = 0; i < r->nr; i++)
			if (r->entries[i].type == KVM_IRQ_ROUTING_MSI && fake.nmsi < IRQ_MAX_GSI)
				fake.msi[fake.nmsi++] = r->entries[i];
		return 0;
	}
	return fake.ioctl ? fake.ioctl(fd, request, arg) : -ENOTTY;
}

int vm_slot_add(struct vm *vm, uint64_t gpa, uint64_t len, void *hva, bool readonly,
		struct error *err)
{
	int slot = -1;
	fake.slot_calls++;
	if (fake.slot_error)
		return error_set(err, fake.slot_error, "fake slot");
	assert_int_equal((gpa | len | (uintptr_t)hva) & (PAGE_LEN - 1), 0);
	for (int i = 0; i < VM_MAX_SLOTS; i++) {
		if (!vm->slots[i].len)
			slot = slot < 0 ? i : slot;
		else if (ranges_overlap(gpa, len, vm->slots[i].gpa, vm->slots[i].len))
			return error_set(err, EEXIST, "fake slot overlaps");
	}
	assert_true(slot >= 0);
	vm->slots[slot].gpa = gpa;
	vm->slots[slot].len = len;
	fake.slot_hva[slot] = hva;
	return 0;
}

void vm_slot_remove(struct vm *vm, uint64_t gpa)
{
	for (unsigned i = 0; i < VM_MAX_SLOTS; i++)
		if (vm->slots[i].len && vm->slots[i].gpa == gpa) {
			fake.slot_calls++;
			vm->slots[i].len = 0;
		}
}

struct device *machine_device(struct machine *m, const char *class_name, struct device *after)
{
	bool seen = !after;
	for (unsigned i = 0; i < m->ndevices; i++) {
		if (seen && !strcmp(m->devices[i]->cls->name, class_name))
			return m->devices[i];
		seen = seen || m->devices[i] == after;
	}
	return NULL;
}

int machine_add_device(struct machine *m, const struct device_class *cls, const char *arg,
		       struct error *err)
{
	struct device *dev;
	int rc = device_create(cls, m, arg, &dev, err);
	if (!rc)
		m->devices[m->ndevices++] = dev;
	return rc;
}

FAKE_LINKAGE void *ram_at(const struct ram *ram, uint64_t gpa, uint64_t len)
{
	for (uint32_t i = 0; i < ram->state.nregions; i++)
		if (gpa >= ram->state.gpa[i] &&
		    range_fits(gpa - ram->state.gpa[i], len, ram->state.len[i]))
			return ram->hva + ram->state.offset[i] + (gpa - ram->state.gpa[i]);
	return NULL;
}

FAKE_LINKAGE void arch_pci_layout(const struct machine *m, struct arch_pci_layout *out)
{
	*out = (struct arch_pci_layout){.ecam_base = FAKE_ECAM,
					.ecam_len = MIB,
					.mmio32_base = FAKE_MMIO32,
					.mmio32_len = 256 * MIB,
					.mmio64_base = fake.mmio64_base ?: FAKE_MMIO64,
					.mmio64_len = fake.mmio64_len ?: 64 * GIB,
					.address_bits = fake.address_bits,
					.config_port = 0xcf8,
					.slots_port = 0x610,
					.slots_gsi = 20,
					.pio_base = FAKE_PIO,
					.pio_len = 0xe000,
					.intx_gsi = {16, 17, 18, 19}};
}

/* A machine with a host bridge and nothing else, not realized yet. */
static inline struct machine *fake_machine(bool fresh)
{
	struct machine *m = calloc(1, sizeof(*m));
	assert_non_null(m);
	m->fresh = fresh;
	irq_init(&m->irq, &m->vm);
	assert_int_equal(machine_add_device(m, &pci_host_class, NULL, NULL), 0);
	return m;
}

static inline int fake_realize(struct machine *m, struct error *err)
{
	int rc = 0;
	for (unsigned i = 0; !rc && i < m->ndevices; i++)
		if (m->devices[i]->cls->open)
			rc = m->devices[i]->cls->open(m->devices[i], err);
	for (unsigned i = 0; !rc && i < m->ndevices; i++)
		rc = device_realize(m->devices[i], err);
	return rc;
}

static inline int fake_reset(struct machine *m, struct error *err)
{
	int rc = 0;
	for (unsigned i = 0; !rc && i < m->ndevices; i++)
		if (m->devices[i]->cls->reset)
			rc = m->devices[i]->cls->reset(m->devices[i], err);
	return rc;
}

/* As machine_load_devices does, of whatever is registered. */
static inline int fake_load_devices(struct machine *m, struct state_blob *blob, struct error *err)
{
	irq_load_begin(&m->irq);
	int rc = state_load(blob, &m->tree, err);
	for (unsigned i = 0; !rc && i < m->ndevices; i++)
		if (m->devices[i]->cls->loaded)
			rc = m->devices[i]->cls->loaded(m->devices[i], err);
	return rc;
}

static inline int fake_start(struct machine *m, struct error *err)
{
	int rc = 0;
	for (unsigned i = 0; !rc && i < m->ndevices; i++)
		if (m->devices[i]->cls->start)
			rc = m->devices[i]->cls->start(m->devices[i], err);
	irq_routes_commit(&m->irq, NULL);
	irq_attach_all(&m->irq, IRQ_MSI);
	irq_attach_all(&m->irq, IRQ_LEVEL);
	return rc;
}

static inline void fake_destroy(struct machine *m)
{
	irq_detach_all(&m->irq, NULL);
	for (unsigned i = m->ndevices; i-- > 0;)
		device_destroy(m->devices[i]);
	pool_free(m->fds.e); /* the descriptors are the test's */
	free(m);
}

/* Guest accesses. */
static inline uint64_t guest_read(struct bus *bus, uint64_t addr, unsigned len)
{
	struct bus_access a = {.len = len};
	bus_dispatch(bus, addr, &a);
	return len == 8 ? a.value : a.value & ((1ull << 8 * len) - 1);
}

static inline void guest_write(struct bus *bus, uint64_t addr, unsigned len, uint64_t val)
{
	struct bus_access a = {.len = len, .write = true, .value = val};
	bus_dispatch(bus, addr, &a);
}

/* Config space of the device in @slot, through ECAM. */
static inline uint32_t config_get(struct machine *m, unsigned slot, unsigned off, unsigned len)
{
	return (uint32_t)guest_read(&m->mmio, FAKE_ECAM + (slot << 15) + off, len);
}

static inline void config_put(struct machine *m, unsigned slot, unsigned off, unsigned len,
			      uint32_t val)
{
	guest_write(&m->mmio, FAKE_ECAM + (slot << 15) + off, len, val);
}

/* The blob that an update would hand over. */
struct fake_blob {
	uint8_t *data;
	size_t len;
};

static inline struct fake_blob fake_save(struct machine *m)
{
	struct state_header header = {.version = "test", .build_id = "00"};
	size_t size = state_size_bound(&m->tree, &m->fds);
	struct fake_blob b = {.data = aligned_alloc(8, align_up(size, 8))};
	struct error err = {0};
	assert_non_null(b.data);
	if (state_save(&m->tree, &m->fds, &header, b.data, size, &b.len, &err))
		fail_msg("save: %s", err.text);
	return b;
}

/* Builds @m from the blob as a program that takes over does. */
static inline int fake_load(struct machine *m, const struct fake_blob *b, struct error *err)
{
	struct state_blob *blob = calloc(1, sizeof(*blob));
	assert_non_null(blob);
	int rc = state_open(blob, b->data, b->len, err);
	if (!rc)
		rc = fdset_list(&m->fds, blob, err);
	if (!rc)
		rc = fake_realize(m, err);
	if (!rc)
		rc = fake_load_devices(m, blob, err);
	free(blob);
	return rc;
}

static inline struct state_section *fake_section(struct machine *m, const char *node)
{
	for (unsigned i = 0; i < m->tree.n; i++)
		if (!strcmp(m->tree.sections[i].node, node))
			return &m->tree.sections[i];
	fail_msg("no section %s", node);
	return NULL;
}

/* Loads another blob into a machine that has loaded one; b's descriptors are the ones kept from now on. */
static inline int fake_load_again(struct machine *m, const struct fake_blob *b, struct error *err)
{
	struct state_blob *blob = calloc(1, sizeof(*blob));
	assert_non_null(blob);
	int rc = state_open(blob, b->data, b->len, err);
	if (!rc)
		rc = fdset_list(&m->fds, blob, err);
	if (!rc)
		rc = fake_load_devices(m, blob, err);
	free(blob);
	return rc;
}

#endif
