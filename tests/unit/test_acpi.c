/* SPDX-License-Identifier: MIT */
#include "tests/unit/unit.h"

#include <errno.h>

#include "vmm/arch.h"
#include "vmm/arch/x86_64/boot.h"
#include "vmm/arch/x86_64/acpi_tables.h"
#include "vmm/arch/x86_64/layout.h"
#include "vmm/machine.h"

static struct machine machine;
static const uint64_t mmio64_base = 0x4000000000, mmio64_len = 0x2000000000;

void arch_pci_layout(const struct machine *m, struct arch_pci_layout *out)
{
	*out = (struct arch_pci_layout){.ecam_base = LAYOUT_ECAM_BASE,
					.ecam_len = LAYOUT_ECAM_LEN,
					.mmio64_base = mmio64_base,
					.mmio64_len = mmio64_len};
}

static int build(uint32_t cpus, uint64_t *rsdp_gpa, struct error *err)
{
	memset(machine.ram.hva, 0xa5, MIB); /* whatever is there */
	machine.opt.cpus = cpus;
	return acpi_build(&machine, rsdp_gpa, err);
}

static const void *at(uint64_t gpa, uint64_t len)
{
	assert_true(gpa >= LAYOUT_ACPI);
	assert_true(range_fits(gpa - LAYOUT_ACPI, len, LAYOUT_ACPI_ROOM));
	return machine.ram.hva + gpa;
}

static uint8_t sum(const void *p, uint64_t len)
{
	uint8_t total = 0;
	for (uint64_t i = 0; i < len; i++)
		total = (uint8_t)(total + ((const uint8_t *)p)[i]);
	return total;
}

/* A table with its length, and its checksum right. */
static const void *table(uint64_t gpa, const char *signature)
{
	const struct acpi_header *h = at(gpa, sizeof(*h));
	assert_memory_equal(h->signature, signature, 4);
	assert_true(h->length >= sizeof(*h));
	at(gpa, h->length);
	assert_int_equal(sum(h, h->length), 0);
	assert_int_equal(gpa % 4, 0);
	return h;
}

/* By way of the root pointer, as a guest does; the @skip'th behind the first, or NULL. */
static const void *find_nth(uint64_t rsdp_gpa, const char *signature, unsigned skip)
{
	const struct acpi_rsdp *rsdp = at(rsdp_gpa, sizeof(*rsdp));
	assert_memory_equal(rsdp->signature, "RSD PTR ", 8);
	assert_int_equal(rsdp->revision, 2);
	assert_int_equal(rsdp->length, 36);
	assert_int_equal(sum(rsdp, 20), 0);
	assert_int_equal(sum(rsdp, 36), 0);

	const struct acpi_header *xsdt = table(rsdp->xsdt, "XSDT");
	unsigned n = (xsdt->length - (unsigned)sizeof(*xsdt)) / 8;
	assert_int_equal(xsdt->length, sizeof(*xsdt) + n * 8);
	for (unsigned i = 0; i < n; i++) {
		uint64_t gpa = load_le((const uint8_t *)(xsdt + 1) + 8 * i, 8);
		const struct acpi_header *h = at(gpa, sizeof(*h));
		if (!memcmp(h->signature, signature, 4) && !skip--)
			return table(gpa, signature);
	}
	return NULL;
}

static const void *find(uint64_t rsdp_gpa, const char *signature)
{
	const void *t = find_nth(rsdp_gpa, signature, 0);
	if (!t)
		fail_msg("no table %s", signature);
	return t;
}

static uint64_t root(uint32_t cpus)
{
	struct error err = {0};
	uint64_t gpa;
	assert_int_equal(build(cpus, &gpa, &err), 0);
	return gpa;
}

static void rsdp_is_found_by_a_search(void **state)
{
	uint64_t gpa = root(1);
	assert_int_equal(gpa % 16, 0);
	assert_true(gpa >= 0xe0000 && gpa < 0x100000);
}

