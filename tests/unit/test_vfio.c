/* SPDX-License-Identifier: MIT */
/* A passed-through device: config space, BARs, interrupts. */
#include <sys/resource.h>

#include "tests/unit/fake_vfio.h"

#define SLOT 1

static void config_view(void **state)
{
	struct machine *m = vfio_running();
	/* Read through. */
	assert_int_equal(config_get(m, SLOT, PCI_VENDOR_ID, 4), 0x10d38086);
	config_le(PCI_STATUS, PCI_STATUS_CAP_LIST | 0x2000, 2);
	assert_int_equal(config_get(m, SLOT, PCI_STATUS, 2), PCI_STATUS_CAP_LIST | 0x2000);
	/* Emulated. */
	assert_int_equal(config_get(m, SLOT, PCI_HEADER_TYPE, 1), 0);
	assert_int_equal(config_get(m, SLOT, PCI_INTERRUPT_LINE, 2), 17 | 1 << 8);
	assert_int_equal(config_get(m, SLOT, EXP_CAP + PCI_EXP_FLAGS, 2),
			 0x0002 | PCI_EXP_TYPE_RC_END << 4);
	assert_int_equal(config_get(m, SLOT, MSIX_CAP, 4), PCI_CAP_ID_MSIX | (NVEC - 1) << 16);
	/* Hidden: null capabilities, the chain goes on, their bodies are empty. */
	assert_int_equal(config_get(m, SLOT, 0x100, 2), PCI_EXT_CAP_ID_ERR);
	assert_int_equal(config_get(m, SLOT, 0x180, 4), 0x1c0u << 20);
	assert_int_equal(config_get(m, SLOT, 0x184, 4), 0);
	assert_int_equal(config_get(m, SLOT, 0x1c0, 2), PCI_EXT_CAP_ID_DSN);
	assert_int_equal(config_get(m, SLOT, 0x1c4, 4), 0x12345678);
	assert_int_equal(config_get(m, SLOT, 0x160, 4), 0x200u << 20);
	assert_int_equal(config_get(m, SLOT, 0x164, 4), 0);
	assert_int_equal(config_get(m, SLOT, 0x168, 4), 0x0badcafe);
	assert_int_equal(config_get(m, SLOT, 0x210, 4), 0);
	assert_int_equal(config_get(m, SLOT, 0x214, 4), 0x600df00d);
	vfio_machine_free(m);
}

static void config_writes(void **state)
{
	struct machine *m = vfio_running();
	assert_int_equal(hw_config(PCI_COMMAND, 2), 0); /* switched off at start */
	config_put(m, SLOT, PCI_COMMAND, 2, 0x0406);
	assert_int_equal(hw_config(PCI_COMMAND, 2), 0x0406);
	config_put(m, SLOT, EXP_CAP + 8, 2, 0xbeef);
	assert_int_equal(hw_config(EXP_CAP + 8, 2), 0xbeef);
	/* Never reach the device: BARs, MSI, MSI-X, what is hidden. */
	config_put(m, SLOT, PCI_BASE_ADDRESS_0, 4, 0xffffffff);
	config_put(m, SLOT, PCI_INTERRUPT_LINE, 1, 9);
	config_put(m, SLOT, 0x184, 4, 0);
	config_put(m, SLOT, MSI_CAP + PCI_MSI_ADDRESS_LO, 4, 0xfee00000);
	config_put(m, SLOT, MSIX_CAP, 4, 0xffff0000);
	assert_int_equal(hw_config(PCI_BASE_ADDRESS_0, 4), 0xfeb00000);
	assert_int_equal(hw_config(PCI_INTERRUPT_LINE, 1), 11);
	assert_int_equal(hw_config(0x184, 4), 0x5a5a5a5a);
	assert_int_equal(hw_config(MSI_CAP + PCI_MSI_ADDRESS_LO, 4), 0);
	assert_int_equal(hw_config(MSIX_CAP, 4), PCI_CAP_ID_MSIX | (NVEC - 1) << 16);
	/* One write over both kinds: only the rest goes through. */
	config_put(m, SLOT, PCI_CACHE_LINE_SIZE, 4, 0x11223344);
	assert_int_equal(hw_config(PCI_CACHE_LINE_SIZE, 4), 0x11803344);
	vfio_machine_free(m);
}

