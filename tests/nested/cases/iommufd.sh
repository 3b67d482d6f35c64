#!/bin/sh
# The IOMMU by iommufd: pings through an e1000e while an nvme disk is written and compared, two devices in one address
# space; then as an ordinary user, who needs to lock twice the guest's memory for a moment and may lock no more. The
# host's kernel is our own, as Debian's have no iommufd.
# bed: --kernel 7.3-own --device e1000e --device nvme-slow --bind --guest-module nvme
# shellcheck source=tests/nested/lib.sh
. /bed/lib.sh

USER=1000 GROUP=78

links() { for fd in "/proc/$WORKER/fd"/*; do readlink "$fd"; done | grep -c "$1" || true; }
pinned() { awk '$1 == "VmPin:" { print $2 }' "/proc/$WORKER/status"; }

DEVICES="${BDF_e1000e:?} ${BDF_nvme_slow:?}" GROWS="irqs recv disk_reads disk_irqs"
ARGS="molt.interval_ms=50 molt.disk=/dev/nvme0n1"
guest_start
expect "guest memory is pinned (kB)" "$(pinned)" -eq $((MEM * 1024))
expect "the descriptor of iommufd" "$(links '/dev/iommu')" -eq 1
expect "descriptors of groups and containers" "$(links '/dev/vfio/[0-9v]')" -eq 0
pings_over_updates 8
guest_stop_unharmed
expect "blocks with wrong content" "$(field "$END" disk_bad)" -eq 0
expect "transfers that failed" "$(field "$END" disk_errs)" -eq 0

chgrp $GROUP /dev/kvm
chmod 660 /dev/kvm
chmod 666 /dev/iommu
node=/dev/vfio/devices/$(basename "/sys/bus/pci/devices/$BDF_e1000e"/vfio-dev/*)
chown $USER "$node"
chmod 600 "$node"
mkdir /out/guest2 /out/guest3
chown $USER /out/guest2 /out/guest3
DEVICES=$BDF_e1000e GROWS="irqs recv" ARGS=molt.interval_ms=20
WRAP="/bed/as-user $USER $GROUP $((2 * MEM * 1048576))"
guest_start
lost0=$(pings_lost)
updates 3
expect "guest memory is pinned, and counted for who has the guest (kB)" "$(pinned)" -eq $((MEM * 1024))
expect "pings lost over the updates" $(($(pings_lost) - lost0)) -eq 0
guest_stop

# One page less than twice: it runs, and an update is refused with the reason, before the pause.
WRAP="/bed/as-user $USER $GROUP $((2 * MEM * 1048576 - 4096))"
guest_start
update_refused
expect "the reason names the limit" "$(echo "$RECORD" | grep -c RLIMIT_MEMLOCK)" -eq 1
guest_stop
finish