static void fadt(void **state)
{
	const struct acpi_fadt *t = find(root(1), "FACP");
	assert_int_equal(t->h.length, 276);
	assert_int_equal(t->h.revision, 6);
	assert_int_equal(t->dsdt, t->x_dsdt);
	table(t->x_dsdt, "DSDT");
	const struct acpi_facs *facs = at(t->x_facs, sizeof(*facs));
	assert_int_equal(t->facs, t->x_facs);
	assert_int_equal(t->x_facs % 64, 0);
	assert_memory_equal(facs->signature, "FACS", 4);
	assert_int_equal(facs->length, 64);

	assert_int_equal(t->sci_int, 9);
	assert_int_equal(t->smi_cmd, 0);
	assert_int_equal(t->pm1a_evt, 0x600);
	assert_int_equal(t->x_pm1a_evt.address, 0x600);
	assert_int_equal(t->pm1a_cnt, 0x604);
	assert_int_equal(t->x_pm1a_cnt.address, 0x604);
	assert_int_equal(t->pm_tmr, 0x608);
	assert_int_equal(t->x_pm_tmr.address, 0x608);
	assert_int_equal(t->reset_reg.space, 1);
	assert_int_equal(t->reset_reg.address, LAYOUT_RESET);
	assert_int_equal(t->reset_value, LAYOUT_RESET_VALUE);
	assert_true(t->flags & ACPI_FADT_RESET_REG_SUP);
	assert_true(t->flags & ACPI_FADT_TMR_VAL_EXT);
	assert_false(t->flags & 1 << 4);	  /* fixed power button */
	assert_false(t->flags & 1 << 20);	  /* not hardware-reduced */
	assert_false(t->iapc_boot_arch & 1 << 1); /* 8042 */
	assert_false(t->iapc_boot_arch & 1 << 3); /* MSI not supported */
	assert_int_equal(t->century, 0x32);
}

struct madt_count {
	unsigned lapic, x2apic, ioapic, override, nmi, x2apic_nmi;
};

static struct madt_count walk_madt(const struct acpi_madt *t, uint32_t cpus)
{
	struct madt_count n = {.override = cpus > 255}; /* without a PIT its override is missing */
	const uint8_t *p = (const uint8_t *)(t + 1), *end = (const uint8_t *)t + t->h.length;
	while (p < end) {
		assert_true(end - p >= 2 && p[1] >= 2 && p[1] <= end - p);
		const struct acpi_madt_x2apic *x = (const void *)p;
		const struct acpi_madt_override *o = (const void *)p;
		switch (p[0]) {
		case 0:
			assert_int_equal(p[1], 8);
			assert_int_equal(p[2], n.lapic);
			assert_int_equal(p[3], n.lapic++);
			assert_int_equal(p[4], 1);
			break;
		case 1:
			assert_int_equal(p[1], 12);
			assert_int_equal(load_le(p + 4, 4), 0xfec00000);
			assert_int_equal(load_le(p + 8, 4), 0);
			n.ioapic++;
			break;
		case 2:
			assert_int_equal(p[1], 10);
			assert_int_equal(o->source, n.override ? 9 : 0);
			assert_int_equal(o->gsi, n.override ? 9 : 2);
			assert_int_equal(o->flags, n.override ? 0xd : 0);
			n.override++;
			break;
		case 4:
			assert_int_equal(p[1], 6);
			assert_int_equal(p[2], 0xff);
			assert_int_equal(p[5], 1);
			n.nmi++;
			break;
		case 0xa:
			assert_int_equal(p[1], 12);
			assert_int_equal(load_le(p + 4, 4), UINT32_MAX);
			assert_int_equal(p[8], 1);
			n.x2apic_nmi++;
			break;
		case 9:
			assert_int_equal(p[1], 16);
			assert_int_equal(x->apic_id, 255 + n.x2apic++);
			assert_int_equal(x->processor_uid, x->apic_id);
			assert_true(x->apic_id < cpus);
			break;
		default:
			fail_msg("entry of type %u", p[0]);
		}
		p += p[1];
	}
	return n;
}

