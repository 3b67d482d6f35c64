#!/bin/sh
# Two network cards that are functions of one device, and have no reset of their own: the guest finds them in one slot, as
# the host does, and at its start their bus is reset, by iommufd and by type1. Pings through the first, over updates.
# bed: --kernel 7.3-own --device e1000-pair --bind --guest-module e1000
# shellcheck source=tests/nested/lib.sh
. /bed/lib.sh

FN0=${BDF_e1000_pair:?}
FN1=${FN0%0}1

run() { # WORD
	DEVICES="$FN0$1 $FN1$1" ARGS=molt.interval_ms=50
	guest_start
	for fn in 0 1; do
		expect "function $fn in the guest" "$(ask "read /sys/bus/pci/devices/0000:00:01.$fn/device" READ)" = "READ 0x100e"
	done
	updates 3
	expect "function 1 after the updates" "$(ask "read /sys/bus/pci/devices/0000:00:01.1/device" READ)" = "READ 0x100e"
	guest_stop_unharmed
	expect "complaints that they have no reset" "$(grep -c 'no reset of its own' "$LOG")" -eq 0
}

run ,iommu=iommufd
run ,iommu=type1

# What has noreset is not reset with another one either.
DEVICES="$FN0 $FN1,noreset"
guest_start
expect "the reason why there is no reset" "$(grep -c "a bus reset would reach $FN1 too, which has noreset" "$LOG")" -eq 1
guest_stop
finish
