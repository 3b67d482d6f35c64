#!/bin/sh
# The host unbinds a device that a guest has: the operator is told, over an update too, and the guest powers off, so that
# the unbind comes to its end instead of waiting for ever.
# bed: --device e1000e --bind
# shellcheck source=tests/nested/lib.sh
. /bed/lib.sh

# What the host is fit for is said before anything is started, and who has the device later.
host_check() { # STATUS TEXT
	status=0
	/bed/molt-a host-check "${BDF_e1000e:?}" --mem 256M >/out/host-check 2>&1 || status=$?
	expect "host-check's exit status" "$status" -eq "$1"
	grep -q "$2" /out/host-check || fail "host-check does not say '$2': $(cat /out/host-check)"
}

host_check 0 "^ok  *vfio $BDF_e1000e"
expect "errors of host-check" "$(grep -c '^error' /out/host-check)" -eq 0
DEVICES=${BDF_e1000e:?},unbind=poweroff ARGS=molt.interval_ms=50
guest_start
host_check 3 "has it open: end it first"
updates 1
echo "$BDF_e1000e" >/sys/bus/pci/drivers/vfio-pci/unbind &
unbind=$!
wait_until "the guest's end" ended
status=0
wait "$PID" || status=$?
PID=
expect "molt's exit status" "$status" -eq 0
wait $unbind || fail "the unbind failed"
host_check 3 "the device has no driver"
expect "the driver of the device" ! -e "/sys/bus/pci/devices/$BDF_e1000e/driver"
say "$(grep 'wanted back' "$LOG")"
expect "lines that tell that the host wants it" "$(grep -c 'is wanted back by the host' "$LOG")" -eq 1
expect "the guest's account is closed" "$(guest_count END)" -eq 1
finish
