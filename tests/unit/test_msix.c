/* SPDX-License-Identifier: MIT */
/* MSI-X, seen by the guest of a testdev: the table, masking, pending bits; and the state of both.
 */
#include <linux/pci_regs.h>
#include <stdio.h>

#include "devices/pci/msi.h"
#include "devices/pc/pc.h"
#include "tests/unit/fake_machine.h"

#define CAP   0x40
#define TABLE 0x800
#define PBA   0xc00

static int trigger, unmask;

static int setup(void **state)
{
	memset(&fake, 0, sizeof(fake));
	trigger = eventfd(0, EFD_NONBLOCK);
	unmask = eventfd(0, EFD_NONBLOCK);
	return trigger < 0 || unmask < 0;
}

static int teardown(void **state)
{
	close(trigger);
	close(unmask);
	return 0;
}

static const char *arg_text(bool level)
{
	static char text[2][64];
	snprintf(text[level], sizeof(text[level]), level ? "trigger=%d,unmask=%d" : "trigger=%d",
		 trigger, unmask);
	return text[level];
}

static struct machine *machine_with(bool level, bool fresh)
{
	struct machine *m = fake_machine(fresh);
	struct error err = {0};
	if (machine_add_device(m, &testdev_class, arg_text(level), &err))
		fail_msg("%s", err.text);
	return m;
}