static unsigned slots_used(const struct machine *m)
{
	unsigned n = 0;
	for (unsigned i = 0; i < VM_MAX_SLOTS; i++)
		n += m->vm.slots[i].len != 0;
	return n;
}

static uint8_t *guest_at(struct machine *m, uint64_t gpa)
{
	for (unsigned i = 0; i < VM_MAX_SLOTS; i++)
		if (m->vm.slots[i].len && gpa - m->vm.slots[i].gpa < m->vm.slots[i].len)
			return (uint8_t *)fake.slot_hva[i] + (gpa - m->vm.slots[i].gpa);
	return NULL;
}

static uint64_t bar_addr(struct machine *m, unsigned bar)
{
	return pci_bar_addr(&vfio_of(m)->pci, bar);
}

/* A far pointer has 6 bytes, and KVM cuts an access of 8 at a page's end into any two parts: nothing
 * of ours has registers of such lengths. */
static void odd_lengths(void **state)
{
	static const unsigned lengths[] = {3, 5, 6, 7};
	struct machine *m = vfio_running();
	uint32_t pm = config_get(m, SLOT, PM_CAP + 4, 4), status = config_get(m, SLOT, 4, 4);
	for (unsigned i = 0; i < ARRAY_LEN(lengths); i++) {
		struct bus_access a = {.len = lengths[i]};
		assert_false(bus_dispatch(&m->mmio, FAKE_ECAM + (SLOT << 15), &a));
		assert_int_equal(a.value, ~0ull);
		guest_write(&m->mmio, FAKE_ECAM + (SLOT << 15), lengths[i], 0);
		guest_write(&m->mmio, FAKE_ECAM + (SLOT << 15) + PM_CAP, lengths[i], ~0ull);
	}
	assert_int_equal(config_get(m, SLOT, PM_CAP + 4, 4), pm);
	assert_int_equal(config_get(m, SLOT, 4, 4), status);
	vfio_machine_free(m);
}

