/* SPDX-License-Identifier: MIT */
/* A passed-through device with as many vectors of MSI-X as there can be: masked, unmasked, over an update, and with
 * fewer descriptors than vectors. */
#include <sys/resource.h>
#include "tests/unit/fake_vfio.h"
#define SLOT 1
#define MANY MSIX_MAX_VECTORS
#define MSIX (MSIX_CAP + PCI_MSIX_FLAGS)

static uint64_t entry(struct machine *m, unsigned i)
{
	return pci_bar_addr(&vfio_of(m)->pci, 0) + 0x2000 + 16 * i;
}

static void unmask_vector(struct machine *m, unsigned i)
{
	guest_write(&m->mmio, entry(m, i), 8, 0xfee00000);
	guest_write(&m->mmio, entry(m, i) + 8, 8, 0x1000 + i);
}

static void limit_set(rlim_t n)
{
	struct rlimit files;
	getrlimit(RLIMIT_NOFILE, &files);
	files.rlim_cur = n < files.rlim_max ? n : files.rlim_max;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &files), 0);
}

/* A driver that unmasks all of them, and then enables MSI-X. */
static struct machine *all_unmasked(void)
{
	fake_vectors(MANY);
	struct machine *m = vfio_running();
	config_put(m, SLOT, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	for (unsigned i = 0; i < MANY; i++)
		unmask_vector(m, i);
	config_put(m, SLOT, MSIX, 2, PCI_MSIX_FLAGS_ENABLE);
	return m;
}

/* Each vector that has an eventfd leads to its own message, and to no other's. */
static unsigned led_right(struct machine *m)
{
	unsigned n = 0;
	for (unsigned i = 0; i < MANY; i++) {
		int fd = vfio_of(m)->msix.vec.src[i].fd;
		if (fd < 0)
			continue;
		unsigned gsi = (unsigned)fake.fds[fd] - 1, at = 0;
		while (at < fake.nmsi && fake.msi[at].gsi != gsi)
			at++;
		assert_true(at < fake.nmsi);
		assert_int_equal(fake.msi[at].u.msi.data, 0x1000 + i);
		n++;
	}
	return n;
}

/* The machine is saved as an update does, and loaded by another program; the device hears of none of it. */
static struct machine *updated(struct machine *a)
{
	struct error err = {0};
	unsigned calls = vf.set_irqs, attached = fake.irqfds;
	assert_int_equal(irq_detach_all(&a->irq, &err), 0);
	assert_int_equal(fake.irqfds, 0);
	struct fake_blob blob = fake_save(a);
	struct machine *b = vfio_machine(false);
	if (fake_load(b, &blob, &err) || fake_load_again(b, &blob, &err) || fake_start(b, &err))
		fail_msg("%s", err.text);
	assert_int_equal(vf.set_irqs, calls);
	assert_int_equal(fake.irqfds, attached);
	free(blob.data);
	return b;
}

/* The guest turns MSI-X off, which closes the eventfds; both programs have the same ones. */
static void end(struct machine *a, struct machine *b)
{
	config_put(b, SLOT, MSIX, 2, 0);
	assert_int_equal(vf.irq_index, VFIO_PCI_INTX_IRQ_INDEX);
	assert_int_equal(fake.irqfds, 1);
	vfio_machine_free(b);
	vfio_machine_free(a);
}

static void all_of_them(void **state)
{
	limit_set(4096);
	struct machine *a = all_unmasked();
	assert_int_equal(vf.irq_fds, MANY);
	assert_int_equal(vf.irq_used, MANY);
	assert_int_equal(fake.irqfds, MANY);
	assert_int_equal(led_right(a), MANY);
	unsigned uploads = fake.uploads;
	config_put(a, SLOT, MSIX, 2, PCI_MSIX_FLAGS_ENABLE | PCI_MSIX_FLAGS_MASKALL);
	assert_int_equal(fake.irqfds, 0);
	config_put(a, SLOT, MSIX, 2, PCI_MSIX_FLAGS_ENABLE);
	assert_int_equal(fake.irqfds, MANY);
	assert_int_equal(fake.uploads, uploads);
	/* Every second one is masked, and stays so. */
	for (unsigned i = 0; i < MANY; i += 2)
		guest_write(&a->mmio, entry(a, i) + 12, 4, 1);
	assert_int_equal(fake.irqfds, MANY / 2);

	struct machine *b = updated(a);
	const uint64_t one = 1;
	assert_int_equal(write(vfio_of(b)->msix.vec.src[MANY - 2].fd, &one, 8), 8);
	assert_int_equal(
		guest_read(&b->mmio, pci_bar_addr(&vfio_of(b)->pci, 2) + 0x9000 + MANY / 8 - 8, 8),
		1ull << 62);
	for (unsigned i = 0; i < MANY; i += 2)
		guest_write(&b->mmio, entry(b, i) + 12, 4, 0);
	assert_int_equal(fake.irqfds, MANY);
	assert_int_equal(led_right(b), MANY);
	end(a, b);
}

/* The usual limit: as many as it allows work, over an update too, and the others once there is room. */
static void limit_of_1024(void **state)
{
	limit_set(1024);
	struct machine *a = all_unmasked();
	unsigned used = vf.irq_used;
	assert_in_range(used, 1024 - VFIO_SPARE_FDS - 64, 1024 - VFIO_SPARE_FDS);
	assert_int_equal(fake.irqfds, used);
	assert_int_equal(led_right(a), used);
	assert_int_equal(config_get(a, SLOT, MSIX, 2), PCI_MSIX_FLAGS_ENABLE | (MANY - 1));

	struct machine *b = updated(a);
	assert_int_equal(led_right(b), used);
	unmask_vector(b, MANY - 1);
	assert_int_equal(fake.irqfds, used);
	limit_set(4096);
	for (unsigned i = 0; i < MANY; i++)
		unmask_vector(b, i);
	assert_int_equal(vf.irq_used, MANY);
	assert_int_equal(fake.irqfds, MANY);
	assert_int_equal(led_right(b), MANY);
	end(a, b);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, fake_vfio_setup, fake_vfio_teardown)

int main(void)
{
	struct rlimit files;
	getrlimit(RLIMIT_NOFILE, &files);
	if (files.rlim_max < 4096) {
		puts("SKIP 4096 descriptors are needed (ulimit -Hn)");
		return 77;
	}
	const struct CMUnitTest tests[] = {TEST(all_of_them), TEST(limit_of_1024)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
