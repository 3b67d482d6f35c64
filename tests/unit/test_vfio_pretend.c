/* SPDX-License-Identifier: MIT */
/* A passed-through device in a preflight: its state is judged without the device, which is not there. */
#include <limits.h>

#include "tests/unit/fake_vfio.h"

#define SLOT 1

/* Its driver has turned MSI-X on. */
static void guest_driver(struct machine *m)
{
	config_put(m, SLOT, PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
	config_put(m, SLOT, MSIX_CAP + PCI_MSIX_FLAGS, 2, PCI_MSIX_FLAGS_ENABLE);
}

static long no_ioctl(int fd, unsigned long request, void *arg)
{
	fail_msg("ioctl 0x%lx on descriptor %d", request, fd);
	return -ENOTTY;
}

/* As a new program does that has nothing but the blob, up to the routes of its VM. */
static int pretend(const struct fake_blob *b, struct error *err)
{
	struct machine *m = vfio_machine(false);
	struct state_blob *blob = calloc(1, sizeof(*blob));
	assert_non_null(blob);
	fake.ioctl = no_ioctl;
	int rc = state_open(blob, b->data, b->len, err);
	if (!rc)
		rc = fdset_list(&m->fds, blob, err);
	for (unsigned i = 0; i < m->fds.n; i++)
		m->fds.e[i].fd = INT_MAX;
	for (unsigned i = 0; !rc && i < m->ndevices; i++) {
		const struct device_class *cls = m->devices[i]->cls;
		rc = (cls->pretend ? cls->pretend : cls->realize)(m->devices[i], err);
	}
	if (!rc)
		rc = state_load(blob, &m->tree, err);
	if (!rc)
		rc = irq_routes_commit(&m->irq, err);
	fake.ioctl = fake_vfio_ioctl;
	free(blob);
	vfio_machine_free(m);
	return rc;
}

static void good(void **state)
{
	struct machine *m = vfio_running();
	struct error err = {0};
	for (int msix = 0; msix < 2; msix++) {
		struct fake_blob blob = fake_save(m); /* first with INTx */
		uint32_t command = hw_config(PCI_COMMAND, 2);
		if (pretend(&blob, &err))
			fail_msg("%s", err.text);
		assert_int_equal(hw_config(PCI_COMMAND, 2), command);
		free(blob.data);
		guest_driver(m);
	}
	vfio_machine_free(m);
}

/* KVM is asked about the messages of the vectors that have a route and are not masked. */
static void routes(void **state)
{
	struct machine *m = vfio_running();
	struct error err = {0};
	guest_driver(m);
	struct msix_state *s = &vfio_of(m)->state.msix;
	const struct msix_state saved = *s;
	s->gsi[2] = 31;
	s->gsi[5] = 40;
	const uint32_t entry[] = {0xfee01000, 0x100, 0x4031, 0};
	memcpy(&s->table[5 * MSIX_ENTRY_WORDS], entry, sizeof(entry));
	struct fake_blob blob = fake_save(m);
	fake.nmsi = 77;
	if (pretend(&blob, &err))
		fail_msg("%s", err.text);
	assert_int_equal(fake.nmsi, 1);
	assert_int_equal(fake.msi[0].gsi, 40);
	assert_int_equal(fake.msi[0].u.msi.address_lo, entry[0]);
	assert_int_equal(fake.msi[0].u.msi.address_hi, entry[1]);
	assert_int_equal(fake.msi[0].u.msi.data, entry[2]);
	*s = saved;
	vfio_machine_free(m);
	free(blob.data);
}

struct spoil {
	void (*spoil)(struct vfio_dev *dev, struct vfio_container *c);
	const char *lost; /* descriptor that is not listed */
	const char *words;
};

static void mode(struct vfio_dev *dev, struct vfio_container *c)
{
	dev->state.irq_mode = 77;
}

static void vectors(struct vfio_dev *dev, struct vfio_container *c)
{
	dev->state.irq_vectors = NVEC + 1;
}

static void words(struct vfio_dev *dev, struct vfio_container *c)
{
	dev->state.msix.words--;
}

static void gsi_twice(struct vfio_dev *dev, struct vfio_container *c)
{
	dev->state.msix.gsi[6] = dev->state.msix.gsi[1] = 50;
}

static void gsi_of_msi(struct vfio_dev *dev, struct vfio_container *c)
{
	dev->state.msi.gsi[3] = 5; /* a pin of the IOAPIC */
}

static void slot(struct vfio_dev *dev, struct vfio_container *c)
{
	dev->state.pci.devfn = 9 << 3;
}

static void bar(struct vfio_dev *dev, struct vfio_container *c)
{
	dev->state.pci.bar_len[0] = 0x3000;
}

static void range(struct vfio_dev *dev, struct vfio_container *c)
{
	c->state.len[1] += PAGE_LEN;
}

static const struct spoil spoils[] = {
	{mode, NULL, "interrupt mode 77"},
	{vectors, NULL, "with 9 vectors"},
	{words, NULL, "they do not fit each other"},
	{gsi_twice, NULL, "vector 6 claims GSI 50"},
	{gsi_of_msi, NULL, "vector 3 claims GSI 5"},
	{slot, NULL, "slot 9, here it is 1"},
	{bar, NULL, "BAR 0 of 0x3000 bytes"},
	{range, NULL, "the DMA ranges are not the guest's memory"},
	{NULL, "vfio:" BDF, "descriptor vfio:" BDF " would not"},
	{NULL, "vfio:" BDF ":msix:3", ":msix:3 would not"},
	{NULL, "container0", "descriptor container0 would not"},
	{NULL, "vfio-group:7", "state of 1 IOMMU groups, 0 were"},
};

static void refused(const struct spoil *s)
{
	struct machine *m = vfio_running();
	struct vfio_state *saved = malloc(sizeof(*saved));
	struct error err = {0};
	assert_non_null(saved);
	guest_driver(m);
	*saved = vfio_of(m)->state;
	struct vfio_container_state dma = container_of(m)->state;
	if (s->spoil)
		s->spoil(vfio_of(m), container_of(m));
	else
		fdset_rename(&m->fds, s->lost, "lost");
	struct fake_blob blob = fake_save(m);
	assert_true(pretend(&blob, &err) < 0);
	if (!strstr(err.text, s->words))
		fail_msg("'%s', expected '%s'", err.text, s->words);
	vfio_of(m)->state = *saved;
	container_of(m)->state = dma;
	vfio_machine_free(m);
	free(saved);
	free(blob.data);
	fake_vfio_teardown(NULL);
	fake_vfio_setup(NULL);
}

static void bad(void **state)
{
	for (unsigned i = 0; i < ARRAY_LEN(spoils); i++)
		refused(&spoils[i]);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, fake_vfio_setup, fake_vfio_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {TEST(good), TEST(routes), TEST(bad)};
	return cmocka_run_group_tests_name("vfio pretend", tests, NULL, NULL);
}
