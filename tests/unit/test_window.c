/* SPDX-License-Identifier: MIT */
/* The window for 64-bit BARs: what the host's address width and guest memory leave, and whether the
 * devices fit. */
#include <linux/pci_regs.h>
#include <stdio.h>

#include "tests/unit/fake_machine.h"
#include "vmm/arch/x86_64/layout.h"

/* A device with one BAR, 64-bit and prefetchable, of as many GiB as its argument says. */
struct wide {
	struct device dev;
	struct pci_dev pci;
	struct pci_state state;
	uint64_t len;
};

static const struct field wide_fields[] = {
	FIELD_ARRAY(struct pci_state, bar_len),	  FIELD_RAW(struct pci_state, config),
	FIELD_ARRAY(struct pci_state, bar_flags), FIELD_U(struct pci_state, devfn),
	FIELD_U(struct pci_state, bars_mapped),	  FIELD_U(struct pci_state, asleep),
};
static STATE_CLASS(wide_state_class, "wide", 1, struct pci_state, wide_fields);

static int wide_map(struct pci_dev *pci, unsigned bar, uint64_t addr, struct error *err)
{
	return 0;
}

static void wide_unmap(struct pci_dev *pci, unsigned bar, uint64_t addr)
{
}

static const struct pci_ops wide_ops = {.bar_map = wide_map, .bar_unmap = wide_unmap};

static int wide_init(struct device *dev, const char *arg, struct error *err)
{
	struct wide *w = (struct wide *)dev;
	w->len = strtoull(arg, NULL, 10) * GIB;
	int rc = pci_dev_init(&w->pci, dev, &wide_ops, &w->state, err);
	snprintf(dev->node, sizeof(dev->node), "wide@%u", w->state.devfn >> 3);
	return rc;
}

static int wide_realize(struct device *dev, struct error *err)
{
	struct wide *w = (struct wide *)dev;
	return pci_bar_add(&w->pci, 0, PCI_BAR_64 | PCI_BAR_PREF, w->len, err);
}

static int wide_post_load(void *opaque, struct error *err)
{
	return pci_dev_load(&((struct wide *)opaque)->pci, err);
}

static const struct device_class wide_class = {.name = "wide",
					       .state = &wide_state_class,
					       .size = sizeof(struct wide),
					       .state_offset = offsetof(struct wide, state),
					       .init = wide_init,
					       .realize = wide_realize,
					       .post_load = wide_post_load};

#define MAX_WIDE 4

static struct machine *machine_of(const char *const *gib, bool fresh)
{
	struct machine *m = fake_machine(fresh);
	for (unsigned i = 0; i < MAX_WIDE && gib[i]; i++)
		assert_int_equal(machine_add_device(m, &wide_class, gib[i], NULL), 0);
	return m;
}

static void window_of(unsigned bits, uint64_t ram_end)
{
	fake.address_bits = bits;
	layout_mmio64(bits, ram_end, &fake.mmio64_base, &fake.mmio64_len);
	assert_true(fake.mmio64_base >= ram_end);
	assert_true(fake.mmio64_base + fake.mmio64_len <= 1ull << bits);
}