static void bars_in_parts(void **state)
{
	struct machine *m = vfio_running();
	config_put(m, SLOT, PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_IO);
	uint64_t b0 = bar_addr(m, 0), b2 = bar_addr(m, 2), b4 = bar_addr(m, 4);
	/* BAR 0 but for the page of the table; BAR 2 where the kernel lets us; BAR 4 not at all. */
	assert_int_equal(slots_used(m), 2 + 3);
	assert_non_null(guest_at(m, b0 + 0x1fff));
	assert_null(guest_at(m, b0 + 0x2000));
	assert_null(guest_at(m, b0 + 0x2fff));
	assert_non_null(guest_at(m, b0 + 0x3000));
	assert_null(guest_at(m, b2));
	assert_non_null(guest_at(m, b2 + 0x1000));
	assert_null(guest_at(m, b2 + 0x3000));
	assert_non_null(guest_at(m, b2 + 0x8000));
	assert_null(guest_at(m, b2 + 0x9000)); /* pending bits */
	assert_non_null(guest_at(m, b2 + 0xa000));
	assert_null(guest_at(m, b4));
	/* Mapped parts are the device's own bytes. */
	guest_at(m, b0 + 0x1008)[0] = 0x42;
	guest_at(m, b2 + 0x8000)[1] = 0x43;
	uint8_t byte;
	assert_int_equal(pread(vf.device, &byte, 1, 0x101008), 1);
	assert_int_equal(byte, 0x42);
	assert_int_equal(pread(vf.device, &byte, 1, 0x308001), 1);
	assert_int_equal(byte, 0x43);
	/* Trapped parts are forwarded, beside the table too. */
	guest_write(&m->mmio, b4 + 0x10, 4, 0x11223344);
	assert_int_equal(guest_read(&m->mmio, b4 + 0x12, 2), 0x1122);
	guest_write(&m->mmio, b0 + 0x2900, 8, 0x1122334455667788);
	assert_int_equal(guest_read(&m->mmio, b0 + 0x2904, 4), 0x11223344);
	uint32_t word;
	assert_int_equal(pread(vf.device, &word, 4, 0x102900), 4);
	assert_int_equal(word, 0x55667788);
	guest_write(&m->mmio, b0 + 0x2000, 4, 0xfee00000); /* the table: ours */
	assert_int_equal(pread(vf.device, &word, 4, 0x102000), 4);
	assert_int_equal(word, 0);
	guest_write(&m->pio, bar_addr(m, 1) + 4, 2, 0xabcd);
	assert_int_equal(guest_read(&m->pio, bar_addr(m, 1) + 5, 1), 0xab);
	assert_int_equal(pread(vf.device, &word, 4, 0x200004), 4);
	assert_int_equal(word, 0xabcd);
	/* ROM: read only, and nothing behind its end. */
	word = 0xaa55;
	assert_int_equal(pwrite(vf.device, &word, 4, 0x400000), 4);
	config_put(m, SLOT, PCI_ROM_ADDRESS, 1, 1);
	guest_write(&m->mmio, bar_addr(m, 6), 4, 0);
	assert_int_equal(guest_read(&m->mmio, bar_addr(m, 6), 4), 0xaa55);
	assert_int_equal(vfio_of(m)->pci.bars[6].len, 0x2000);
	assert_int_equal(guest_read(&m->mmio, bar_addr(m, 6) + 0x1800, 4), 0xffffffff);
	/* Off and away. */
	config_put(m, SLOT, PCI_COMMAND, 2, 0);
	assert_int_equal(slots_used(m), 0);
	assert_int_equal(guest_read(&m->mmio, b4 + 0x10, 4), 0xffffffff);
	vfio_machine_free(m);
}

