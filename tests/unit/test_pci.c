/* SPDX-License-Identifier: MIT */
/* The PCI bus: config access, write masks, BARs that are sized, placed, moved and piled up. */
#include <linux/pci_regs.h>
#include <stdio.h>

#include "tests/unit/fake_machine.h"

struct dummy_state {
	struct pci_state pci;
};

static const struct field dummy_fields[] = {PCI_STATE_FIELDS(struct dummy_state, pci)};
static STATE_CLASS(dummy_state_class, "dummy", 1, struct dummy_state, dummy_fields);

/* BARs: 0 memory, 1 I/O, 2+3 64-bit prefetchable, 6 ROM. */
struct dummy {
	struct device dev;
	struct pci_dev pci;
	struct dummy_state state;
	uint64_t at[PCI_BARS]; /* where the bus mapped it; 0: nowhere */
	unsigned maps;
	int map_error;
};

static const uint64_t lens[PCI_BARS] = {0x4000, 0x20, 4 * MIB, 0, 0, 0, 0x10000};

static int dummy_map(struct pci_dev *pci, unsigned bar, uint64_t addr, struct error *err)
{
	struct dummy *d = (struct dummy *)pci->owner;
	if (d->map_error)
		return error_set(err, d->map_error, "dummy");
	assert_int_equal(d->at[bar], 0);
	d->at[bar] = addr;
	d->maps++;
	return 0;
}

static void dummy_unmap(struct pci_dev *pci, unsigned bar, uint64_t addr)
{
	struct dummy *d = (struct dummy *)pci->owner;
	assert_int_equal(d->at[bar], addr);
	d->at[bar] = 0;
}

static const struct pci_ops dummy_ops = {.bar_map = dummy_map, .bar_unmap = dummy_unmap};

static int dummy_init(struct device *dev, const char *arg, struct error *err)
{
	struct dummy *d = (struct dummy *)dev;
	int rc = pci_dev_init(&d->pci, dev, &dummy_ops, &d->state.pci, err);
	snprintf(dev->node, sizeof(dev->node), "dummy@%u", d->state.pci.devfn >> 3);
	return rc;
}

static int dummy_post_load(void *opaque, struct error *err)
{
	return pci_dev_load(&((struct dummy *)opaque)->pci, err);
}

static int dummy_realize(struct device *dev, struct error *err)
{
	struct dummy *d = (struct dummy *)dev;
	pci_config_set(&d->pci, PCI_VENDOR_ID, 4, 0x12345678);
	pci_config_set(&d->pci, PCI_INTERRUPT_PIN, 1, 1);
	assert_int_equal(pci_bar_add(&d->pci, 0, 0, lens[0], err), 0);
	assert_int_equal(pci_bar_add(&d->pci, 1, PCI_BAR_IO, lens[1], err), 0);
	assert_int_equal(pci_bar_add(&d->pci, 2, PCI_BAR_64 | PCI_BAR_PREF, lens[2], err), 0);
	assert_int_equal(pci_bar_add(&d->pci, PCI_BAR_ROM, 0, lens[6], err), 0);
	return 0;
}

static const struct device_class dummy_class = {.name = "dummy",
						.state = &dummy_state_class,
						.size = sizeof(struct dummy),
						.state_offset = offsetof(struct dummy, state),
						.init = dummy_init,
						.realize = dummy_realize,
						.post_load = dummy_post_load};

static struct machine *two_dummies(void)
{
	struct machine *m = fake_machine(true);
	assert_int_equal(machine_add_device(m, &dummy_class, NULL, NULL), 0);
	assert_int_equal(machine_add_device(m, &dummy_class, NULL, NULL), 0);
	assert_int_equal(fake_realize(m, NULL), 0);
	return m;
}

static struct dummy *dummy_at(struct machine *m, unsigned slot)
{
	return (struct dummy *)m->devices[slot];
}

#define MEM_ON(m, slot) config_put(m, slot, PCI_COMMAND, 2, PCI_COMMAND_MEMORY)

