/* SPDX-License-Identifier: MIT */
/*
 * What the guest's ACPI interpreter is told of the machine. Addresses, ports and interrupts repeat
 * vmm/arch/x86_64/layout.h (iasl has no access to it; test_acpi compares the two). The 64-bit MMIO
 * window depends on the host's address width and the guest's memory: acpi.c puts it into a second
 * table as M64B (base) and M64L (length, 0: none).
 */
DefinitionBlock ("dsdt.aml", "DSDT", 2, "MOLT", "MOLTDSDT", 0x00000001)
{
    External (\M64B, IntObj)
    External (\M64L, IntObj)

    Name (\_S5, Package () { 5, 0, 0, 0 })

    Scope (\_SB)
    {
        Device (PCI0)
        {
            Name (_HID, EisaId ("PNP0A08"))
            Name (_CID, EisaId ("PNP0A03"))
            Name (_UID, 0)
            Name (_SEG, 0)
            Name (_BBN, 0)
            Name (_CCA, 1)

            Name (WIN0, ResourceTemplate ()
            {
                WordBusNumber (ResourceProducer, MinFixed, MaxFixed, PosDecode,
                    0, 0, 0, 0, 1)
                IO (Decode16, 0x0CF8, 0x0CF8, 1, 8)
                WordIO (ResourceProducer, MinFixed, MaxFixed, PosDecode, EntireRange,
                    0, 0xC000, 0xFFFF, 0, 0x4000)
                DWordMemory (ResourceProducer, PosDecode, MinFixed, MaxFixed, NonCacheable,
                    ReadWrite, 0, 0xC0000000, 0xDFFFFFFF, 0, 0x20000000)
            })

            /* Not marked prefetchable: Linux puts 64-bit BARs of either kind into it then. */
            Name (WIN1, ResourceTemplate ()
            {
                QWordMemory (ResourceProducer, PosDecode, MinFixed, MaxFixed, NonCacheable,
                    ReadWrite, 0, 0x100000000, 0x1FFFFFFFF, 0, 0x100000000, , , M64)
            })

            Method (_CRS, 0, Serialized)
            {
                If (LEqual (\M64L, 0))
                {
                    Return (WIN0)
                }
                CreateQWordField (WIN1, \_SB.PCI0.M64._MIN, WMIN)
                CreateQWordField (WIN1, \_SB.PCI0.M64._MAX, WMAX)
                CreateQWordField (WIN1, \_SB.PCI0.M64._LEN, WLEN)
                Store (\M64B, WMIN)
                Store (\M64L, WLEN)
                Subtract (Add (\M64B, \M64L), 1, WMAX)
                Return (ConcatenateResTemplate (WIN0, WIN1))
            }

            /* Pin p (INTA is 0) of slot s is wired to GSI 16 + (s + p) % 4, without link devices. */
            Method (_PRT, 0, Serialized)
            {
                Name (PRTS, Package (128) {})
                Store (0, Local0)
                While (LLess (Local0, 128))
                {
                    ShiftRight (Local0, 2, Local1) /* slot */
                    And (Local0, 3, Local2)        /* pin */
                    Store (Package (4) { 0, 0, 0, 0 }, Local3)
                    Store (Or (ShiftLeft (Local1, 16), 0xFFFF), Index (Local3, 0))
                    Store (Local2, Index (Local3, 1))
                    Store (Add (16, And (Add (Local1, Local2), 3)), Index (Local3, 3))
                    Store (Local3, Index (PRTS, Local0))
                    Increment (Local0)
                }
                Return (PRTS)
            }

            /* PCI Firmware Specification 4.5.1: the guest may run PCIe capabilities by itself. */
            Method (_OSC, 4, Serialized)
            {
                CreateDWordField (Arg3, 0, STAT)
                If (LNotEqual (Arg0, ToUUID ("33DB4D5B-1FF7-401C-9657-7441C03DD766")))
                {
                    Or (STAT, 0x04, STAT) /* unknown UUID */
                    Return (Arg3)
                }
                CreateDWordField (Arg3, 8, CTRL)
                Store (CTRL, Local0)
                And (Local0, 0x1D, Local0) /* native hot plug, PME, AER, capability structure */
                If (LNotEqual (Arg1, 1))
                {
                    Or (STAT, 0x08, STAT) /* unknown revision */
                }
                If (LNotEqual (Local0, CTRL))
                {
                    Or (STAT, 0x10, STAT) /* something asked for was masked */
                }
                Store (Local0, CTRL)
                Return (Arg3)
            }
        }

        /* Linux uses ECAM only where ACPI reserves it like this. */
        Device (MBRD)
        {
            Name (_HID, EisaId ("PNP0C02"))
            Name (_UID, 0)
            Name (_CRS, ResourceTemplate ()
            {
                Memory32Fixed (ReadWrite, 0xE0000000, 0x00100000)
                IO (Decode16, 0x0600, 0x0600, 1, 0x10)
            })
        }

        Device (COM1)
        {
            Name (_HID, EisaId ("PNP0501"))
            Name (_UID, 1)
            Name (_STA, 0x0F)
            Name (_CRS, ResourceTemplate ()
            {
                IO (Decode16, 0x03F8, 0x03F8, 1, 8)
                IRQNoFlags () { 4 }
            })
        }

        Device (RTC0)
        {
            Name (_HID, EisaId ("PNP0B00"))
            Name (_CRS, ResourceTemplate ()
            {
                IO (Decode16, 0x0070, 0x0070, 1, 2)
            })
        }

        /* pvpanic: drivers look for this _HID. */
        Device (PEVT)
        {
            Name (_HID, "QEMU0001")
            Name (_CRS, ResourceTemplate ()
            {
                IO (Decode16, 0x0505, 0x0505, 1, 1)
            })
        }
    }
}
