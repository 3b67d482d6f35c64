#!/bin/sh
# An ordinary user's molt: in the group of /dev/kvm, owner of the IOMMU group, allowed to lock the guest's
# memory and no more. It updates, and does so when none of these files can be opened any more. Linux 7.3, its bzImage.
# bed: --kernel 7.3 --guest-image bzImage --device e1000e --bind
# shellcheck source=tests/nested/lib.sh
. /bed/lib.sh

USER=1000 GROUP=78
DEVICES=${BDF_e1000e:?} ARGS=molt.interval_ms=20
group=/dev/vfio/$(basename "$(readlink "/sys/bus/pci/devices/$DEVICES/iommu_group")")

status() { awk -v name="$1:" '$1 == name { print $2 }' "/proc/$WORKER/status"; }

# Seccomp mode of each thread, in the order of their names (a shell sorts thread ids as text, 1000 before 999): the
# leader's is 0, that of the vCPU and the event loop 2.
filters() {
	for task in "/proc/$WORKER"/task/*; do
		awk '$1 == "Name:" { name = $2 } $1 == "Seccomp:" && name ~ /^molt/ { print name "=" $2 }' "$task/status"
	done | sort | tr '\n' ' '
}

chgrp $GROUP /dev/kvm
chmod 660 /dev/kvm
chown $USER "$group"
chmod 600 "$group"
# The first guest's folder.
mkdir /out/guest1
chown $USER /out/guest1
WRAP="/bed/as-user $USER $GROUP $((MEM * 1048576))"
guest_start
expect "user id" "$(status Uid)" -eq $USER
expect "capabilities" "$(status CapEff)" = 0000000000000000
expect "no_new_privs" "$(status NoNewPrivs)" -eq 1
expect "filters" "$(filters)" = "molt-cpu0=2 molt-loop=2 molt-worker=0 "
lost0=$(pings_lost)
updates 3
chmod 000 /dev/kvm "$group" /dev/vfio/vfio
/bed/as-user $USER $GROUP 65536 /bin/sh -c ": <>/dev/kvm" 2>/dev/null && fail "/dev/kvm can still be opened"
updates 3
expect "filters" "$(filters)" = "molt-cpu0=2 molt-loop=2 molt-worker=0 "
expect "pings lost over the updates" $(($(pings_lost) - lost0)) -eq 0
kernel_calm
guest_stop
finish
