/* SPDX-License-Identifier: MIT */
/*
 * x86-64: what lies where in the guest, and which port and interrupt belongs to which platform
 * device. A running guest was told these numbers, in ACPI tables: they are fixed for the life of
 * the format (dsdt.asl repeats them).
 */
#pragma once

#include "vmm/base/base.h"

/* Guest physical memory, in bytes. RAM is [0, low end) and, beyond 3 GiB, [4 GiB, ...), but for the last 12 GiB below
 * 1 TiB: they belong to HyperTransport on AMD's hosts, whose IOMMU does not take them as DMA addresses. */
#define LAYOUT_RAM_MIN	   0x02000000ull
#define LAYOUT_RAM_MAX	   0x40000000000ull /* 4 TiB: a KVM memory slot ends at 8 */
#define LAYOUT_HT_BASE	   0xfd00000000ull
#define LAYOUT_HT_END	   0x10000000000ull
#define LAYOUT_RAM_LOW_END 0xc0000000ull
#define LAYOUT_RAM_HIGH	   0x100000000ull
#define LAYOUT_MMIO32_BASE 0xc0000000ull
#define LAYOUT_MMIO32_LEN  0x20000000ull
#define LAYOUT_ECAM_BASE   0xe0000000ull
#define LAYOUT_ECAM_LEN	   0x00100000ull /* bus 0 */
#define LAYOUT_IOAPIC_BASE 0xfec00000ull
#define LAYOUT_LAPIC_BASE  0xfee00000ull
/* Scratch pages of KVM on Intel hosts without unrestricted guests: identity map, task state
 * (KVM_SET_TSS_ADDR). */
#define LAYOUT_IDENTITY_GPA 0xfffbc000ull
#define LAYOUT_TSS	    0xfffbd000ull
/* Four pages of the reader's (warm.c): zeros that nobody looks at. Older guests have nothing there
 * either. */
#define LAYOUT_READER	   0xfffc0000ull
#define LAYOUT_READER_LEN  0x4000ull
#define LAYOUT_SCRATCH_LEN 0x8000ull /* all of these */

/* The first MiB: RAM up to the EBDA, ACPI tables in the BIOS area (ACPI 5.2.5.1). Boot data is dead
 * after boot. */
#define LAYOUT_GDT	    0x500ull
#define LAYOUT_START_INFO   0x6000ull
#define LAYOUT_BOOT_PARAMS  0x7000ull
#define LAYOUT_STACK_TOP    0x8ff0ull
#define LAYOUT_PAGE_TABLES  0x9000ull /* 6 pages */
#define LAYOUT_CMDLINE	    0x20000ull
#define LAYOUT_CMDLINE_ROOM 0x10000ull
#define LAYOUT_EBDA	    0x9fc00ull
#define LAYOUT_ACPI	    0xe0000ull
#define LAYOUT_ACPI_ROOM    0x20000ull
#define LAYOUT_KERNEL_MIN   0x100000ull

/* Ports. The usual reset port 0xcf9 is not used: it lies in the middle of PCI's configuration
 * address register. */
#define LAYOUT_CMOS_PORT       0x70
#define LAYOUT_KEYBOARD_PORT   0x64
#define LAYOUT_SERIAL_PORT     0x3f8
#define LAYOUT_PANIC_PORT      0x505
#define LAYOUT_POWER_PORT      0x600
#define LAYOUT_POWER_LEN       0x10
#define LAYOUT_PM1_EVT	       0x600
#define LAYOUT_PM1_CNT	       0x604
#define LAYOUT_PM_TIMER	       0x608
#define LAYOUT_RESET	       0x60c
#define LAYOUT_RESET_VALUE     0x06
#define LAYOUT_SLP_TYP_S5      5     /* of \_S5 */
#define LAYOUT_SLOTS_PORT      0x610 /* 8 bytes */
#define LAYOUT_PCI_CONFIG_PORT 0xcf8
#define LAYOUT_PIO_BASE	       0xc000 /* PCI I/O window, up to 0xffff */
#define LAYOUT_PIO_LEN	       0x4000

/* Interrupts (GSIs). IRQ 0 arrives at pin 2 of the IOAPIC, as on every PC. */
#define LAYOUT_TIMER_PIN  2
#define LAYOUT_SERIAL_IRQ 4
#define LAYOUT_SCI_GSI	  9
#define LAYOUT_INTX_GSI	  16 /* INTA..INTD of slot 0: 16 to 19 */
#define LAYOUT_SLOTS_GSI  20

#define LAYOUT_CMOS_CENTURY 0x32

/* The PCI window for 64-bit BARs, of a guest with physical addresses of @bits and memory up to
 * @ram_end; length 0: there is no room for one. */
void layout_mmio64(unsigned bits, uint64_t ram_end, uint64_t *base, uint64_t *len);
