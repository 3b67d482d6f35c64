#!/bin/sh
# The host unbinds devices of a guest that is to eject them alone (unbind=eject): first an nvme controller, and pings
# through an e1000e go on; then that one too, its last device, while an update's successor is held. Each unbind comes to
# its end, the guest runs on with what is left, and is updated.
# bed: --device e1000e --device nvme --bind --guest-module nvme --timeout 500
# shellcheck disable=SC2317 # functions are called by wait_until
# shellcheck source=tests/nested/lib.sh
. /bed/lib.sh

NIC=${BDF_e1000e:?} DISK=${BDF_nvme:?}
DEVICES="$NIC,unbind=eject $DISK,unbind=eject" ARGS=molt.interval_ms=50 CONTROL=/tmp/eject.ctl
export MOLT_FAULT=@/tmp/fault

# In the guest the NIC is in slot 1; what cannot be read is an empty line.
let_go() { [ "$(ask "read /sys/bus/pci/devices/0000:00:01.0/vendor" READ)" = "READ " ]; }

: >/tmp/fault
guest_start --control "$CONTROL"
updates 1
lost0=$(pings_lost)
host_unbinds "$DISK"
host_has "$DISK" 1
expect "locked memory (kB)" "$(process_locked)" -eq "$(locked_due)"
updates 2
expect "pings lost" $(($(pings_lost) - lost0)) -eq 0
echo "$DISK" >/sys/bus/pci/drivers/vfio-pci/bind || fail "the host cannot bind $DISK anew"
kernel_calm

# The other one, while an update is under way: whoever has the guest afterwards closes it.
update_hold ready
host_unbinds "$NIC"
wait_until "the guest to let go of it" let_go
expect "the host waits" -d "/proc/$UNBIND"
kill -CONT "$SUCCESSOR"
DEVICES='' GROWS='' SIDE=faulty
update_settled
host_has "$NIC" 2
expect "locked memory (kB)" "$(process_locked)" -eq 0
updates 2
guest_end
expect "lines that tell that the host wants one" "$(grep -c 'asked to eject it' "$LOG")" -eq 2
finish