static struct machine *running(bool level)
{
	struct machine *m = machine_with(level, true);
	struct error err = {0};
	if (fake_realize(m, &err) || fake_reset(m, &err) || fake_start(m, &err))
		fail_msg("%s", err.text);
	config_put(m, 1, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	return m;
}

static uint64_t bar(struct machine *m)
{
	return config_get(m, 1, PCI_BASE_ADDRESS_0, 4);
}

static void signal_it(void)
{
	const uint64_t one = 1;
	assert_int_equal(write(trigger, &one, 8), 8);
}

static void enable(struct machine *m, unsigned bits)
{
	config_put(m, 1, CAP + PCI_MSIX_FLAGS, 2, bits);
}

static void capability(void **state)
{
	struct machine *m = running(false);
	assert_int_equal(config_get(m, 1, PCI_STATUS, 2), PCI_STATUS_CAP_LIST);
	assert_int_equal(config_get(m, 1, PCI_CAPABILITY_LIST, 1), CAP);
	assert_int_equal(config_get(m, 1, CAP, 4), PCI_CAP_ID_MSIX);
	assert_int_equal(config_get(m, 1, CAP + PCI_MSIX_TABLE, 4), TABLE);
	assert_int_equal(config_get(m, 1, CAP + PCI_MSIX_PBA, 4), PBA);
	enable(m, 0xffff);
	assert_int_equal(config_get(m, 1, CAP + PCI_MSIX_FLAGS, 2), 0xc000);
	fake_destroy(m);
}

static void table_widths(void **state)
{
	struct machine *m = running(false);
	uint64_t t = bar(m) + TABLE;
	/* As after reset: zero and masked. */
	assert_int_equal(guest_read(&m->mmio, t, 8), 0);
	assert_int_equal(guest_read(&m->mmio, t + 8, 8), 1ull << 32);
	guest_write(&m->mmio, t, 8, 0x11223344fee01000);
	guest_write(&m->mmio, t + 8, 4, 0x4041);
	assert_int_equal(guest_read(&m->mmio, t, 4), 0xfee01000);
	assert_int_equal(guest_read(&m->mmio, t + 4, 4), 0x11223344);
	assert_int_equal(guest_read(&m->mmio, t + 4, 2), 0x3344);
	assert_int_equal(guest_read(&m->mmio, t + 7, 1), 0x11);
	/* Narrow or crooked writes vanish. */
	guest_write(&m->mmio, t + 8, 2, 0xffff);
	guest_write(&m->mmio, t + 8, 1, 0xff);
	guest_write(&m->mmio, t + 2, 4, 0xffffffff);
	guest_write(&m->mmio, t + 4, 8, ~0ull);
	assert_int_equal(guest_read(&m->mmio, t, 8), 0x11223344fee01000);
	assert_int_equal(guest_read(&m->mmio, t + 8, 4), 0x4041);
	/* Reserved bits of the control word. */
	guest_write(&m->mmio, t + 12, 4, 0xffffffff);
	assert_int_equal(guest_read(&m->mmio, t + 12, 4), 1);
	guest_write(&m->mmio, t + 8, 8, 0xfffffffe00004042);
	assert_int_equal(guest_read(&m->mmio, t + 8, 8), 0x4042);
	/* Half in the table, half behind it: nobody's. */
	assert_int_equal(guest_read(&m->mmio, t + 12, 8), ~0ull);
	guest_write(&m->mmio, t + 12, 8, ~0ull);
	assert_int_equal(guest_read(&m->mmio, t + 12, 4), 0);
	assert_int_equal(guest_read(&m->mmio, t - 4, 8), ~0ull);
	/* One vector only: what follows is no table. */
	assert_int_equal(guest_read(&m->mmio, t + 16, 4), 0);
	guest_write(&m->mmio, t + 16, 4, 1);
	assert_int_equal(guest_read(&m->mmio, t + 16, 4), 0);
	guest_write(&m->mmio, bar(m) + PBA, 8, ~0ull);
	assert_int_equal(guest_read(&m->mmio, bar(m) + PBA, 8), 0);
	fake_destroy(m);
}

static void masked_is_pending(void **state)
{
	struct machine *m = running(false);
	uint64_t t = bar(m) + TABLE, p = bar(m) + PBA;
	guest_write(&m->mmio, t, 8, 0xfee01000);
	guest_write(&m->mmio, t + 8, 4, 0x41);
	enable(m, PCI_MSIX_FLAGS_ENABLE);
	assert_int_equal(fake.irqfds, 0); /* masked by its own bit */
	signal_it();
	assert_int_equal(guest_read(&m->mmio, p, 8), 1);
	assert_int_equal(guest_read(&m->mmio, p, 4), 1);
	assert_int_equal(guest_read(&m->mmio, p, 1), 1);
	assert_int_equal(guest_read(&m->mmio, p + 4, 4), 0);
	guest_write(&m->mmio, t + 12, 4, 0);
	assert_int_equal(fake.fds[trigger], IRQ_PINS + 1);
	assert_int_equal(fake.nmsi, 1);
	assert_int_equal(fake.msi[0].gsi, IRQ_PINS);
	assert_int_equal(fake.msi[0].u.msi.address_lo, 0xfee01000);
	assert_int_equal(fake.msi[0].u.msi.data, 0x41);
	assert_int_equal(guest_read(&m->mmio, p, 8), 0);
	/* A new message for a vector that is not masked. */
	guest_write(&m->mmio, t + 8, 4, 0x42);
	assert_int_equal(fake.msi[0].u.msi.data, 0x42);
	assert_int_equal(fake.irqfds, 1);
	/* Each of the three ways to hold it back. */
	enable(m, PCI_MSIX_FLAGS_ENABLE | PCI_MSIX_FLAGS_MASKALL);
	assert_int_equal(fake.irqfds, 0);
	assert_int_equal(guest_read(&m->mmio, p, 8), 1); /* nobody has read the eventfd */
	enable(m, PCI_MSIX_FLAGS_ENABLE);
	assert_int_equal(fake.irqfds, 1);
	guest_write(&m->mmio, t + 12, 4, 1);
	assert_int_equal(fake.irqfds, 0);
	guest_write(&m->mmio, t + 12, 4, 0);
	enable(m, 0);
	assert_int_equal(fake.irqfds, 0);
	assert_int_equal(fake.attaches, 2 + 1);
	fake_destroy(m);
}

static void level_line(void **state)
{
	struct machine *m = running(true);
	assert_int_equal(config_get(m, 1, PCI_STATUS, 2), 0);
	assert_int_equal(config_get(m, 1, PCI_INTERRUPT_PIN, 1), 1);
	assert_int_equal(config_get(m, 1, PCI_INTERRUPT_LINE, 1), 17);
	assert_int_equal(fake.fds[trigger], 17 + 1);
	config_put(m, 1, PCI_COMMAND, 2, PCI_COMMAND_INTX_DISABLE);
	assert_int_equal(fake.irqfds, 0);
	config_put(m, 1, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	assert_int_equal(fake.fds[trigger], 17 + 1);
	fake_destroy(m);
}

static void registers(void **state)
{
	struct machine *m = running(false);
	uint64_t b = bar(m);
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(guest_read(&m->mmio, b, 4), i);
	guest_write(&m->mmio, b + 8, 8, 0x1122334455667788);
	guest_write(&m->mmio, b + 12, 4, 0xaabbccdd);
	assert_int_equal(guest_read(&m->mmio, b + 8, 8), 0xaabbccdd55667788);
	assert_int_equal(guest_read(&m->mmio, b + 0x10, 4), 3);
	fake_destroy(m);
}

static struct machine *successor(bool level, const struct fake_blob *blob, int *rc,
				 struct error *err)
{
	struct machine *m = machine_with(level, false);
	*rc = fake_load(m, blob, err);
	return m;
}

static void state_travels(void **state)
{
	struct machine *m = running(false);
	struct error err = {0};
	int rc;
	/* The successor must go by names, not by the numbers in the option. */
	guest_write(&m->mmio, bar(m) + TABLE, 8, 0xfee01000);
	guest_write(&m->mmio, bar(m) + TABLE + 8, 8, 0x41);
	enable(m, PCI_MSIX_FLAGS_ENABLE);
	guest_read(&m->mmio, bar(m), 4);
	guest_write(&m->mmio, bar(m) + 8, 8, 77);
	irq_detach_all(&m->irq, NULL);
	signal_it();
	struct fake_blob blob = fake_save(m);

	struct machine *next = successor(false, &blob, &rc, &err);
	if (rc)
		fail_msg("%s", err.text);
	assert_int_equal(fake.irqfds, 0); /* not before the machine starts */
	fake_start(next, NULL);
	assert_int_equal(fake.fds[trigger], IRQ_PINS + 1);
	assert_int_equal(fake.msi[0].u.msi.data, 0x41);
	assert_int_equal(guest_read(&next->mmio, bar(next), 4), 1);
	assert_int_equal(guest_read(&next->mmio, bar(next) + 8, 8), 77);
	assert_int_equal(irq_gsi_take(&next->irq, IRQ_PINS), -EBUSY);
	fake_destroy(next);
	fake_destroy(m);
	free(blob.data);
}

static void level_travels(void **state)
{
	struct machine *m = running(true);
	struct error err = {0};
	uint64_t count;
	int rc;
	irq_detach_all(&m->irq, NULL);
	assert_int_equal(read(unmask, &count, 8), 8); /* of the start */
	struct fake_blob blob = fake_save(m);
	struct machine *next = successor(true, &blob, &rc, &err);
	if (rc)
		fail_msg("%s", err.text);
	fake_start(next, NULL);
	assert_int_equal(fake.fds[trigger], 17 + 1);
	assert_int_equal(read(unmask, &count, 8), 8); /* the line is looked at again */
	fake_destroy(next);
	fake_destroy(m);
	free(blob.data);
}

enum spoil { SPOIL_VECTORS, SPOIL_WORDS, SPOIL_GSI_PIN, SPOIL_GSI_HIGH, SPOIL_MAX };

/* Counts and GSIs that do not fit the device are refused, not used. */
static void hostile_state(void **state)
{
	for (unsigned how = 0; how < SPOIL_MAX; how++) {
		struct machine *m = running(false);
		struct error err = {0};
		int rc;
		struct state_section *s = fake_section(m, "testdev@0");
		const struct field *f = NULL;
		for (uint32_t i = 0; i < s->cls->nfields; i++)
			if (!strcmp(s->cls->fields[i].name, "msix.gsi"))
				f = &s->cls->fields[i];
		assert_non_null(f);
		/* The msix state begins with its two counts. */
		struct msix_state *x = (void *)((char *)s->state + f->len_offset);
		assert_int_equal(x->vectors, 1);
		assert_int_equal(x->words, 4);
		if (how == SPOIL_VECTORS)
			x->vectors = 2048;
		if (how == SPOIL_WORDS)
			x->words = 0;
		if (how == SPOIL_GSI_PIN)
			x->gsi[0] = 4;
		if (how == SPOIL_GSI_HIGH)
			x->gsi[0] = 0xffffffff;
		struct fake_blob blob = fake_save(m);
		x->vectors = 1;
		struct machine *next = successor(false, &blob, &rc, &err);
		assert_true(rc < 0);
		assert_non_null(strstr(err.text, "testdev0"));
		fake_destroy(next);
		fake_destroy(m);
		free(blob.data);
	}
}

static void options(void **state)
{
	static const char *const bad[] = {
		"",	      "trigger",    "trigger=",		 "trigger=x",
		"trigger=-1", "trigger=5,", "trigger=5,unmask=", "trigger=5,unmask=6x",
		"unmask=5"};
	struct error err = {0};
	for (unsigned i = 0; i < ARRAY_LEN(bad); i++) {
		struct machine *m = fake_machine(true);
		assert_int_equal(machine_add_device(m, &testdev_class, bad[i], &err), -EINVAL);
		assert_int_equal(err.exit, EXIT_USAGE);
		fake_destroy(m);
	}
	/* No eventfd. */
	struct machine *m = fake_machine(true);
	assert_int_equal(machine_add_device(m, &testdev_class, "trigger=0", &err), 0);
	assert_int_equal(fake_realize(m, &err), -EBADF);
	fake_destroy(m);
}

static void fields_cover(void **state)
{
	struct machine *m = running(false);
	const struct state_class *cls = fake_section(m, "testdev@0")->cls;
	assert_int_equal(unit_uncovered(cls), cls->size);
	fake_destroy(m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(capability, setup, teardown),
		cmocka_unit_test_setup_teardown(table_widths, setup, teardown),
		cmocka_unit_test_setup_teardown(masked_is_pending, setup, teardown),
		cmocka_unit_test_setup_teardown(level_line, setup, teardown),
		cmocka_unit_test_setup_teardown(registers, setup, teardown),
		cmocka_unit_test_setup_teardown(state_travels, setup, teardown),
		cmocka_unit_test_setup_teardown(level_travels, setup, teardown),
		cmocka_unit_test_setup_teardown(hostile_state, setup, teardown),
		cmocka_unit_test_setup_teardown(options, setup, teardown),
		cmocka_unit_test_setup_teardown(fields_cover, setup, teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