/* A slot in the way leaves nothing of the BAR behind. */
static void bar_in_the_way(void **state)
{
	struct machine *m = vfio_running();
	m->vm.slots[9].gpa = bar_addr(m, 0) + 0x3000;
	m->vm.slots[9].len = PAGE_LEN;
	unsigned regions = m->mmio.n;
	config_put(m, SLOT, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	assert_null(guest_at(m, bar_addr(m, 0)));
	assert_non_null(guest_at(m, bar_addr(m, 2) + 0x1000));
	/* The three trapped parts of BAR 2, and BAR 4. */
	assert_int_equal(m->mmio.n, regions + 4);
	vfio_machine_free(m);
}

static void sleeping_device(void **state)
{
	struct machine *m = vfio_running();
	config_put(m, SLOT, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	assert_int_equal(slots_used(m), 5);
	config_put(m, SLOT, PM_CAP + PCI_PM_CTRL, 2, 3);
	assert_int_equal(slots_used(m), 0);
	config_put(m, SLOT, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	assert_int_equal(slots_used(m), 0);
	config_put(m, SLOT, PM_CAP + PCI_PM_CTRL, 4, 0x100);
	assert_int_equal(slots_used(m), 5);
	vfio_machine_free(m);
}

/* A device that goes leaves nothing of its own in the machine's list of interrupts. */
static void destroyed_with_intx(void **state)
{
	struct machine *m = vfio_running();
	struct device *dev = &vfio_of(m)->dev;
	assert_int_equal(vfio_of(m)->state.irq_mode, VFIO_IRQ_INTX);
	assert_non_null(m->irq.sources);
	assert_ptr_equal(m->devices[m->ndevices - 1], dev);
	device_destroy(dev);
	m->ndevices--;
	assert_null(m->irq.sources);
	vfio_machine_free(m);
}

static void reserved_addresses(void **state)
{
	struct machine *m = vfio_machine(true);
	struct error err = {0};
	vf.iova_end = 4 * GIB - 1;
	assert_int_equal(fdset_keep(&m->fds, "container0", vf.container, &err), 0);
	assert_int_equal(fdset_keep(&m->fds, "vfio-group:7", vf.group, &err), 0);
	assert_int_equal(fdset_keep(&m->fds, "vfio:" BDF, vf.device, &err), 0);
	assert_int_equal(fake_realize(m, &err), 0);
	assert_int_equal(fake_reset(m, &err), -ERANGE);
	assert_non_null(strstr(err.text, "reserves addresses from 0x100000000 on"));
	vfio_machine_free(m);
}

static void options(void **state)
{
	static const struct {
		const char *arg, *id; /* NULL: refused */
		bool rom;
		int iommu; /* enum vfio_iommu_kind + 1; 0: any */
	} cases[] = {
		{"0000:00:05.0", "0000:00:05.0", true},
		{"00:1f.7", "0000:00:1f.7", true},
		{"0001:AB:05.0,rom=on", "0001:ab:05.0", true},
		{"00:05.0,rom=off", "0000:00:05.0", false},
		{"", NULL, false},
		{"eth0", NULL, false},
		{"00:05", NULL, false},
		{"00:20.0", NULL, false},
		{"00:05.8", NULL, false},
		{"00:05.0x", NULL, false},
		{"00:05.0,rom=maybe", NULL, false},
		{"00:05.0,rom", NULL, false},
		{"10000:e1:00.0", "10000:e1:00.0", true},
		{"00:05.0,iommu=type1", "0000:00:05.0", true, 1},
		{"00:05.0,iommu=iommufd,rom=off", "0000:00:05.0", false, 2},
		{"00:05.0,iommu=", NULL, false},
		{"00:05.0,", NULL, false},
		{"mdev:83B8F4F2-509f-382f-3c1e-e6bfe0fa1001",
		 "83b8f4f2-509f-382f-3c1e-e6bfe0fa1001", true},
		{"/sys/bus/mdev/devices/83b8f4f2-509f-382f-3c1e-e6bfe0fa1001/,iommu=iommufd",
		 "83b8f4f2-509f-382f-3c1e-e6bfe0fa1001", true, 2},
		{"/sys/bus/pci/devices/0000:00:05.0", "0000:00:05.0", true},
		{"mdev:83b8f4f2-509f-382f-3c1e-e6bfe0fa100", NULL, false},
		{"mdev:83b8f4f2-509f-382f-3c1e-e6bfe0fa10011", NULL, false},
		{"mdev:83b8f4f2x509f-382f-3c1e-e6bfe0fa1001", NULL, false},
		{"83b8f4f2-509f-382f-3c1e-e6bfe0fa1001", NULL, false},
		{"/sys/class/net/eth0", NULL, false},
		{"/", NULL, false},
		{"00:05.0,noreset", "0000:00:05.0", true},
		{"00:05.0,noreset=on", NULL, false},
		{"00:05.0,p2p=on", "0000:00:05.0", true},
		{"00:05.0,p2p=off", "0000:00:05.0", true},
		{"00:05.0,p2p", NULL, false},
		{"00:05.0,vf_token=bd8d9d2b-5a5f-4f5a-a211-f591514ba1f3", "0000:00:05.0", true},
		{"00:05.0,vf_token=bd8d9d2b", NULL, false},
	};
	for (unsigned i = 0; i < ARRAY_LEN(cases); i++) {
		struct machine *m = fake_machine(true);
		struct error err = {0};
		int rc = machine_add_device(m, &vfio_class, cases[i].arg, &err);
		if (!cases[i].id) {
			assert_int_equal(rc, -EINVAL);
			assert_int_equal(err.exit, EXIT_USAGE);
		} else {
			assert_int_equal(rc, 0);
			assert_string_equal(vfio_of(m)->id, cases[i].id);
			assert_int_equal(vfio_of(m)->iommu, cases[i].iommu - 1);
			assert_int_equal(vfio_of(m)->rom, cases[i].rom);
			/* The container comes before it. */
			assert_ptr_equal(m->devices[1], &container_of(m)->dev);
			/* Twice the same. */
			assert_int_equal(machine_add_device(m, &vfio_class, cases[i].arg, &err),
					 -EEXIST);
		}
		fake_destroy(m);
	}
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, fake_vfio_setup, fake_vfio_teardown)

/* BAR 2 has 4 GiB, all of it mappable but for the pending bits. */
static long wide_bar(int fd, unsigned long request, void *arg)
{
	struct vfio_region_info *info = arg;
	long rc = fake_vfio_ioctl(fd, request, arg);
	if (request == VFIO_DEVICE_GET_REGION_INFO && info->index == 2) {
		info->size = 4 * GIB;
		info->flags = 7;
		info->cap_offset = 0;
	}
	return rc;
}

/* KVM uses a huge page only where both addresses agree modulo its size, vfio-pci where the host's is aligned. */
static void slots_are_aligned(struct machine *m, unsigned bar)
{
	const struct pci_bar *b = &vfio_of(m)->pci.bars[bar];
	uint64_t align = b->len < GIB ? b->len : GIB;
	unsigned found = 0;
	assert_true(b->mapped);
	for (unsigned i = 0; i < VM_MAX_SLOTS; i++) {
		uint64_t gpa = m->vm.slots[i].gpa;
		if (!m->vm.slots[i].len || gpa < b->addr || gpa - b->addr >= b->len)
			continue;
		assert_int_equal((gpa ^ (uintptr_t)fake.slot_hva[i]) & (align - 1), 0);
		found++;
	}
	assert_int_equal(found, 2);
}

static bool is_mapped(const void *hva)
{
	unsigned char resident;
	return !mincore((void *)(uintptr_t)hva, PAGE_LEN, &resident);
}

static void bars_lie_in_the_host_as_in_the_guest(void **state)
{
	const unsigned slot = 1;
	struct error err = {0};
	fake.ioctl = wide_bar;
	struct machine *a = vfio_running();
	config_put(a, slot, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	slots_are_aligned(a, 0);
	slots_are_aligned(a, 2);
	/* The guest moves it: aligned as well, without another mapping. */
	const void *hva = vfio_of(a)->regions[2].parts[0].hva;
	config_put(a, slot, PCI_BASE_ADDRESS_3, 4, (FAKE_MMIO64 + 8 * GIB) >> 32);
	assert_int_equal(vfio_of(a)->pci.bars[2].addr, FAKE_MMIO64 + 8 * GIB);
	assert_ptr_equal(vfio_of(a)->regions[2].parts[0].hva, hva);
	slots_are_aligned(a, 2);

	assert_int_equal(irq_detach_all(&a->irq, &err), 0);
	struct fake_blob blob = fake_save(a);
	struct machine *b = vfio_machine(false);
	if (fake_load(b, &blob, &err))
		fail_msg("%s", err.text);
	slots_are_aligned(b, 0);
	slots_are_aligned(b, 2);

	/* Of the mapping and what was reserved around it nothing stays. */
	const struct vfio_region *r = &vfio_of(b)->regions[2];
	const uint8_t *first = r->parts[0].hva, *last = first + 4 * GIB - PAGE_LEN;
	const uint8_t *trapped = first + r->parts[1].off;
	assert_true(is_mapped(first) && is_mapped(trapped) && is_mapped(last));
	vfio_machine_free(b);
	assert_false(is_mapped(first) || is_mapped(trapped) || is_mapped(last));
	free(blob.data);
	vfio_machine_free(a);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(config_view),	   TEST(config_writes),
		TEST(bars_in_parts),	   TEST(bar_in_the_way),
		TEST(sleeping_device),	   TEST(options),
		TEST(reserved_addresses),  TEST(odd_lengths),
		TEST(destroyed_with_intx), TEST(bars_lie_in_the_host_as_in_the_guest),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
