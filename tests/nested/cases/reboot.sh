#!/bin/sh
# A guest that resets (--on-reset reboot) right after an update, while its NIC sends and receives: each boot finds a NIC
# that works, in the same processes, and nothing is left over of the boot before. A panic resets it as well.
# bed: --device e1000e --bind
# shellcheck source=tests/nested/lib.sh
. /bed/lib.sh

DEVICES="${BDF_e1000e:?}"
boot_again() { # ORDER
	boots=$(guest_count READY)
	beats_wait 8
	old=$BEAT_N
	echo "$1" >&3
	wait_until "boot after '$1'" guest_said READY "$boots"
	wait_until "heartbeats after '$1'" beat_below "$old"
	quiet_expect "worker after '$1'" -d "/proc/$WORKER"
	quiet_expect "pid after '$1'" "$(process_start)" = "$START"
	quiet_expect "VmLck after '$1'" "$(process_locked)" -eq "$(locked_due)"
	quiet_expect "descriptors after '$1'" "$(process_fds)" -le $((FDS + 2))
	quiet_expect "threads after '$1'" "$(process_threads)" -eq "$THREADS"
	TAKEN_FDS=''
	beats_wait 1
	before=$BEAT
	beats_wait 1
	expect_growth "after '$1'" "$before"
	say "ok: boot $((boots + 1)), $(process_fds) descriptors"
}

guest_start --on-reset reboot
for order in reboot panic reboot; do
	update
	boot_again "$order"
	boot_again reboot
done
update
kernel_calm
expect "boots" "$(guest_count READY)" -eq 7
kill -TERM "$PID"
wait_until "end" ended || true
status=0
wait "$PID" || status=$?
PID=
expect "molt's exit status" "$status" -eq 0
expect "lines of molt about a boot" "$(grep -c 'it begins anew' "$LOG")" -eq 6
expect "system calls that the sandbox forbids" "$(grep -c sandbox: "$LOG")" -eq 0
finish
