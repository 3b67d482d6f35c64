#!/bin/sh
# The fault matrix, devices that the guest ejects (unbind=eject) while an update is under way, which then fails, or does
# not: five nvme controllers, one for each row, beside an e1000e under pings. Whoever has the guest afterwards closes
# the device, and the host's unbind comes to its end.
# bed: --device e1000e --device nvme --device nvme --device nvme --device nvme --device nvme --bind --guest-module nvme --timeout 600
# shellcheck disable=SC2317 # functions are called by words of the table, and by faults.sh
# shellcheck source=tests/nested/lib.sh
. /bed/lib.sh
# shellcheck source=tests/nested/faults.sh
. /bed/faults.sh

# eject_at POINT WORDS: the guest gives the device up while the successor stands at POINT (cpr/fault.h). Then that is
# killed, or goes on and does WORDS.
all_rows() {
	cat <<'ROWS'
ejected at build, killed there|eject_at build kill|refused|ended, or said what is no message
ejected at build, ready: crashes|eject_at build ready:segv|refused|ended, or said what is no message
ejected at ready, state: crashes|eject_at ready state:segv|refused|ended before it had taken over
ejected at ready, load: hangs|eject_at ready load:hang|refused|in time
ejected at ready, the memory's new address refused|eject_at ready dma-1:fail|updated|
ROWS
}

CONTROL=/tmp/eject.ctl TIMEOUT=3000
DISKS="${BDF_nvme:?} ${BDF_nvme_2:?} ${BDF_nvme_3:?} ${BDF_nvme_4:?} ${BDF_nvme_5:?}" EJECTED=0
DEVICES=${BDF_e1000e:?} ARGS="nohz=off molt.beat_ms=250 molt.interval_ms=20"
for disk in $DISKS; do
	DEVICES="$DEVICES $disk,unbind=eject"
done

# In the guest the NIC is in slot 1, and they follow. A device that is there has a driver (EBUSY).
guest_let_go() { [ "$(ask "write /sys/bus/pci/devices/0000:00:0$((EJECTED + 1)).0/enable 1" WROTE)" = "WROTE 2" ]; }

eject_at() { # POINT WORDS
	EJECTED=$((EJECTED + 1)) SUCCESSOR=
	disk=$(echo "$DISKS" | cut -d' ' -f"$EJECTED")
	fault "$1:stop" "${2#kill}"
	wait_until "the successor to stop" stopped_successor
	host_unbinds "$disk"
	wait_until "the guest to let go of $disk" guest_let_go
	quiet_expect "the host waits for $disk" -d "/proc/$UNBIND"
	kill -"$(if [ "$2" = kill ]; then echo KILL; else echo CONT; fi)" "$SUCCESSOR"
	record_wait
	wait_until "end of all workers but one" only_worker
	wait_until "word of the ejection of $disk" is_ejected "$disk"
	host_has "$disk" "$EJECTED"
	# For another guest, where emulated SVM loses this one.
	echo "$disk" >/sys/bus/pci/drivers/vfio-pci/bind || fail "the host cannot bind $disk anew"
}

end_is_well() {
	expect "lines that tell that the host wants one" "$(grep -c 'asked to eject it' "$LOG")" -eq 5
}

faults_run
