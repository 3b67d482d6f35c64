/* SPDX-License-Identifier: MIT */
/* Layouts of the ACPI tables given to the guest; numbers are sections of the ACPI specification
 * 6.4. */
#pragma once

#include "vmm/base/base.h"

#define PACKED __attribute__((packed))

/* 5.2.6 System description table header. */
struct acpi_header {
	char signature[4];
	uint32_t length;
	uint8_t revision, checksum;
	char oem_id[6], oem_table_id[8];
	uint32_t oem_revision;
	char creator_id[4];
	uint32_t creator_revision;
} PACKED;

/* 5.2.3.2 Generic address structure. */
struct acpi_gas {
	uint8_t space, bit_width, bit_offset, access_size;
	uint64_t address;
} PACKED;

/* 5.2.5.3 */
struct acpi_rsdp {
	char signature[8];
	uint8_t checksum;
	char oem_id[6];
	uint8_t revision;
	uint32_t rsdt;
	uint32_t length;
	uint64_t xsdt;
	uint8_t extended_checksum, reserved[3];
} PACKED;

/* 5.2.10 */
struct acpi_facs {
	char signature[4];
	uint32_t length, hardware_signature, waking_vector, global_lock, flags;
	uint64_t x_waking_vector;
	uint8_t version, reserved[31];
} PACKED;

/* 5.2.9 */
struct acpi_fadt {
	struct acpi_header h;
	uint32_t facs, dsdt;
	uint8_t reserved0, preferred_pm_profile;
	uint16_t sci_int;
	uint32_t smi_cmd;
	uint8_t acpi_enable, acpi_disable, s4bios_req, pstate_cnt;
	uint32_t pm1a_evt, pm1b_evt, pm1a_cnt, pm1b_cnt, pm2_cnt, pm_tmr, gpe0, gpe1;
	uint8_t pm1_evt_len, pm1_cnt_len, pm2_cnt_len, pm_tmr_len, gpe0_len, gpe1_len, gpe1_base,
		cst_cnt;
	uint16_t p_lvl2_lat, p_lvl3_lat, flush_size, flush_stride;
	uint8_t duty_offset, duty_width, day_alarm, month_alarm, century;
	uint16_t iapc_boot_arch;
	uint8_t reserved1;
	uint32_t flags;
	struct acpi_gas reset_reg;
	uint8_t reset_value;
	uint16_t arm_boot_arch;
	uint8_t minor_revision;
	uint64_t x_facs, x_dsdt;
	struct acpi_gas x_pm1a_evt, x_pm1b_evt, x_pm1a_cnt, x_pm1b_cnt, x_pm2_cnt, x_pm_tmr, x_gpe0,
		x_gpe1, sleep_control, sleep_status;
	uint64_t hypervisor_id;
} PACKED;

_Static_assert(sizeof(struct acpi_fadt) == 276, "FADT of revision 6");

enum {
	ACPI_FADT_WBINVD = 1 << 0,
	ACPI_FADT_PROC_C1 = 1 << 2,
	ACPI_FADT_SLP_BUTTON =
		1 << 5,		    /* no fixed sleep button; bit 4 clear: a fixed power button */
	ACPI_FADT_FIX_RTC = 1 << 6, /* the RTC wakes nothing */
	ACPI_FADT_TMR_VAL_EXT = 1 << 8, /* the timer has 32 bits */
	ACPI_FADT_RESET_REG_SUP = 1 << 10,
	/* 5.2.9.3 boot architecture; clear: 8042 (there is none), MSI not supported, no RTC */
	ACPI_BOOT_LEGACY_DEVICES = 1 << 0,
	ACPI_BOOT_NO_VGA = 1 << 2,
	ACPI_BOOT_NO_ASPM = 1 << 4, /* the links' power belongs to the host */
};

/* 5.2.12 and its entries. */
struct acpi_madt {
	struct acpi_header h;
	uint32_t lapic, flags; /* flag 1: there are 8259s too */
} PACKED;

struct acpi_madt_lapic {
	uint8_t type, length, processor_uid, apic_id;
	uint32_t flags; /* 1: enabled */
} PACKED;

struct acpi_madt_x2apic {
	uint8_t type, length;
	uint16_t reserved;
	uint32_t apic_id, flags, processor_uid;
} PACKED;

struct acpi_madt_ioapic {
	uint8_t type, length, id, reserved;
	uint32_t address, gsi_base;
} PACKED;

struct acpi_madt_override {
	uint8_t type, length, bus, source;
	uint32_t gsi;
	uint16_t flags; /* 0: as the bus has it; 0xd: active high, level */
} PACKED;

struct acpi_madt_lapic_nmi {
	uint8_t type, length, processor_uid;
	uint16_t flags;
	uint8_t lint;
} PACKED;

struct acpi_madt_x2apic_nmi {
	uint8_t type, length;
	uint16_t flags;
	uint32_t processor_uid;
	uint8_t lint, reserved[3];
} PACKED;

/* PCI Firmware Specification 4.1.2 */
struct acpi_mcfg {
	struct acpi_header h;
	uint64_t reserved0, ecam;
	uint16_t segment;
	uint8_t bus_first, bus_last;
	uint32_t reserved1;
} PACKED;

/* Two names, 20.2.5.1: NameOp, four characters, QWordPrefix, value. */
struct acpi_ssdt {
	struct acpi_header h;
	struct {
		uint8_t name_op;
		char name[4];
		uint8_t qword_prefix;
		uint64_t value;
	} PACKED item[2];
} PACKED;

#undef PACKED