/* Starts a machine, and looks where the BARs are. */
static int start(const char *const *gib, struct error *err)
{
	struct machine *m = machine_of(gib, true);
	assert_int_equal(fake_realize(m, err), 0);
	int rc = fake_reset(m, err);
	uint64_t end = fake.mmio64_base + fake.mmio64_len;
	for (unsigned i = 1; !rc && i < m->ndevices; i++) {
		const struct wide *w = (const struct wide *)m->devices[i];
		uint64_t at = pci_bar_addr(&w->pci, 0);
		config_put(m, i, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
		assert_true(w->pci.bars[0].mapped);
		assert_in_range(at, fake.mmio64_base, end - w->len);
		assert_int_equal(at % w->len, 0);
	}
	fake_destroy(m);
	return rc;
}

static void devices_fit_the_hosts_address_width(void **state)
{
	static const struct {
		unsigned bits;
		uint64_t ram_end;
		const char *gib[MAX_WIDE];
	} cases[] = {
		{36, 4 * GIB, {"8", "8"}},
		{39, 32 * GIB, {"64", "64"}},
		{40, 8 * GIB, {"128", "128"}},
		{40, 600 * GIB, {"128"}}, /* guest memory reaches into it */
		{46, 8 * GIB, {"128", "128"}},
		{46, 8 * GIB, {"256"}},
		{46, 1024 * GIB, {"1", "128", "256", "128"}},
		{46, 8 * GIB, {"1024", "256", "1024"}},
		{48, 8 * GIB, {"256", "128", "128"}},
		{52, 8 * GIB, {"128", "128"}},
		{52, 8 * GIB, {"256", "256", "256"}},
		{52, 1024 * GIB, {"1024", "1024", "1024", "1024"}},
	};
	for (unsigned i = 0; i < ARRAY_LEN(cases); i++) {
		struct error err = {0};
		window_of(cases[i].bits, cases[i].ram_end);
		if (start(cases[i].gib, &err))
			fail_msg("case %u: %s", i, err.text);
	}
}

static void too_few_bits_are_told(void **state)
{
	static const char *const two[MAX_WIDE] = {"128", "128"}, *const one[MAX_WIDE] = {"256"};
	struct error err = {0};
	window_of(39, 8 * GIB);
	assert_int_equal(start(two, &err), -ENOSPC);
	assert_int_equal(err.exit, EXIT_HOST);
	assert_string_equal(
		err.text, "wide: no room for BAR 0 of 131072 MiB: the devices' 64-bit BARs take "
			  "262144 MiB, the guest's window for them has 131072 MiB (39 address bits "
			  "on this host)");
	assert_non_null(strstr(err.hint, "fewer devices"));
	assert_int_equal(start(one, &err), -ENOSPC);
	window_of(40, 700 * GIB);
	assert_int_equal(start(two, &err), -ENOSPC);
	layout_mmio64(36, 64 * GIB, &fake.mmio64_base, &fake.mmio64_len); /* memory takes all */
	assert_int_equal(fake.mmio64_base | fake.mmio64_len, 0);
}

/* Linux reaches 46 bits with four levels of page tables, whatever the processor has. */
static void no_address_is_beyond_what_guests_reach(void **state)
{
	uint64_t base, len, base52, len52;
	layout_mmio64(46, 8 * GIB, &base, &len);
	layout_mmio64(52, 8 * GIB, &base52, &len52);
	assert_int_equal(base, 1ull << 45);
	assert_int_equal(len, 1ull << 44);
	assert_int_equal(base52, base);
	assert_int_equal(len52, len);
}

/* To and fro: the guest keeps its window, whatever a new one would get. */
static void an_update_keeps_the_window(void **state)
{
	static const struct {
		unsigned bits;
		uint64_t base, len; /* of the successor */
		const char *gib[MAX_WIDE];
	} cases[] = {
		{46, 0x4000000000, 64 * GIB, {"128", "256", "128"}},
		{52, 0x4000000000, 64 * GIB, {"256", "256"}},
		{40, 1ull << 45, 1ull << 44, {"256"}}, /* 0.2.0's had 256 GiB at most */
	};
	for (unsigned i = 0; i < ARRAY_LEN(cases); i++) {
		struct error err = {0};
		window_of(cases[i].bits, 8 * GIB);
		struct machine *a = machine_of(cases[i].gib, true);
		if (fake_realize(a, &err) || fake_reset(a, &err))
			fail_msg("%s", err.text);
		for (unsigned k = 1; k < a->ndevices; k++)
			config_put(a, k, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
		struct fake_blob blob = fake_save(a);

		fake.mmio64_base = cases[i].base;
		fake.mmio64_len = cases[i].len;
		struct machine *b = machine_of(cases[i].gib, false);
		if (fake_load(b, &blob, &err))
			fail_msg("case %u: %s", i, err.text);
		const struct pci_host *ha = (struct pci_host *)a->devices[0],
				      *hb = (struct pci_host *)b->devices[0];
		assert_int_equal(hb->state.mmio64_base, ha->state.mmio64_base);
		assert_int_equal(hb->state.mmio64_len, ha->state.mmio64_len);
		for (unsigned k = 1; k < b->ndevices; k++) {
			const struct wide *wa = (struct wide *)a->devices[k],
					  *wb = (struct wide *)b->devices[k];
			assert_true(wb->pci.bars[0].mapped);
			assert_int_equal(wb->pci.bars[0].addr, wa->pci.bars[0].addr);
		}
		free(blob.data);
		fake_destroy(b);
		fake_destroy(a);
	}
}

static int setup(void **state)
{
	memset(&fake, 0, sizeof(fake));
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(devices_fit_the_hosts_address_width, setup),
		cmocka_unit_test_setup(too_few_bits_are_told, setup),
		cmocka_unit_test_setup(no_address_is_beyond_what_guests_reach, setup),
		cmocka_unit_test_setup(an_update_keeps_the_window, setup),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