static void config_access(void **state)
{
	struct machine *m = two_dummies();
	assert_int_equal(fake_reset(m, NULL), 0);
	assert_int_equal(config_get(m, 0, PCI_CLASS_DEVICE, 2), 0x0600);
	assert_int_equal(config_get(m, 1, PCI_VENDOR_ID, 4), 0x12345678);
	assert_int_equal(config_get(m, 1, PCI_DEVICE_ID, 2), 0x1234);
	assert_int_equal(config_get(m, 1, 3, 1), 0x12);
	assert_int_equal(config_get(m, 1, 1, 2), 0xffff);			   /* not aligned */
	assert_int_equal(config_get(m, 3, 0, 4), 0xffffffff);			   /* nobody */
	assert_int_equal(guest_read(&m->mmio, FAKE_ECAM + 0x9000, 4), 0xffffffff); /* 00:01.1 */
	/* Eight bytes at once: two registers. */
	assert_int_equal(guest_read(&m->mmio, FAKE_ECAM + 0x8000, 8), 0x12345678);
	/* Read-only bits stay, writable ones change, in every width. */
	config_put(m, 1, PCI_VENDOR_ID, 4, 0);
	assert_int_equal(config_get(m, 1, PCI_VENDOR_ID, 4), 0x12345678);
	config_put(m, 1, PCI_INTERRUPT_LINE, 4, 0xffffffab);
	assert_int_equal(config_get(m, 1, PCI_INTERRUPT_LINE, 4), 0x000001ab);
	config_put(m, 1, PCI_COMMAND, 2, 0xffff);
	assert_int_equal(config_get(m, 1, PCI_COMMAND, 2), 0x0547);
	config_put(m, 1, PCI_COMMAND + 1, 1, 0);
	assert_int_equal(config_get(m, 1, PCI_COMMAND, 2), 0x0147 & 0x47);
	fake_destroy(m);
}

static void config_ports(void **state)
{
	struct machine *m = two_dummies();
	assert_int_equal(fake_reset(m, NULL), 0);
	guest_write(&m->pio, 0xcf8, 4, 0x80000800);
	assert_int_equal(guest_read(&m->pio, 0xcf8, 4), 0x80000800);
	assert_int_equal(guest_read(&m->pio, 0xcfc, 4), 0x12345678);
	assert_int_equal(guest_read(&m->pio, 0xcfe, 2), 0x1234);
	assert_int_equal(guest_read(&m->pio, 0xcff, 1), 0x12);
	assert_int_equal(guest_read(&m->pio, 0xcfd, 2), 0xffff);
	guest_write(&m->pio, 0xcfb, 1, 0); /* a byte: not the address register */
	assert_int_equal(guest_read(&m->pio, 0xcf8, 4), 0x80000800);
	guest_write(&m->pio, 0xcf8, 4, 0x0800); /* not enabled */
	assert_int_equal(guest_read(&m->pio, 0xcfc, 4), 0xffffffff);
	guest_write(&m->pio, 0xcf8, 4, 0x80010800); /* bus 1 */
	assert_int_equal(guest_read(&m->pio, 0xcfc, 4), 0xffffffff);
	guest_write(&m->pio, 0xcf8, 4, 0x80000804);
	guest_write(&m->pio, 0xcfc, 2, 0x4);
	assert_int_equal(config_get(m, 1, PCI_COMMAND, 2), 0x4);
	fake_destroy(m);
}

static void bars_start_placed(void **state)
{
	struct machine *m = two_dummies();
	assert_int_equal(fake_reset(m, NULL), 0);
	for (unsigned slot = 1; slot <= 2; slot++) {
		struct dummy *d = dummy_at(m, slot);
		assert_int_equal(config_get(m, slot, PCI_COMMAND, 2), 0);
		assert_int_equal(d->maps, 0);
		for (unsigned bar = 0; bar < PCI_BARS; bar++)
			if (lens[bar])
				assert_int_equal(pci_bar_addr(&d->pci, bar) % lens[bar], 0);
		assert_in_range(pci_bar_addr(&d->pci, 0), FAKE_MMIO32, FAKE_MMIO32 + 0x80000);
		assert_in_range(pci_bar_addr(&d->pci, 1), FAKE_PIO, 0xffff);
		assert_in_range(pci_bar_addr(&d->pci, 2), FAKE_MMIO64, FAKE_MMIO64 + 8 * MIB);
		/* INTA of slot s is pin (s + 0) % 4. */
		assert_int_equal(config_get(m, slot, PCI_INTERRUPT_LINE, 1), 16 + slot);
	}
	MEM_ON(m, 1);
	MEM_ON(m, 2);
	assert_int_equal(dummy_at(m, 1)->maps, 2); /* no I/O, ROM not enabled */
	assert_int_equal(dummy_at(m, 2)->maps, 2);
	config_put(m, 1, PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_IO);
	config_put(m, 1, PCI_ROM_ADDRESS, 1, 1);
	assert_int_equal(dummy_at(m, 1)->maps, 4);
	fake_destroy(m);
}

