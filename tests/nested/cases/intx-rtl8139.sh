#!/bin/sh
# rtl8139, which has INTx only, under pings: the level interrupt, masked or pending at the pause, goes on.
# bed: --device rtl8139 --bind --guest-module 8139cp
# shellcheck source=tests/nested/lib.sh
. /bed/lib.sh

# RCR's first half, TNPDS, CR, IMR, C+ command (RTL8139C+ datasheet): a reset clears them.
REGISTERS="0 4 20 e4 e8"
DEVICES=${BDF_rtl8139:?} ARGS=molt.interval_ms=20
guest_start
regs=$(ask "regs /sys/class/net/eth0/device/resource1 $REGISTERS" REGS)
say "$regs"
pings_over_updates 8
expect "the device's registers" "$(ask "regs /sys/class/net/eth0/device/resource1 $REGISTERS" REGS)" = "$regs"
guest_stop_unharmed
finish