static void madt(void **state)
{
	static const uint32_t cpus[] = {1, 2, 8, 64, 255, 256, 300, 1024};
	for (unsigned i = 0; i < ARRAY_LEN(cpus); i++) {
		const struct acpi_madt *t = find(root(cpus[i]), "APIC");
		assert_int_equal(t->lapic, 0xfee00000);
		struct madt_count n = walk_madt(t, cpus[i]);
		assert_int_equal(n.lapic, cpus[i] < 255 ? cpus[i] : 255);
		assert_int_equal(n.lapic + n.x2apic, cpus[i]);
		assert_int_equal(n.ioapic, 1);
		assert_int_equal(n.override, 2);
		assert_int_equal(n.nmi, 1);
		assert_int_equal(n.x2apic_nmi, cpus[i] > 255);
		assert_int_equal(t->flags, cpus[i] <= 255); /* 8259s */
	}
}

static void mcfg(void **state)
{
	const struct acpi_mcfg *t = find(root(1), "MCFG");
	assert_int_equal(t->h.length, 60);
	assert_int_equal(t->ecam, LAYOUT_ECAM_BASE);
	assert_int_equal(t->segment, 0);
	assert_int_equal(t->bus_first, 0);
	assert_int_equal(t->bus_last, 0);
}

static void ssdt_carries_the_64_bit_window(void **state)
{
	const struct acpi_ssdt *t = find(root(1), "SSDT");
	assert_int_equal(t->h.length, 36 + 2 * 14);
	assert_memory_equal(t->item[0].name, "M64B", 4);
	assert_int_equal(t->item[0].value, mmio64_base);
	assert_memory_equal(t->item[1].name, "M64L", 4);
	assert_int_equal(t->item[1].value, mmio64_len);
}

/* The DSDT is compiled from a source that cannot include layout.h: here is where the two meet. The
 * patterns are resource descriptors, ACPI 6.4, 6.4.2 and 6.4.3. */
static void dsdt_agrees_with_the_layout(void **state)
{
#define B2(v) (uint8_t)(v), (uint8_t)((v) >> 8)
#define B4(v) B2(v), B2((v) >> 16)
	static const struct {
		const char *what;
		uint8_t len, bytes[24];
	} want[] = {
		{"MMIO window",
		 16,
		 {B4(LAYOUT_MMIO32_BASE), B4(LAYOUT_MMIO32_BASE + LAYOUT_MMIO32_LEN - 1), B4(0),
		  B4(LAYOUT_MMIO32_LEN)}},
		{"port window",
		 8,
		 {B2(LAYOUT_PIO_BASE), B2(LAYOUT_PIO_BASE + LAYOUT_PIO_LEN - 1), B2(0),
		  B2(LAYOUT_PIO_LEN)}},
		{"ECAM", 11, {0x09, 0, 1, B4(LAYOUT_ECAM_BASE), B4(LAYOUT_ECAM_LEN)}},
		{"power ports",
		 8,
		 {0x47, 1, B2(LAYOUT_POWER_PORT), B2(LAYOUT_POWER_PORT), 1, LAYOUT_POWER_LEN}},
		{"serial ports",
		 8,
		 {0x47, 1, B2(LAYOUT_SERIAL_PORT), B2(LAYOUT_SERIAL_PORT), 1, 8}},
		{"serial interrupt", 3, {0x22, B2(1 << LAYOUT_SERIAL_IRQ)}},
		{"clock ports", 8, {0x47, 1, B2(LAYOUT_CMOS_PORT), B2(LAYOUT_CMOS_PORT), 1, 2}},
		{"panic port", 8, {0x47, 1, B2(LAYOUT_PANIC_PORT), B2(LAYOUT_PANIC_PORT), 1, 1}},
		{"panic device", 9, "QEMU0001"},
		{"\\_S5", 9, {'_', 'S', '5', '_', 0x12, 7, 4, 0x0a, LAYOUT_SLP_TYP_S5}},
		{"INTx base", 3, {0x72, 0x0a, LAYOUT_INTX_GSI}}, /* AddOp, byte constant */
	};
	const struct acpi_fadt *f = find(root(1), "FACP");
	const struct acpi_header *h = table(f->x_dsdt, "DSDT");
	for (unsigned i = 0; i < ARRAY_LEN(want); i++)
		if (!memmem(h, h->length, want[i].bytes, want[i].len))
			fail_msg("dsdt.asl and layout.h differ: %s", want[i].what);
}