static void bar_sizing(void **state)
{
	struct machine *m = two_dummies();
	assert_int_equal(fake_reset(m, NULL), 0);
	for (unsigned bar = 0; bar < 6; bar++)
		config_put(m, 1, PCI_BASE_ADDRESS_0 + 4 * bar, 4, 0xffffffff);
	config_put(m, 1, PCI_ROM_ADDRESS, 4, 0xfffff800);
	assert_int_equal(config_get(m, 1, PCI_BASE_ADDRESS_0, 4), 0xffffc000);
	assert_int_equal(config_get(m, 1, PCI_BASE_ADDRESS_1, 4), 0xffffffe1);
	assert_int_equal(config_get(m, 1, PCI_BASE_ADDRESS_2, 4), 0xffc0000c);
	assert_int_equal(config_get(m, 1, PCI_BASE_ADDRESS_3, 4), 0xffffffff);
	assert_int_equal(config_get(m, 1, PCI_BASE_ADDRESS_4, 4), 0);
	assert_int_equal(config_get(m, 1, PCI_ROM_ADDRESS, 4), 0xffff0000);
	/* Sizing with decode on: nowhere, and no harm. */
	MEM_ON(m, 1);
	assert_int_equal(dummy_at(m, 1)->at[0], 0);
	fake_destroy(m);
}

static void bar_moves(void **state)
{
	struct machine *m = two_dummies();
	struct dummy *d = dummy_at(m, 1);
	assert_int_equal(fake_reset(m, NULL), 0);
	MEM_ON(m, 1);
	config_put(m, 1, PCI_BASE_ADDRESS_0, 4, FAKE_MMIO32 + 8 * MIB + 0x123);
	assert_int_equal(d->at[0], FAKE_MMIO32 + 8 * MIB);
	/* 64 bits come in two writes; in between it is out of the windows. */
	config_put(m, 1, PCI_BASE_ADDRESS_3, 4, 0x77);
	assert_int_equal(d->at[2], 0);
	config_put(m, 1, PCI_BASE_ADDRESS_2, 4, 0x800000);
	config_put(m, 1, PCI_BASE_ADDRESS_3, 4, FAKE_MMIO64 >> 32);
	assert_int_equal(d->at[2], FAKE_MMIO64 + 0x800000);
	/* A 64-bit BAR may be put below 4 GiB as well. */
	config_put(m, 1, PCI_BASE_ADDRESS_3, 4, 0);
	config_put(m, 1, PCI_BASE_ADDRESS_2, 4, FAKE_MMIO32 + 16 * MIB);
	assert_int_equal(d->at[2], FAKE_MMIO32 + 16 * MIB);
	config_put(m, 1, PCI_COMMAND, 2, 0);
	assert_int_equal(d->at[0] | d->at[2], 0);
	fake_destroy(m);
}

static void bar_collisions(void **state)
{
	struct machine *m = two_dummies();
	struct dummy *a = dummy_at(m, 1), *b = dummy_at(m, 2);
	assert_int_equal(fake_reset(m, NULL), 0);
	MEM_ON(m, 1);
	MEM_ON(m, 2);
	uint64_t home = a->at[0];
	/* Over RAM, config window, end of window: nowhere. */
	static const uint32_t bad[] = {
		0,	    0x100000,	(uint32_t)FAKE_ECAM, 0xcfffe000 + 0x2000,
		0xfee00000, 0xfec00000, 0xfffff000};
	for (unsigned i = 0; i < ARRAY_LEN(bad); i++) {
		config_put(m, 2, PCI_BASE_ADDRESS_0, 4, bad[i]);
		assert_int_equal(b->at[0], 0);
	}
	/* On top of the other device: the one that was there stays. */
	config_put(m, 2, PCI_BASE_ADDRESS_0, 4, (uint32_t)home);
	assert_int_equal(a->at[0], home);
	assert_int_equal(b->at[0], 0);
	/* When that one leaves, the place is free. */
	config_put(m, 1, PCI_BASE_ADDRESS_0, 4, FAKE_MMIO32 + 32 * MIB);
	assert_int_equal(b->at[0], home);
	/* Its own BARs collide too. */
	config_put(m, 1, PCI_BASE_ADDRESS_3, 4, 0);
	config_put(m, 1, PCI_BASE_ADDRESS_2, 4, FAKE_MMIO32 + 32 * MIB);
	assert_int_equal(a->at[2], 0);
	/* Something that is no BAR is in the way: unmapped, and tried again later. */
	b->map_error = EEXIST;
	config_put(m, 2, PCI_BASE_ADDRESS_0, 4, FAKE_MMIO32 + 64 * MIB);
	assert_int_equal(b->at[0], 0);
	b->map_error = 0;
	MEM_ON(m, 2);
	assert_int_equal(b->at[0], FAKE_MMIO32 + 64 * MIB);
	fake_destroy(m);
}

