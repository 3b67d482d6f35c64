#!/bin/sh
# As eject, with iommufd: a guest ejects an nvme controller, begins anew without it, and ejects its e1000e, the last
# device.
# bed: --kernel 7.3-own --device e1000e --device nvme --bind --guest-module nvme --timeout 500
# shellcheck source=tests/nested/lib.sh
. /bed/lib.sh

NIC=${BDF_e1000e:?} DISK=${BDF_nvme:?}
DEVICES="$NIC,unbind=eject $DISK,unbind=eject" ARGS=molt.interval_ms=50 CONTROL=/tmp/eject.ctl

# With CAP_IPC_LOCK the kernel does not move this in an update (docs/kernel-facts.md): it is looked at before, and after.
pinned() { awk '$1 == "VmPin:" { print $2 }' "/proc/$WORKER/status"; }

guest_start --control "$CONTROL" --on-reset reboot
say "VmPin: $(pinned) kB"
lost0=$(pings_lost)
host_unbinds "$DISK"
host_has "$DISK" 1
updates 2
expect "pings lost" $(($(pings_lost) - lost0)) -eq 0

old=$BEAT_N
echo reboot >&3
wait_until "boot after a reset" guest_said READY 1
wait_until "heartbeats after a reset" beat_below "$old"
TAKEN_FDS='' FDS=$(process_fds)
expect "devices that are ejected, after a reset" \
	"$(/bed/molt-a status "$CONTROL" --json | grep -o '"trouble":"is ejected' | wc -l)" -eq 1
updates 2

say "VmPin after updates: $(pinned) kB"
host_unbinds "$NIC"
host_has "$NIC" 2
say "VmPin without a device: $(pinned) kB"
GROWS=''
updates 2
guest_end
finish
