/* SPDX-License-Identifier: MIT */
/* The MSI capability in its four layouts, on a device of its own. */
#include <linux/pci_regs.h>

#include "devices/pci/msi.h"
#include "tests/unit/fake_machine.h"

#define CAP 0x50

struct dummy {
	struct device dev;
	struct pci_dev pci;
	struct msi msi;
	struct pci_state pci_state;
	struct msi_state msi_state;
	unsigned turned_on, turned_off;
};

static const struct pci_ops no_bars;

static int dummy_init(struct device *dev, const char *arg, struct error *err)
{
	struct dummy *d = (struct dummy *)dev;
	return pci_dev_init(&d->pci, dev, &no_bars, &d->pci_state, err);
}

static void dummy_destroy(struct device *dev)
{
	pci_vectors_free(&((struct dummy *)dev)->msi.vec);
}

static const struct device_class dummy_class = {.name = "dummy",
						.size = sizeof(struct dummy),
						.init = dummy_init,
						.destroy = dummy_destroy};

static int dummy_changed(struct msi *msi, bool on)
{
	struct dummy *d = (struct dummy *)msi->pci->owner;
	d->turned_on += on;
	d->turned_off += !on;
	return 0;
}

/* A running machine with a device that has MSI of these flags. */
static struct machine *machine_with(uint32_t flags, struct dummy **out)
{
	struct machine *m = fake_machine(true);
	memset(&fake, 0, sizeof(fake));
	assert_int_equal(machine_add_device(m, &dummy_class, NULL, NULL), 0);
	struct dummy *d = *out = (struct dummy *)m->devices[1];
	assert_int_equal(fake_realize(m, NULL), 0);
	pci_config_set(&d->pci, CAP, 4, PCI_CAP_ID_MSI | (flags | PCI_MSI_FLAGS_ENABLE) << 16);
	assert_int_equal(msi_init(&d->msi, &d->pci, CAP, &d->msi_state, NULL), 0);
	d->msi.changed = dummy_changed;
	for (unsigned i = 0; i < d->msi.vec.n; i++)
		pci_vector_set_fd(&d->msi.vec, i, eventfd(0, EFD_NONBLOCK));
	assert_int_equal(fake_reset(m, NULL), 0);
	fake_start(m, NULL);
	return m;
}

static void done(struct machine *m)
{
	struct dummy *d = (struct dummy *)m->devices[1];
	for (unsigned i = 0; i < d->msi.vec.n; i++)
		close(d->msi.vec.src[i].fd);
	for (unsigned i = 0; i < d->msi.vec.n; i++)
		d->msi.vec.src[i].attached = false;
	fake_destroy(m);
}

static void narrow_unmaskable(void **state)
{
	struct dummy *d;
	struct machine *m = machine_with(0, &d);
	assert_int_equal(d->msi.vec.n, 1);
	assert_int_equal(d->msi.len, 10);
	assert_int_equal(config_get(m, 1, CAP + PCI_MSI_FLAGS, 2), 0); /* starts disabled */
	config_put(m, 1, CAP + PCI_MSI_ADDRESS_LO, 4, 0xfee00003);
	config_put(m, 1, CAP + PCI_MSI_DATA_32, 4, 0xffff4041); /* two bytes of it exist */
	assert_int_equal(config_get(m, 1, CAP + PCI_MSI_ADDRESS_LO, 4), 0xfee00000);
	assert_int_equal(config_get(m, 1, CAP + PCI_MSI_DATA_32, 4), 0x4041);
	assert_int_equal(fake.irqfds, 0);
	config_put(m, 1, CAP + PCI_MSI_FLAGS, 2, 0xffff);
	assert_int_equal(config_get(m, 1, CAP + PCI_MSI_FLAGS, 2), 0x71);
	assert_int_equal(msi_vectors_used(&d->msi), 1);
	assert_int_equal(fake.irqfds, 1);
	assert_int_equal(fake.msi[0].u.msi.address_lo, 0xfee00000);
	assert_int_equal(fake.msi[0].u.msi.data, 0x4041);
	assert_int_equal(d->turned_on, 1);
	config_put(m, 1, CAP + PCI_MSI_FLAGS, 2, 0x70);
	assert_int_equal(fake.irqfds, 0);
	assert_int_equal(d->turned_off, 1);
	done(m);
}

