#!/bin/sh
# e1000e (MSI-X) under pings every 20 ms: nothing lost over eight updates, and the device never reset. The guest's kernel is
# the packaged bzImage; other cases start the vmlinux within it.
# bed: --device e1000e --bind --guest-image bzImage
# shellcheck source=tests/nested/lib.sh
. /bed/lib.sh

# CTRL STATUS CTRL_EXT RCTL TCTL RDBAL RDBAH RDLEN TDBAL TDBAH TDLEN RAL0 RAH0 (Intel 82574
# datasheet, 10.2): set by the driver once; a reset clears or reloads them.
REGISTERS="0 8 18 100 400 2800 2804 2808 3800 3804 3808 5400 5404"

DEVICES=${BDF_e1000e:?} ARGS=molt.interval_ms=20
guest_start
carrier=$(ask "read /sys/class/net/eth0/carrier_changes" READ)
regs=$(ask "regs /sys/class/net/eth0/device/resource0 $REGISTERS" REGS)
say "$regs"
pings_over_updates 8
expect "the device's registers" "$(ask "regs /sys/class/net/eth0/device/resource0 $REGISTERS" REGS)" = "$regs"
expect "carrier_changes" "$(ask "read /sys/class/net/eth0/carrier_changes" READ)" = "$carrier"
guest_stop_unharmed
expect "pings sent" "$(field "$END" sent)" -gt 1000
finish