static void bars_that_cannot_be(void **state)
{
	struct machine *m = fake_machine(true);
	assert_int_equal(machine_add_device(m, &dummy_class, NULL, NULL), 0);
	struct dummy *d = dummy_at(m, 1);
	assert_int_equal(pci_bar_add(&d->pci, 0, 0, 0x3000, NULL), -EINVAL);
	assert_int_equal(pci_bar_add(&d->pci, 0, 0, 8, NULL), -EINVAL);
	assert_int_equal(pci_bar_add(&d->pci, 7, 0, 16, NULL), -EINVAL);
	assert_int_equal(pci_bar_add(&d->pci, 5, PCI_BAR_64, 4096, NULL), -EINVAL);
	assert_int_equal(pci_bar_add(&d->pci, 0, 0, 4 * GIB, NULL), -EINVAL);
	assert_int_equal(pci_bar_add(&d->pci, 0, PCI_BAR_64, 8 * GIB, NULL), 0);
	assert_int_equal(pci_bar_add(&d->pci, 1, 0, 4096, NULL), -EINVAL); /* upper half of 0 */
	assert_int_equal(pci_bar_add(&d->pci, 0, 0, 4096, NULL), -EINVAL);
	assert_int_equal(pci_config_get(&d->pci, PCI_BASE_ADDRESS_0, 4), 4);
	assert_int_equal(load_le(d->pci.wmask + PCI_BASE_ADDRESS_0, 4), 0);
	assert_int_equal(load_le(d->pci.wmask + PCI_BASE_ADDRESS_1, 4), 0xfffffffe);
	fake_destroy(m);
}

static void slots_run_out(void **state)
{
	struct machine *m = fake_machine(true);
	struct error err = {0};
	for (unsigned i = 1; i < PCI_SLOTS; i++)
		assert_int_equal(machine_add_device(m, &dummy_class, NULL, &err), 0);
	assert_int_equal(dummy_at(m, 31)->pci.state->devfn, 31 << 3);
	assert_int_equal(machine_add_device(m, &dummy_class, NULL, &err), -ENOSPC);
	assert_int_equal(err.exit, EXIT_CONFIG);
	fake_destroy(m);
}

static struct machine *successor(const struct fake_blob *blob, int *rc, struct error *err)
{
	struct machine *m = fake_machine(false);
	assert_int_equal(machine_add_device(m, &dummy_class, NULL, err), 0);
	assert_int_equal(machine_add_device(m, &dummy_class, NULL, err), 0);
	*rc = fake_load(m, blob, err);
	return m;
}

static void state_travels(void **state)
{
	struct machine *m = two_dummies();
	struct error err = {0};
	int rc;
	assert_int_equal(fake_reset(m, NULL), 0);
	MEM_ON(m, 1);
	MEM_ON(m, 2);
	/* Piled up on purpose: who has the place must not change with the update. */
	uint64_t home = dummy_at(m, 2)->at[0];
	config_put(m, 1, PCI_BASE_ADDRESS_0, 4, (uint32_t)home);
	guest_write(&m->pio, 0xcf8, 4, 0x80000810);
	((struct pci_host *)m->devices[0])->state.mmio32_len = 128 * MIB; /* another release's */

	struct fake_blob blob = fake_save(m);
	struct machine *next = successor(&blob, &rc, &err);
	if (rc)
		fail_msg("%s", err.text);
	for (unsigned slot = 1; slot <= 2; slot++) {
		assert_memory_equal(dummy_at(m, slot)->at, dummy_at(next, slot)->at,
				    sizeof(dummy_at(m, slot)->at));
		assert_memory_equal(&dummy_at(m, slot)->state, &dummy_at(next, slot)->state,
				    sizeof(struct dummy_state));
	}
	assert_int_equal(dummy_at(next, 1)->at[0], 0);
	assert_int_equal(dummy_at(next, 2)->at[0], home);
	assert_int_equal(guest_read(&next->pio, 0xcfc, 4), (uint32_t)home);
	assert_int_equal(((struct pci_host *)next->devices[0])->state.mmio32_len, 128 * MIB);
	fake_destroy(next);
	fake_destroy(m);
	free(blob.data);
}