static void wide_maskable(void **state)
{
	struct dummy *d;
	struct machine *m = machine_with(PCI_MSI_FLAGS_64BIT | PCI_MSI_FLAGS_MASKBIT | 3 << 1, &d);
	const uint64_t one = 1;
	assert_int_equal(d->msi.vec.n, 8);
	assert_int_equal(d->msi.len, 24);
	config_put(m, 1, CAP + PCI_MSI_ADDRESS_LO, 4, 0xfee00000);
	config_put(m, 1, CAP + PCI_MSI_ADDRESS_HI, 4, 0x12);
	config_put(m, 1, CAP + PCI_MSI_DATA_64, 2, 0x47); /* low bits are the vector's */
	config_put(m, 1, CAP + PCI_MSI_MASK_64, 4, 0xffffff04);
	assert_int_equal(config_get(m, 1, CAP + PCI_MSI_MASK_64, 4), 0x04);
	config_put(m, 1, CAP + PCI_MSI_FLAGS, 2, PCI_MSI_FLAGS_ENABLE | 2 << 4); /* four of eight */
	assert_int_equal(fake.irqfds, 3);
	assert_int_equal(write(d->msi.vec.src[2].fd, &one, 8), 8);
	assert_int_equal(config_get(m, 1, CAP + PCI_MSI_PENDING_64, 4), 4);
	assert_int_equal(config_get(m, 1, CAP + PCI_MSI_PENDING_64, 1), 4);
	config_put(m, 1, CAP + PCI_MSI_PENDING_64, 4, 0); /* read-only */
	assert_int_equal(config_get(m, 1, CAP + PCI_MSI_PENDING_64, 4), 4);
	config_put(m, 1, CAP + PCI_MSI_MASK_64, 1, 0);
	assert_int_equal(fake.irqfds, 4);
	assert_int_equal(fake.nmsi, 4);
	unsigned seen = 0;
	for (unsigned i = 0; i < 4; i++) {
		assert_int_equal(fake.msi[i].u.msi.address_hi, 0x12);
		assert_int_equal(fake.msi[i].u.msi.data & ~3u, 0x44);
		seen |= 1u << (fake.msi[i].u.msi.data & 3);
	}
	assert_int_equal(seen, 15);
	assert_int_equal(config_get(m, 1, CAP + PCI_MSI_PENDING_64, 4), 0);
	done(m);
}

/* An update takes irqfds off while the guest still runs; when it is refused, what the guest did meanwhile holds. */
static void turned_on_while_detached(void **state)
{
	struct dummy *d;
	struct machine *m = machine_with(0, &d);
	config_put(m, 1, CAP + PCI_MSI_ADDRESS_LO, 4, 0xfee00000);
	config_put(m, 1, CAP + PCI_MSI_DATA_32, 2, 0x41);
	assert_int_equal(irq_detach_all(&m->irq, NULL), 0);
	config_put(m, 1, CAP + PCI_MSI_FLAGS, 2, PCI_MSI_FLAGS_ENABLE);
	assert_int_equal(fake.irqfds, 0);
	irq_attach_all(&m->irq, IRQ_MSI);
	assert_int_equal(fake.irqfds, 1);
	assert_int_equal(fake.nmsi, 1);
	assert_int_equal(fake.msi[0].u.msi.data, 0x41);
	done(m);
}

static void layouts(void **state)
{
	struct dummy *d;
	struct machine *m = machine_with(PCI_MSI_FLAGS_MASKBIT | 7 << 1, &d); /* 7: reserved */
	assert_int_equal(d->msi.vec.n, 32);
	assert_int_equal(d->msi.mask_reg, CAP + PCI_MSI_MASK_32);
	assert_int_equal(d->msi.len, 20);
	config_put(m, 1, CAP + PCI_MSI_MASK_32, 4, 0xffffffff);
	assert_int_equal(config_get(m, 1, CAP + PCI_MSI_MASK_32, 4), 0xffffffff);
	config_put(m, 1, CAP + PCI_MSI_FLAGS, 2, PCI_MSI_FLAGS_ENABLE | 5 << 4);
	assert_int_equal(fake.irqfds, 0);
	done(m);
	m = machine_with(PCI_MSI_FLAGS_64BIT, &d);
	assert_int_equal(d->msi.len, 14);
	done(m);
}

static void loading(void **state)
{
	struct dummy *d;
	struct machine *m = machine_with(2 << 1, &d);
	struct error err = {0};
	d->msi_state.vectors = 32;
	assert_int_equal(msi_load(&d->msi, &err), -EBADMSG);
	d->msi_state.vectors = 4;
	d->msi_state.gsi[3] = 1;
	assert_int_equal(msi_load(&d->msi, &err), -EINVAL);
	d->msi_state.gsi[3] = 100;
	assert_int_equal(msi_load(&d->msi, &err), 0);
	assert_int_equal(msi_load(&d->msi, &err), -EBUSY);
	done(m);
}

/* A capability that would reach over the end of the config space it may use. */
static void too_long(void **state)
{
	struct dummy *d;
	struct machine *m = machine_with(0, &d);
	struct msi other = {0};
	struct msi_state s = {0};
	pci_config_set(&d->pci, 0xf8, 4,
		       PCI_CAP_ID_MSI | (PCI_MSI_FLAGS_64BIT | PCI_MSI_FLAGS_MASKBIT) << 16);
	assert_int_equal(msi_init(&other, &d->pci, 0xf8, &s, NULL), -EINVAL);
	done(m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(narrow_unmaskable),
		cmocka_unit_test(wide_maskable),
		cmocka_unit_test(turned_on_while_detached),
		cmocka_unit_test(layouts),
		cmocka_unit_test(loading),
		cmocka_unit_test(too_long),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
