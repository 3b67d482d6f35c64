/* SPDX-License-Identifier: MIT */
/* Interrupts of a passed-through device: kinds, routes, and hosts that are short of vectors or descriptors. */
#include <sys/resource.h>
#include "tests/unit/fake_vfio.h"
#define SLOT 1

static uint64_t bar_addr(struct machine *m, unsigned bar)
{
	return pci_bar_addr(&vfio_of(m)->pci, bar);
}

static void unmask_vector(struct machine *m, unsigned i)
{
	uint64_t entry = bar_addr(m, 0) + 0x2000 + 16 * i;
	guest_write(&m->mmio, entry, 8, 0xfee00000);
	guest_write(&m->mmio, entry + 8, 8, 0x40 + i);
}

static void interrupt_kinds(void **state)
{
	struct machine *m = vfio_running();
	struct vfio_dev *dev = vfio_of(m);
	unsigned base = m->fds.n;
	assert_int_equal(vf.resets, 1);
	/* INTx from the start. */
	assert_int_equal(vf.irq_index, VFIO_PCI_INTX_IRQ_INDEX);
	assert_true(vf.unmask_set);
	assert_int_equal(fake.fds[dev->intx.fd], 17 + 1);
	/* MSI-X: the host gives all vectors, those that are not masked have an eventfd and an irqfd. */
	config_put(m, SLOT, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	unmask_vector(m, 3);
	config_put(m, SLOT, MSIX_CAP + PCI_MSIX_FLAGS, 2, PCI_MSIX_FLAGS_ENABLE);
	assert_int_equal(vf.irq_index, VFIO_PCI_MSIX_IRQ_INDEX);
	assert_int_equal(vf.irq_fds, NVEC);
	assert_int_equal(vf.irq_used, 1);
	assert_int_equal(m->fds.n, base - 2 + 1);
	assert_int_equal(fake.irqfds, 1);
	assert_int_equal(fake.msi[0].u.msi.data, 0x43);
	unmask_vector(m, 7);
	assert_int_equal(fake.irqfds, 2);
	uint64_t one = 1;
	/* Masked again it keeps its eventfd, which is its pending bit. */
	guest_write(&m->mmio, bar_addr(m, 0) + 0x2000 + 16 * 7 + 12, 4, 1);
	assert_int_equal(vf.irq_used, 2);
	assert_int_equal(write(dev->msix.vec.src[7].fd, &one, 8), 8);
	assert_int_equal(guest_read(&m->mmio, bar_addr(m, 2) + 0x9000, 8), 1 << 7);
	/* Back to INTx. */
	config_put(m, SLOT, MSIX_CAP + PCI_MSIX_FLAGS, 2, 0);
	assert_int_equal(vf.irq_index, VFIO_PCI_INTX_IRQ_INDEX);
	assert_int_equal(m->fds.n, base);
	assert_int_equal(fake.irqfds, 1);
	/* MSI with two of its four vectors, the second masked. */
	config_put(m, SLOT, MSI_CAP + PCI_MSI_ADDRESS_LO, 4, 0xfee00000);
	config_put(m, SLOT, MSI_CAP + PCI_MSI_DATA_64, 2, 0x51);
	config_put(m, SLOT, MSI_CAP + PCI_MSI_MASK_64, 4, 2);
	config_put(m, SLOT, MSI_CAP + PCI_MSI_FLAGS, 2, PCI_MSI_FLAGS_ENABLE | 1 << 4);
	assert_int_equal(vf.irq_index, VFIO_PCI_MSI_IRQ_INDEX);
	assert_int_equal(vf.irq_fds, 2);
	assert_int_equal(fake.irqfds, 1);
	assert_int_equal(fake.msi[0].u.msi.data, 0x50);
	assert_int_equal(write(dev->msi.vec.src[1].fd, &one, 8), 8);
	assert_int_equal(config_get(m, SLOT, MSI_CAP + PCI_MSI_PENDING_64, 4), 2);
	config_put(m, SLOT, MSI_CAP + PCI_MSI_MASK_64, 4, 0);
	assert_int_equal(fake.irqfds, 2);
	assert_int_equal(config_get(m, SLOT, MSI_CAP + PCI_MSI_PENDING_64, 4), 0);
	/* Both at once is a guest's mistake: the last one wins, and the first one's end is none. */
	config_put(m, SLOT, MSIX_CAP + PCI_MSIX_FLAGS, 2, PCI_MSIX_FLAGS_ENABLE);
	assert_int_equal(vf.irq_index, VFIO_PCI_MSIX_IRQ_INDEX);
	config_put(m, SLOT, MSI_CAP + PCI_MSI_FLAGS, 2, 0);
	assert_int_equal(vf.irq_index, VFIO_PCI_MSIX_IRQ_INDEX);
	vfio_machine_free(m);
}

static unsigned uploads_of(struct machine *m, unsigned cap_flags, unsigned value)
{
	unsigned before = fake.uploads;
	config_put(m, SLOT, cap_flags, 2, value);
	return fake.uploads - before;
}

/* KVM takes the whole table of routes each time: what one access of the guest changes is one table. */
static void one_table_for_many_vectors(void **state)
{
	const unsigned msix = MSIX_CAP + PCI_MSIX_FLAGS, msi = MSI_CAP + PCI_MSI_FLAGS;
	const unsigned on = PCI_MSIX_FLAGS_ENABLE, all_masked = on | PCI_MSIX_FLAGS_MASKALL;
	struct machine *m = vfio_running();
	config_put(m, SLOT, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	assert_int_equal(uploads_of(m, msix, all_masked), 0);
	for (unsigned i = 0; i < NVEC; i++)
		unmask_vector(m, i);
	assert_int_equal(fake.irqfds, 0);
	assert_int_equal(uploads_of(m, msix, on), 1);
	assert_int_equal(fake.irqfds, NVEC);
	assert_int_equal(fake.nmsi, NVEC);
	assert_int_equal(uploads_of(m, msix, all_masked), 0);
	assert_int_equal(fake.irqfds, 0);
	assert_int_equal(uploads_of(m, msix, on), 0); /* KVM has it already */
	assert_int_equal(fake.irqfds, NVEC);
	assert_int_equal(uploads_of(m, msix, 0), 1); /* without them: INTx comes back */
	assert_int_equal(uploads_of(m, msix, on), 1);
	/* A vector of its own: one for the message, none to mask it. */
	unsigned before = fake.uploads;
	guest_write(&m->mmio, bar_addr(m, 0) + 0x2000 + 12, 4, 1);
	assert_int_equal(fake.uploads, before);
	guest_write(&m->mmio, bar_addr(m, 0) + 0x2000 + 8, 8, 0x77);
	assert_int_equal(fake.uploads, before + 1);
	assert_int_equal(fake.irqfds, NVEC);
	/* MSI: all its vectors with the enable bit, and when their message changes. */
	config_put(m, SLOT, msix, 2, 0);
	config_put(m, SLOT, MSI_CAP + PCI_MSI_ADDRESS_LO, 4, 0xfee00000);
	assert_int_equal(uploads_of(m, msi, PCI_MSI_FLAGS_ENABLE | 2 << 4), 1);
	assert_int_equal(fake.irqfds, NMSI);
	assert_int_equal(uploads_of(m, MSI_CAP + PCI_MSI_DATA_64, 0x60), 1);
	assert_int_equal(fake.irqfds, NMSI);
	vfio_machine_free(m);
}

/* A vector that KVM refuses is no reason to leave out those after it; it is tried when it changes next. */
static void a_vector_that_kvm_refuses(void **state)
{
	struct machine *m = vfio_running();
	config_put(m, SLOT, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	for (unsigned i = 0; i < NVEC; i++)
		unmask_vector(m, i);
	fake.irqfd_error = ENOMEM;
	fake.irqfd_errors = 1;
	config_put(m, SLOT, MSIX_CAP + PCI_MSIX_FLAGS, 2, PCI_MSIX_FLAGS_ENABLE);
	assert_int_equal(fake.irqfds, NVEC - 1);
	config_put(m, SLOT, MSIX_CAP + PCI_MSIX_FLAGS, 2, PCI_MSIX_FLAGS_ENABLE);
	assert_int_equal(fake.irqfds, NVEC);
	vfio_machine_free(m);
}

/* The device has INTx, and the guest sees that it has nothing else. */
static void assert_off(struct machine *m, unsigned control, uint32_t enable)
{
	assert_int_equal(config_get(m, SLOT, control, 2) & enable, 0);
	assert_int_equal(vfio_of(m)->state.irq_mode, VFIO_IRQ_INTX);
	assert_int_equal(vf.irq_index, VFIO_PCI_INTX_IRQ_INDEX);
	assert_false(vfio_of(m)->msix.enabled || vfio_of(m)->msi.enabled);
	assert_int_equal(fake.irqfds, 1);
}

/* A host that gives vectors one at a time gives those that the guest uses, wherever they are. */
static void one_at_a_time(void **state)
{
	vf.dynamic = true;
	vf.irq_room = 3;
	struct machine *m = vfio_running();
	config_put(m, SLOT, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	unmask_vector(m, 6);
	config_put(m, SLOT, MSIX_CAP + PCI_MSIX_FLAGS, 2, PCI_MSIX_FLAGS_ENABLE);
	assert_int_equal(vf.irq_fds, 2);
	assert_int_equal(vf.irq_used, 1);
	assert_int_equal(fake.irqfds, 1);
	unmask_vector(m, 5);
	unmask_vector(m, 7); /* more than the host has: silent */
	unmask_vector(m, 0);
	assert_int_equal(vf.irq_used, 3);
	assert_int_equal(fake.irqfds, 3);
	assert_int_equal(vfio_of(m)->msix.vec.src[7].fd, -1);
	vfio_machine_free(m);
}

static void host_short_of_vectors(void **state)
{
	struct machine *m = vfio_running();
	config_put(m, SLOT, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	vf.irq_room = 3;
	unmask_vector(m, 2);
	unmask_vector(m, 3);
	config_put(m, SLOT, MSIX_CAP + PCI_MSIX_FLAGS, 2, PCI_MSIX_FLAGS_ENABLE);
	assert_int_equal(vf.irq_fds, 3);
	assert_int_equal(fake.irqfds, 1); /* vector 3 has nothing behind it */
	assert_int_equal(vfio_of(m)->state.irq_vectors, 3);
	config_put(m, SLOT, MSIX_CAP + PCI_MSIX_FLAGS, 2, 0);
	/* None at all: the enable bit does not stay, and INTx does. */
	vf.irq_room = 0;
	unsigned fds = m->fds.n;
	config_put(m, SLOT, MSIX_CAP + PCI_MSIX_FLAGS, 2, PCI_MSIX_FLAGS_ENABLE);
	assert_off(m, MSIX_CAP + PCI_MSIX_FLAGS, PCI_MSIX_FLAGS_ENABLE);
	config_put(m, SLOT, MSI_CAP + PCI_MSI_FLAGS, 2, PCI_MSI_FLAGS_ENABLE);
	assert_off(m, MSI_CAP + PCI_MSI_FLAGS, PCI_MSI_FLAGS_ENABLE);
	assert_int_equal(m->fds.n, fds);
	/* And once the host has vectors again, the guest may have them. */
	vf.irq_room = NVEC;
	config_put(m, SLOT, MSIX_CAP + PCI_MSIX_FLAGS, 2, PCI_MSIX_FLAGS_ENABLE);
	assert_int_equal(vf.irq_fds, NVEC);
	assert_int_equal(fake.irqfds, 2);
	vfio_machine_free(m);
}

/* Leaves room for at most @n descriptors besides those that are open. Returns for how many. */
static unsigned room_for(unsigned n)
{
	struct rlimit files;
	int fd[64], opened = 0, next = dup(STDERR_FILENO);
	close(next);
	getrlimit(RLIMIT_NOFILE, &files);
	files.rlim_cur = (rlim_t)next + n;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &files), 0);
	while (opened < 64 && (fd[opened] = dup(STDERR_FILENO)) >= 0)
		opened++;
	for (int i = 0; i < opened; i++)
		close(fd[i]);
	return (unsigned)opened;
}

/* Fewer vectors, and as many descriptors left as an update needs. */
static void short_of_descriptors(void **state)
{
	const unsigned msix = MSIX_CAP + PCI_MSIX_FLAGS, many = 64;
	for (unsigned room = 0; room < many; room++) {
		fake_vfio_teardown(NULL);
		fake_vfio_setup(NULL);
		fake_vectors(many);
		struct machine *m = vfio_running();
		struct rlimit was;
		config_put(m, SLOT, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
		for (unsigned i = 0; i < many; i++)
			unmask_vector(m, i);
		getrlimit(RLIMIT_NOFILE, &was);
		unsigned free_fds = room_for(room) + 2; /* those of INTx */
		config_put(m, SLOT, msix, 2, PCI_MSIX_FLAGS_ENABLE);
		setrlimit(RLIMIT_NOFILE, &was);
		/* Those of INTx may be none of the last ones. */
		unsigned n = free_fds > VFIO_SPARE_FDS ? free_fds - VFIO_SPARE_FDS : 1;
		n = n < many ? n : many;
		assert_int_equal(vf.irq_index, VFIO_PCI_MSIX_IRQ_INDEX);
		assert_in_range(vf.irq_used, n, n + 2);
		assert_int_equal(fake.irqfds, vf.irq_used);
		assert_int_equal(vfio_of(m)->state.irq_vectors, many);
		assert_true(config_get(m, SLOT, msix, 2) & PCI_MSIX_FLAGS_ENABLE);
		vfio_machine_free(m);
	}
}

/* Neither MSI-X nor INTx can have one: the bit says so. */
static void no_descriptor_at_all(void **state)
{
	struct machine *m = vfio_running();
	struct rlimit was, none;
	getrlimit(RLIMIT_NOFILE, &was);
	none = was;
	none.rlim_cur = 0;
	setrlimit(RLIMIT_NOFILE, &none);
	config_put(m, SLOT, MSIX_CAP + PCI_MSIX_FLAGS, 2, PCI_MSIX_FLAGS_ENABLE);
	setrlimit(RLIMIT_NOFILE, &was);
	assert_int_equal(config_get(m, SLOT, MSIX_CAP + PCI_MSIX_FLAGS, 2), NVEC - 1);
	assert_int_equal(vfio_of(m)->state.irq_mode, VFIO_IRQ_NONE);
	/* And later it may be had. */
	config_put(m, SLOT, MSIX_CAP + PCI_MSIX_FLAGS, 2, PCI_MSIX_FLAGS_ENABLE);
	assert_int_equal(vf.irq_fds, NVEC);
	vfio_machine_free(m);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, fake_vfio_setup, fake_vfio_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(interrupt_kinds),		 TEST(one_at_a_time),
		TEST(host_short_of_vectors),	 TEST(one_table_for_many_vectors),
		TEST(a_vector_that_kvm_refuses), TEST(short_of_descriptors),
		TEST(no_descriptor_at_all),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
