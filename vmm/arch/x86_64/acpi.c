/* SPDX-License-Identifier: MIT */
/* The ACPI tables that the guest finds: processors, interrupt controllers, ECAM, power. */
#include "vmm/arch/x86_64/boot.h"

#include "dsdt.hex" /* dsdt_aml_code[] */
#include "slot.hex" /* slot_aml_code[] */

#include "vmm/arch.h"
#include "vmm/arch/x86_64/acpi_tables.h"
#include "vmm/arch/x86_64/cpu.h"
#include "vmm/arch/x86_64/layout.h"
#include "vmm/machine.h"

enum table { FACS, DSDT, FADT, MADT, MCFG, SSDT, XSDT, NTABLES };

struct acpi {
	const struct machine *m;
	uint8_t *hva;  /* of LAYOUT_ACPI */
	uint64_t used; /* acpi_build made sure that all tables fit */
	uint64_t gpa[NTABLES];
	uint64_t slots[32]; /* a table for each slot whose device may be ejected */
	unsigned nslots;
	uint64_t rsdp_gpa;
};

/* Makes the bytes add up to zero. */
static uint8_t checksum(const void *table, uint64_t len)
{
	const uint8_t *p = table;
	uint8_t sum = 0;
	while (len--)
		sum = (uint8_t)(sum + *p++);
	return (uint8_t)-sum;
}

static void *area_alloc(struct acpi *a, uint64_t len, uint64_t align, uint64_t *gpa)
{
	a->used = align_up(a->used, align);
	uint8_t *p = a->hva + a->used;
	*gpa = LAYOUT_ACPI + a->used;
	a->used += len;
	memset(p, 0, len);
	return p;
}

static void *table_alloc(struct acpi *a, enum table id, const char *signature, uint8_t revision,
			 uint64_t len)
{
	struct acpi_header *h = area_alloc(a, len, 16, &a->gpa[id]);
	memcpy(h->signature, signature, 4);
	memcpy(h->oem_id, "MOLT  ", 6);
	memcpy(h->oem_table_id, "MOLT    ", 8);
	memcpy(h->creator_id, "MOLT", 4);
	h->length = (uint32_t)len;
	h->revision = revision;
	h->oem_revision = h->creator_revision = 1;
	return h;
}

static void table_seal(void *table)
{
	struct acpi_header *h = table;
	h->checksum = checksum(h, h->length);
}

static void build_facs(struct acpi *a)
{
	struct acpi_facs *t = area_alloc(a, sizeof(*t), 64, &a->gpa[FACS]);
	memcpy(t->signature, "FACS", 4);
	t->length = sizeof(*t);
	t->version = 2;
}

static void build_dsdt(struct acpi *a)
{
	memcpy(area_alloc(a, sizeof(dsdt_aml_code), 16, &a->gpa[DSDT]), dsdt_aml_code,
	       sizeof(dsdt_aml_code));
}

static struct acpi_gas io_register(uint16_t port, uint8_t bits, uint8_t access_size)
{
	return (struct acpi_gas){
		.space = 1, .bit_width = bits, .access_size = access_size, .address = port};
}

static void build_fadt(struct acpi *a)
{
	struct acpi_fadt *t = table_alloc(a, FADT, "FACP", 6, sizeof(*t));
	/* SMI_CMD 0: there is no other mode than ACPI mode. */
	t->facs = (uint32_t)a->gpa[FACS];
	t->x_facs = a->gpa[FACS];
	t->dsdt = (uint32_t)a->gpa[DSDT];
	t->x_dsdt = a->gpa[DSDT];
	t->sci_int = LAYOUT_SCI_GSI;
	t->pm1a_evt = LAYOUT_PM1_EVT;
	t->pm1a_cnt = LAYOUT_PM1_CNT;
	t->pm_tmr = LAYOUT_PM_TIMER;
	t->pm1_evt_len = 4;
	t->pm1_cnt_len = 2;
	t->pm_tmr_len = 4;
	t->x_pm1a_evt = io_register(LAYOUT_PM1_EVT, 32, 2);
	t->x_pm1a_cnt = io_register(LAYOUT_PM1_CNT, 16, 2);
	t->x_pm_tmr = io_register(LAYOUT_PM_TIMER, 32, 3);
	t->p_lvl2_lat = 101; /* above 100 and 1000: no C2, no C3 */
	t->p_lvl3_lat = 1001;
	t->century = LAYOUT_CMOS_CENTURY;
	t->iapc_boot_arch = ACPI_BOOT_LEGACY_DEVICES | ACPI_BOOT_NO_VGA | ACPI_BOOT_NO_ASPM;
	t->flags = ACPI_FADT_WBINVD | ACPI_FADT_PROC_C1 | ACPI_FADT_SLP_BUTTON | ACPI_FADT_FIX_RTC |
		   ACPI_FADT_TMR_VAL_EXT | ACPI_FADT_RESET_REG_SUP;
	t->reset_reg = io_register(LAYOUT_RESET, 8, 1);
	t->reset_value = LAYOUT_RESET_VALUE;
	t->minor_revision = 4;
	memcpy(&t->hypervisor_id, "molt\0\0\0", 8);
	table_seal(t);
}

