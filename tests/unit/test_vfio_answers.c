/* SPDX-License-Identifier: MIT */
/*
 * A device that is taken over is neither asked nor accessed: what it said when it was first opened is in the
 * state, which is not trusted.
 */
#include <sys/syscall.h>

#include "tests/unit/fake_vfio.h"

#define SLOT	1
#define ANSWERS 14 /* fields of a struct vfio_answers, the last of the class */

/* What libc would do, counted: both are how molt gets at config space and BARs. */
static unsigned accesses;

ssize_t pread(int fd, void *buf, size_t len, off_t off)
{
	accesses += fd == vf.device;
	return syscall(SYS_pread64, fd, buf, len, off);
}

ssize_t pwrite(int fd, const void *buf, size_t len, off_t off)
{
	accesses += fd == vf.device;
	return syscall(SYS_pwrite64, fd, buf, len, off);
}

static void guest_driver(struct machine *m)
{
	config_put(m, SLOT, PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
	config_put(m, SLOT, PCI_ROM_ADDRESS, 4, config_get(m, SLOT, PCI_ROM_ADDRESS, 4) | 1);
	config_put(m, SLOT, MSIX_CAP + PCI_MSIX_FLAGS, 2, PCI_MSIX_FLAGS_ENABLE);
}

static void guest_driver_of_msi(struct machine *m)
{
	config_put(m, SLOT, MSI_CAP + PCI_MSI_FLAGS, 2, PCI_MSI_FLAGS_ENABLE | 2 << 4);
}

static void guest_sleeps(struct machine *m)
{
	guest_driver(m);
	config_put(m, SLOT, PM_CAP + PCI_PM_CTRL, 2, 3);
}

static void nothing(struct machine *m)
{
}

static struct fake_blob paused(struct machine *m)
{
	irq_detach_all(&m->irq, NULL);
	return fake_save(m);
}

/* All ones, as one that is gone: read and write alike. */
static void device_dies(void)
{
	static uint8_t ones[PCI_CONFIG_LEN];
	memset(ones, 0xff, sizeof(ones));
	assert_int_equal(pwrite(vf.device, ones, sizeof(ones), 0x10000), sizeof(ones));
}

/* Bit by bit what the guest sees, but for what the device answers by itself. */
static void assert_same_view(struct machine *next, struct machine *m)
{
	struct vfio_dev *a = vfio_of(next), *b = vfio_of(m);
	assert_memory_equal(a->emulated, b->emulated, sizeof(a->emulated));
	assert_memory_equal(a->pci.wmask, b->pci.wmask, sizeof(a->pci.wmask));
	assert_memory_equal(&a->state, &b->state, sizeof(a->state));
	assert_memory_equal(&a->answers, &b->answers, sizeof(a->answers));
	for (unsigned i = 0; i < PCI_BARS; i++) {
		const struct vfio_region *ra = &a->regions[i], *rb = &b->regions[i];
		assert_int_equal(a->pci.bars[i].len, b->pci.bars[i].len);
		assert_int_equal(a->pci.bars[i].flags, b->pci.bars[i].flags);
		assert_int_equal(a->pci.bars[i].mapped, b->pci.bars[i].mapped);
		assert_int_equal(ra->nparts, rb->nparts);
		for (unsigned k = 0; k < ra->nparts; k++) {
			assert_int_equal(ra->parts[k].off, rb->parts[k].off);
			assert_int_equal(ra->parts[k].len, rb->parts[k].len);
			assert_int_equal(!ra->parts[k].hva, !rb->parts[k].hva);
		}
	}
	for (unsigned off = 0; off < PCI_CONFIG_LEN; off++)
		if (a->emulated[off])
			assert_int_equal(config_get(next, SLOT, off, 1),
					 config_get(m, SLOT, off, 1));
}

static void untouched(void (*driver)(struct machine *m), bool dead)
{
	struct machine *m = vfio_running();
	struct error err = {0};
	driver(m);
	struct fake_blob blob = paused(m);
	if (dead)
		device_dies();
	struct machine *next = vfio_machine(false);
	vf.device_calls = accesses = 0;
	if (fake_load(next, &blob, &err) || fake_load_again(next, &blob, &err) ||
	    vfio_container_class.join(&container_of(next)->dev, &err) ||
	    vfio_container_class.take(&container_of(next)->dev, &err) || fake_start(next, &err))
		fail_msg("%s", err.text);
	assert_int_equal(vf.device_calls, 0);
	assert_int_equal(accesses, 0);
	assert_same_view(next, m);
	vfio_machine_free(next);
	vfio_machine_free(m);
	free(blob.data);
	fake_vfio_teardown(NULL);
	fake_vfio_setup(NULL);
}

static void taken_over_untouched(void **state)
{
	static void (*const drivers[])(struct machine *) = {nothing, guest_driver,
							    guest_driver_of_msi, guest_sleeps};
	for (unsigned i = 0; i < ARRAY_LEN(drivers); i++)
		for (int dead = 0; dead < 2; dead++)
			untouched(drivers[i], dead);
}

/* Who does not want the ROM does not ask for it. */
static void no_rom(void **state)
{
	struct machine *m = vfio_running();
	assert_int_equal(vf.rom_calls, 1);
	vfio_machine_free(m);
	fake_vfio_teardown(NULL);
	fake_vfio_setup(NULL);
	m = vfio_machine(true);
	vfio_of(m)->rom = false;
	vfio_run(m);
	assert_int_equal(vf.rom_calls, 0);
	assert_int_equal(config_get(m, SLOT, PCI_ROM_ADDRESS, 4), 0);
	vfio_machine_free(m);
}

/* ---- a state of 0.1.0 ---- */

/* Saves as a program without the last fields. */
static struct fake_blob saved_by_older(struct machine *m)
{
	struct state_section *s = fake_section(m, "vfio@0000,00,05.0");
	const struct state_class *cls = s->cls;
	struct state_class old = *cls;
	old.version = 1;
	old.nfields -= ANSWERS + 3; /* and what it says of interrupts and troubles */
	assert_int_equal(cls->fields[old.nfields - 1].since, 1);
	assert_int_equal(cls->fields[old.nfields].since, 2);
	irq_detach_all(&m->irq, NULL);
	s->cls = &old;
	struct fake_blob blob = fake_save(m);
	s->cls = cls;
	return blob;
}

static void asked_once_more(void **state)
{
	struct machine *m = vfio_running();
	struct error err = {0};
	guest_driver(m);
	fake_all_vectors(m);
	memset(vfio_of(m)->state.irq_unused, 0, sizeof(vfio_of(m)->state.irq_unused));
	struct fake_blob old = saved_by_older(m), now = paused(m);
	unsigned set_irqs = vf.set_irqs;
	uint32_t command = hw_config(PCI_COMMAND, 2);
	struct machine *next = vfio_machine(false);
	vf.device_calls = 0;
	if (fake_load(next, &old, &err))
		fail_msg("%s", err.text);
	assert_true(vf.device_calls > 0);
	assert_same_view(next, m);
	/* But once, and what it said is state from here on. */
	vf.device_calls = accesses = 0;
	if (fake_load_again(next, &old, &err) || fake_load_again(next, &now, &err))
		fail_msg("%s", err.text);
	assert_int_equal(vf.device_calls, 0);
	assert_int_equal(accesses, 0);
	assert_same_view(next, m);
	assert_int_equal(vf.set_irqs, set_irqs);
	assert_int_equal(hw_config(PCI_COMMAND, 2), command);
	vfio_machine_free(next);
	vfio_machine_free(m);
	free(old.data);
	free(now.data);
}

static void another_device_of_old(void **state)
{
	struct machine *m = vfio_running();
	struct error err = {0};
	struct fake_blob old = saved_by_older(m);
	config_le(PCI_DEVICE_ID, 0x1234, 2);
	struct machine *next = vfio_machine(false);
	assert_int_equal(fake_load(next, &old, &err), -EBADMSG);
	assert_non_null(strstr(err.text, "8086:10d3, this is another"));
	vfio_machine_free(next);
	vfio_machine_free(m);
	free(old.data);
}

/* ---- what is refused ---- */

struct spoil {
	uint64_t *wide; /* of the state below: what is changed, or else narrow */
	uint32_t *narrow;
	uint64_t value;
	const char *words;
};

static struct vfio_state spoilt;
#define A spoilt.answers

static const struct spoil spoils[] = {
	{NULL, &A.known, 2, "value of a flag"},
	{NULL, &A.traits, 4, "value of a flag"},
	{NULL, &A.config_len, 60, "place of config space"},
	{NULL, &A.config_len, 4097, "place of config space"},
	{&A.config_off, NULL, INT64_MAX, "place of config space"},
	{&A.region_len[0], NULL, UINT64_MAX, "place of a region"},
	{&A.region_off[0], NULL, INT64_MAX - 100, "place of a region"},
	{&A.region_off[2], NULL, UINT64_MAX, "place of a region"},
	{NULL, &A.region_flags[0], 0xf, "flags of a region"},
	{NULL, &A.region_sparse[2], VFIO_MAX_SPARSE + 1, "number of a region's areas"},
	{NULL, &A.region_sparse[2], 3, "area of a region"},
	{NULL, &A.region_sparse[2], 1, "number of areas"},
	{NULL, &A.region_sparse[4], 1, "area of a region"},
	{NULL, &A.sparse_words, 2 * PCI_BARS *VFIO_MAX_SPARSE, "number of areas"},
	{NULL, &A.sparse_words, 3, "area of a region"},
	{&A.sparse[0], NULL, UINT64_MAX, "area of a region"},
	{&A.sparse[3], NULL, 0x8001, "area of a region"},
	{NULL, &A.pm_cap, 0x3f, "place of a capability"},
	{NULL, &A.pm_cap, 0xfc, "place of a capability"},
	{NULL, &A.msi_cap, 0x10, "place of a capability"},
	{NULL, &A.msi_cap, UINT32_MAX, "place of a capability"},
	{NULL, &A.msi_cap, 0xf0, "MSI state of 4 vectors"},
	{NULL, &A.msix_cap, 0xf8, "place of a capability"},
	{NULL, &A.msix_cap, 0, "the device's capability disagrees"},
	{NULL, &A.msix_cap, PM_CAP, "MSI-X"},
	{&A.region_len[0], NULL, 0x2000, "MSI-X table does not fit BAR 0"},
	{&A.region_len[0], NULL, 0x10000, "BAR 0 had 0x4000 bytes"},
	{&A.region_len[1], NULL, 0, "BAR 1 had 0x20 bytes"},
	{&A.region_len[3], NULL, 0x1000, "BAR 3 of 0x1000 bytes"}, /* upper half of BAR 2 */
	{&A.region_len[6], NULL, 0, "BAR 6 had"},
	{&spoilt.pci.bar_len[1], NULL, 0x30, "BAR 1 had 0x30 bytes"},
	{NULL, &spoilt.pci.bar_flags[1], 0x10, "BAR 1 of kind 16"},
	{NULL, &spoilt.pci.bar_flags[0], PCI_BAR_64 | PCI_BAR_IO, "BAR 0 of 0x4000 bytes, kind 3"},
	{NULL, &spoilt.ident, 0x11118086, "this is another"},
};
#undef A

/* The state of a machine whose guest drives it, with one value changed; in the first load, and in a
 * second one. */
static void refused(const struct spoil *s, bool second)
{
	struct machine *m = vfio_running();
	struct error err = {0};
	guest_driver(m);
	struct fake_blob good = paused(m);
	struct vfio_state *kept = malloc(sizeof(*kept));
	assert_non_null(kept);
	*kept = spoilt = vfio_of(m)->state;
	if (s->wide)
		*s->wide = s->value;
	else
		*s->narrow = (uint32_t)s->value;
	vfio_of(m)->state = spoilt;
	struct fake_blob bad = fake_save(m);
	vfio_of(m)->state = *kept;
	struct machine *next = vfio_machine(false);
	accesses = 0;
	vf.device_calls = 0;
	if (second && fake_load(next, &good, &err))
		fail_msg("%s", err.text);
	int rc = second ? fake_load_again(next, &bad, &err) : fake_load(next, &bad, &err);
	if (rc >= 0)
		fail_msg("loaded, expected: %s", s->words);
	if (!second && !strstr(err.text, s->words))
		fail_msg("'%s', expected '%s'", err.text, s->words);
	assert_int_equal(vf.device_calls, 0);
	assert_int_equal(accesses, 0);
	vfio_machine_free(next);
	vfio_machine_free(m);
	free(kept);
	free(good.data);
	free(bad.data);
	fake_vfio_teardown(NULL);
	fake_vfio_setup(NULL);
}

static void hostile_answers(void **state)
{
	for (unsigned i = 0; i < ARRAY_LEN(spoils); i++)
		for (int second = 0; second < 2; second++)
			refused(&spoils[i], second);
}

/* A state that says that nothing is emulated does not let the guest at the device's BARs. */
static void always_emulated(void **state)
{
	struct machine *m = vfio_running();
	struct error err = {0};
	struct vfio_dev *dev = vfio_of(m);
	uint8_t kept[sizeof(dev->answers.emulated)];
	memcpy(kept, dev->state.answers.emulated, sizeof(kept));
	memset(dev->state.answers.emulated, 0, sizeof(kept));
	struct fake_blob blob = paused(m);
	memcpy(dev->state.answers.emulated, kept, sizeof(kept));
	struct machine *next = vfio_machine(false);
	if (fake_load(next, &blob, &err))
		fail_msg("%s", err.text);
	config_put(next, SLOT, PCI_BASE_ADDRESS_0, 4, 0xffffffff);
	config_put(next, SLOT, MSI_CAP + PCI_MSI_ADDRESS_LO, 4, 0xfee00000);
	config_put(next, SLOT, MSIX_CAP + PCI_MSIX_TABLE, 4, 0x77);
	assert_int_equal(hw_config(PCI_BASE_ADDRESS_0, 4), 0xfeb00000);
	assert_int_equal(hw_config(MSI_CAP + PCI_MSI_ADDRESS_LO, 4), 0);
	assert_int_equal(hw_config(MSIX_CAP + PCI_MSIX_TABLE, 4), 0x2000);
	vfio_machine_free(next);
	vfio_machine_free(m);
	free(blob.data);
}

/* A successor opens no device by itself. */
static void not_handed_over(void **state)
{
	struct machine *m = vfio_running();
	struct error err = {0};
	fdset_rename(&m->fds, "vfio:" BDF, "lost");
	struct fake_blob blob = paused(m);
	struct machine *next = vfio_machine(false);
	assert_int_equal(fake_load(next, &blob, &err), -EBADMSG);
	assert_non_null(strstr(err.text, "descriptor vfio:" BDF " was not handed over"));
	vfio_machine_free(next);
	vfio_machine_free(m);
	free(blob.data);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, fake_vfio_setup, fake_vfio_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(taken_over_untouched),  TEST(no_rom),	    TEST(asked_once_more),
		TEST(another_device_of_old), TEST(hostile_answers), TEST(always_emulated),
		TEST(not_handed_over),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