/* Loads a state that @spoil changed; it must be refused with a reason. */
static void refused(void (*spoil)(struct pci_host_state *host, struct pci_state *dev))
{
	struct machine *m = two_dummies();
	struct error err = {0};
	int rc;
	assert_int_equal(fake_reset(m, NULL), 0);
	MEM_ON(m, 1);
	MEM_ON(m, 2);
	spoil(&((struct pci_host *)m->devices[0])->state, &dummy_at(m, 1)->state.pci);
	struct fake_blob blob = fake_save(m);
	struct machine *next = successor(&blob, &rc, &err);
	assert_true(rc < 0);
	assert_true(err.text[0]);
	fake_destroy(next);
	free(blob.data);
	/* The state is spoilt: the old machine's BARs cannot be told any more, just free it. */
	fake_destroy(m);
}

static void spoil_devfn(struct pci_host_state *host, struct pci_state *dev)
{
	dev->devfn = 0x100;
}

static void spoil_taken(struct pci_host_state *host, struct pci_state *dev)
{
	dev->devfn = 2 << 3;
}

static void spoil_bridge(struct pci_host_state *host, struct pci_state *dev)
{
	dev->devfn = 0;
}

static void spoil_host(struct pci_host_state *host, struct pci_state *dev)
{
	host->pci.devfn = 3 << 3;
}

static void spoil_len(struct pci_host_state *host, struct pci_state *dev)
{
	dev->bar_len[0] *= 2;
}

static void spoil_flags(struct pci_host_state *host, struct pci_state *dev)
{
	dev->bar_flags[2] &= ~PCI_BAR_64;
}

static void spoil_mapped(struct pci_host_state *host, struct pci_state *dev)
{
	dev->bars_mapped |= 1u << 20;
}

static void spoil_mapped_rom(struct pci_host_state *host, struct pci_state *dev)
{
	dev->bars_mapped |= 1u << PCI_BAR_ROM;
}

static void spoil_overlap(struct pci_host_state *host, struct pci_state *dev)
{
	/* Both of the device's memory BARs at one place, both said to be mapped. */
	store_le(dev->config + PCI_BASE_ADDRESS_0, FAKE_MMIO32, 4);
	store_le(dev->config + PCI_BASE_ADDRESS_2, FAKE_MMIO32, 8);
}

static void spoil_ecam(struct pci_host_state *host, struct pci_state *dev)
{
	host->ecam_len = ~0ull;
}

static void spoil_window(struct pci_host_state *host, struct pci_state *dev)
{
	host->mmio64_len = ~0ull;
}

static void spoil_gsi(struct pci_host_state *host, struct pci_state *dev)
{
	host->intx_gsi[3] = 0x80000000;
}

static void hostile_state(void **state)
{
	refused(spoil_devfn);
	refused(spoil_taken);
	refused(spoil_bridge);
	refused(spoil_host);
	refused(spoil_len);
	refused(spoil_flags);
	refused(spoil_mapped);
	refused(spoil_mapped_rom);
	refused(spoil_overlap);
	refused(spoil_ecam);
	refused(spoil_window);
	refused(spoil_gsi);
}

static void fields_cover(void **state)
{
	struct machine *m = two_dummies();
	for (unsigned i = 0; i < m->tree.n; i++)
		assert_int_equal(unit_uncovered(m->tree.sections[i].cls),
				 m->tree.sections[i].cls->size);
	fake_destroy(m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(config_access),       cmocka_unit_test(config_ports),
		cmocka_unit_test(bars_start_placed),   cmocka_unit_test(bar_sizing),
		cmocka_unit_test(bar_moves),	       cmocka_unit_test(bar_collisions),
		cmocka_unit_test(bars_that_cannot_be), cmocka_unit_test(slots_run_out),
		cmocka_unit_test(state_travels),       cmocka_unit_test(hostile_state),
		cmocka_unit_test(fields_cover),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