static uint64_t madt_len(uint32_t ncpus)
{
	uint64_t small = ncpus < CPU_MAX_XAPIC ? ncpus : CPU_MAX_XAPIC, wide = ncpus - small;
	return sizeof(struct acpi_madt) + small * sizeof(struct acpi_madt_lapic) +
	       wide * sizeof(struct acpi_madt_x2apic) + sizeof(struct acpi_madt_ioapic) +
	       (wide ? 1 : 2) * sizeof(struct acpi_madt_override) +
	       sizeof(struct acpi_madt_lapic_nmi) +
	       (wide ? sizeof(struct acpi_madt_x2apic_nmi) : 0);
}

static void madt_entry(uint8_t **at, const void *entry, uint64_t len)
{
	memcpy(*at, entry, len);
	*at += len;
}

#define MADT_ENTRY(at, type_, S, ...)                                                              \
	madt_entry(at, &(struct S){.type = (type_), .length = sizeof(struct S), __VA_ARGS__},      \
		   sizeof(struct S))

static void build_madt(struct acpi *a)
{
	uint32_t ncpus = a->m->opt.cpus;
	struct acpi_madt *t = table_alloc(a, MADT, "APIC", 5, madt_len(ncpus));
	bool wide = cpu_ids_are_wide(ncpus);
	uint8_t *at = (uint8_t *)(t + 1);

	t->lapic = LAYOUT_LAPIC_BASE;
	t->flags = !wide;
	for (uint32_t i = 0; i < ncpus && i < CPU_MAX_XAPIC; i++)
		MADT_ENTRY(&at, 0, acpi_madt_lapic, .processor_uid = (uint8_t)i,
			   .apic_id = (uint8_t)i, .flags = 1);
	for (uint32_t i = CPU_MAX_XAPIC; i < ncpus; i++)
		MADT_ENTRY(&at, 9, acpi_madt_x2apic, .processor_uid = i, .apic_id = i, .flags = 1);
	/* Id 0 is what KVM's IOAPIC register holds after reset. */
	MADT_ENTRY(&at, 1, acpi_madt_ioapic, .address = LAYOUT_IOAPIC_BASE);
	if (!wide) /* there is a PIT */
		MADT_ENTRY(&at, 2, acpi_madt_override, .source = 0, .gsi = LAYOUT_TIMER_PIN);
	MADT_ENTRY(&at, 2, acpi_madt_override, .source = LAYOUT_SCI_GSI, .gsi = LAYOUT_SCI_GSI,
		   .flags = 0xd);
	MADT_ENTRY(&at, 4, acpi_madt_lapic_nmi, .processor_uid = 0xff, .lint = 1);
	if (wide)
		MADT_ENTRY(&at, 0xa, acpi_madt_x2apic_nmi, .processor_uid = UINT32_MAX, .lint = 1);
	table_seal(t);
}

static void build_mcfg(struct acpi *a)
{
	struct acpi_mcfg *t = table_alloc(a, MCFG, "MCFG", 1, sizeof(*t));
	struct arch_pci_layout pci;
	arch_pci_layout(a->m, &pci);
	t->ecam = pci.ecam_base;
	t->bus_last = (uint8_t)((pci.ecam_len >> 20) - 1); /* 1 MiB a bus */
	table_seal(t);
}