static unsigned occurrences(const struct acpi_header *h, const void *bytes, size_t len)
{
	const uint8_t *p = (const uint8_t *)h, *end = p + h->length;
	unsigned n = 0;
	while ((p = memmem(p, (size_t)(end - p), bytes, len))) {
		p++;
		n++;
	}
	return n;
}

/* A table for each slot whose device may go; none where none may. Ports and interrupt are the layout's, and the mark
 * for the slot's number is gone. */
static void slots_that_may_go(void **state)
{
	static const struct {
		const char *what;
		unsigned times;
		uint8_t len, bytes[12];
	} want[] = {
		{"name of the slot", 5, 4, "S11_"},
		{"name of the event device", 1, 4, "E11_"},
		{"_ADR", 1, 9, {'_', 'A', 'D', 'R', 0x0c, 0, 0, 17, 0}},
		{"_SUN", 1, 6, {'_', 'S', 'U', 'N', 0x0a, 17}},
		{"_UID", 1, 6, {'_', 'U', 'I', 'D', 0x0a, 17}},
		{"ports", 1, 6, {1, 0x0b, B2(LAYOUT_SLOTS_PORT), 0x0a, 8}},
		{"interrupt", 1, 8, {0x89, 6, 0, 0x09, 1, B2(LAYOUT_SLOTS_GSI), 0}},
		{"mark of the slot", 0, 1, {0x5a}},
		{"mark in a name", 0, 2, "5A"},
	};
	assert_null(find_nth(root(1), "SSDT", 1));
	machine.eject_slots = 1u << 3 | 1u << 17 | 1u << 31;
	uint64_t gpa = root(1024);
	assert_non_null(find_nth(gpa, "SSDT", 3));
	assert_null(find_nth(gpa, "SSDT", 4));
	const struct acpi_header *h = find_nth(gpa, "SSDT", 2);
	for (unsigned i = 0; i < ARRAY_LEN(want); i++)
		if (occurrences(h, want[i].bytes, want[i].len) != want[i].times)
			fail_msg("slot.asl, %s: %u times", want[i].what,
				 occurrences(h, want[i].bytes, want[i].len));
	machine.eject_slots = ~1u;
	assert_non_null(find_nth(root(1024), "SSDT", 31));
	find(root(1024), "APIC");
	machine.eject_slots = 0;
}

static void too_many_cpus(void **state)
{
	struct error err = {0};
	uint64_t gpa;
	assert_int_equal(build(1000000, &gpa, &err), -ENOSPC);
	assert_int_equal(err.exit, EXIT_CONFIG);
	assert_int_equal(build(UINT32_MAX, &gpa, &err), -ENOSPC);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(rsdp_is_found_by_a_search),
		cmocka_unit_test(fadt),
		cmocka_unit_test(madt),
		cmocka_unit_test(mcfg),
		cmocka_unit_test(ssdt_carries_the_64_bit_window),
		cmocka_unit_test(dsdt_agrees_with_the_layout),
		cmocka_unit_test(slots_that_may_go),
		cmocka_unit_test(too_many_cpus),
	};
	machine.ram.hva = aligned_alloc(PAGE_LEN, 32 * MIB);
	arch_ram_layout(&machine.ram.state, 32 * MIB, NULL);
	int rc = cmocka_run_group_tests(tests, NULL, NULL);
	free(machine.ram.hva);
	return rc;
}
