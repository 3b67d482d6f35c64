/* SPDX-License-Identifier: MIT */
/*
 * One slot of the PCI bus whose device may be ejected (--vfio ...,unbind=eject): acpi.c gives the guest one such table
 * for each. It puts the slot's number wherever 5A stands here, as a byte and as two digits of a name. Port and
 * interrupt repeat layout.h, as those of dsdt.asl do. The registers are devices/pci/slots.c's.
 */
DefinitionBlock ("slot.aml", "SSDT", 2, "MOLT", "MOLTSLOT", 0x00000001)
{
    External (\_SB.PCI0, DeviceObj)

    Scope (\_SB.PCI0)
    {
        Device (S5A)
        {
            Name (_ADR, 0x005A0000)
            Name (_SUN, 0x5A)
            OperationRegion (REGS, SystemIO, 0x0610, 8)
            Field (REGS, DWordAcc, NoLock, Preserve)
            {
                ASK, 32, /* the host wants the devices of these slots back; cleared by writing ones */
                GO, 32   /* written: these slots are free */
            }

            Method (_EJ0, 1, Serialized)
            {
                Store (ShiftLeft (1, _SUN), GO)
            }
        }
    }

    Scope (\_SB)
    {
        /* Generic event device, ACPI 6.4, 5.6.9. All slots share the interrupt. */
        Device (E5A)
        {
            Name (_HID, "ACPI0013")
            Name (_UID, 0x5A)
            Name (_CRS, ResourceTemplate ()
            {
                Interrupt (ResourceConsumer, Level, ActiveHigh, Shared) { 20 }
            })

            Method (_EVT, 1, Serialized)
            {
                ShiftLeft (1, \_SB.PCI0.S5A._SUN, Local0)
                If (And (\_SB.PCI0.S5A.ASK, Local0))
                {
                    Store (Local0, \_SB.PCI0.S5A.ASK)
                    Notify (\_SB.PCI0.S5A, 3) /* ejection request */
                }
            }
        }
    }
}