static void build_ssdt(struct acpi *a)
{
	struct acpi_ssdt *t = table_alloc(a, SSDT, "SSDT", 2, sizeof(*t));
	struct arch_pci_layout pci;
	arch_pci_layout(a->m, &pci);
	for (unsigned i = 0; i < 2; i++) {
		t->item[i].name_op = 0x08;
		memcpy(t->item[i].name, i ? "M64L" : "M64B", 4);
		t->item[i].qword_prefix = 0x0e;
		t->item[i].value = i ? pci.mmio64_len : pci.mmio64_base;
	}
	table_seal(t);
}

/* slot.asl says where the slot's number belongs. */
static void build_slot(struct acpi *a, unsigned slot)
{
	char digits[3];
	const size_t len = sizeof(slot_aml_code);
	uint8_t *t = area_alloc(a, len, 16, &a->slots[a->nslots++]);
	memcpy(t, slot_aml_code, len);
	snprintf(digits, sizeof(digits), "%02X", slot);
	for (size_t i = sizeof(struct acpi_header); i < len - 1; i++) {
		if (!memcmp(t + i, "5A", 2))
			memcpy(t + i, digits, 2);
		else if (t[i] == 0x5a)
			t[i] = (uint8_t)slot;
	}
	((struct acpi_header *)t)->checksum = 0;
	table_seal(t);
}

static void build_slots(struct acpi *a)
{
	for (unsigned slot = 0; slot < ARRAY_LEN(a->slots); slot++)
		if (a->m->eject_slots >> slot & 1)
			build_slot(a, slot);
}

static const enum table xsdt_tables[] = {FADT, MADT, MCFG, SSDT};

static void build_xsdt(struct acpi *a)
{
	const unsigned n = ARRAY_LEN(xsdt_tables);
	uint64_t len = sizeof(struct acpi_header) + sizeof(uint64_t) * (n + a->nslots);
	uint8_t *t = table_alloc(a, XSDT, "XSDT", 1, len);
	for (unsigned i = 0; i < n + a->nslots; i++)
		store_le(t + sizeof(struct acpi_header) + 8 * i,
			 i < n ? a->gpa[xsdt_tables[i]] : a->slots[i - n], 8);
	table_seal(t);
}

static void build_rsdp(struct acpi *a)
{
	struct acpi_rsdp *t = area_alloc(a, sizeof(*t), 16, &a->rsdp_gpa);
	memcpy(t->signature, "RSD PTR ", 8);
	memcpy(t->oem_id, "MOLT  ", 6);
	t->revision = 2;
	t->length = sizeof(*t);
}

/* The root pointer comes first, so that a search of the BIOS area finds it at once; its contents
 * follow when the XSDT has its place. Each table comes after those it points to. */
static void (*const builders[])(struct acpi *a) = {
	build_rsdp, build_facs, build_dsdt,  build_fadt, build_madt,
	build_mcfg, build_ssdt, build_slots, build_xsdt,
};

int acpi_build(struct machine *m, uint64_t *rsdp_gpa, struct error *err)
{
	struct acpi a = {.m = m, .hva = ram_at(&m->ram, LAYOUT_ACPI, LAYOUT_ACPI_ROOM)};
	/* 4096: the tables of fixed length and all alignment. */
	const uint64_t fixed =
		sizeof(dsdt_aml_code) + ARRAY_LEN(a.slots) * (sizeof(slot_aml_code) + 24) + 4096;
	if (!a.hva || madt_len(m->opt.cpus) + fixed > LAYOUT_ACPI_ROOM) {
		error_end(err, EXIT_CONFIG, ENOSPC,
			  "ACPI tables for %u vCPUs do not fit below 1 MiB", m->opt.cpus);
		return error_hint(err, "use fewer --cpus");
	}
	for (unsigned i = 0; i < ARRAY_LEN(builders); i++)
		builders[i](&a);

	struct acpi_rsdp *rsdp = (struct acpi_rsdp *)(a.hva + (a.rsdp_gpa - LAYOUT_ACPI));
	rsdp->xsdt = a.gpa[XSDT];
	rsdp->checksum = checksum(rsdp, offsetof(struct acpi_rsdp, length));
	rsdp->extended_checksum = checksum(rsdp, sizeof(*rsdp));
	*rsdp_gpa = a.rsdp_gpa;
	return 0;
}
