#!/bin/sh
# What a device is changes while its successor is held, between the offered state and the last one: the MSI-X vectors of
# an nvme disk, its D-state, its COMMAND register; under pings through an e1000e. The disk works afterwards, and no ping
# is lost.
# bed: --device e1000e --device nvme --bind --guest-module nvme --timeout 500
# shellcheck source=tests/nested/lib.sh
# shellcheck disable=SC2317 # functions are called by words of the table
. /bed/lib.sh

export MOLT_FAULT=@/tmp/fault
DEVICES="${BDF_e1000e:?} ${BDF_nvme:?}" ARGS=molt.interval_ms=20

# ---- what the guest does ----

write() { # FILE TEXT
	quiet_expect "guest's write to $1" "$(ask "write $1 $2" WROTE)" = "WROTE 0"
}
reads() { [ "$(ask "read $1" READ)" = "READ $2" ]; }
driver() { write "/sys/bus/pci/drivers/nvme/$1" "$BDF"; }
is_live() { reads /sys/class/nvme/nvme0/state live; }
bind() { driver bind && wait_until "the disk" is_live; }
unbind() { driver unbind; }
bind_anew() { unbind && bind; }
dstate() { quiet_expect "D-state $1" "$(ask "dstate $DEVICE/config $1" WROTE)" = "WROTE 0"; }
asleep() { dstate 3; }
awake() { dstate 0; }
unbind_asleep() { unbind && asleep; }
awake_bind() { awake && bind; }
enable() { write "$DEVICE/enable" 1; }
disable_bind() { write "$DEVICE/enable" 0 && bind; }
nothing() { :; }
# A transfer, which ends with an interrupt; a lost one is told of by the driver (kernel_calm).
transfer() {
	write /proc/sys/vm/drop_caches 3
	quiet_expect "a transfer" "$(ask "read /dev/nvme0n1" READ)" = "READ "
}

# ---- a row ----

row() { # NAME POINT BEFORE WITHIN AFTER
	$3
	update_hold "$2"
	$4
	expect "$1: still held" "$(lines "$REPORT")" -eq "$RECORDS"
	kill -CONT "$SUCCESSOR"
	wait_until "record of '$1'" record_beyond "$RECORDS"
	record=$(tail -n 1 "$REPORT")
	[ "$(json "$record" result)" = ok ] || fail "$1: $record"
	wait_until "end of the worker before" only_worker
	wait_until "parent to become the new program" parent_is_new
	wait_until "parent to be at rest" parent_is_at_rest
	quiet_expect "$1: process id" "$(process_start)" = "$START"
	$5
	transfer
	beats_wait 1
	before=$BEAT
	beats_wait 1
	expect_growth "$1" "$before"
	say "$1: done, and the disk works"
}

guest_start
BDF=$(ask "read /sys/class/nvme/nvme0/address" READ)
BDF=${BDF#READ } DEVICE=/sys/bus/pci/devices/${BDF#READ }
wait_until "the disk" is_live
transfer
lost0=$(pings_lost)
update
row "vectors closed" build nothing unbind bind
row "vectors opened anew" build nothing bind_anew nothing
row "vectors opened anew, late" ready nothing bind_anew nothing
row "vectors opened" ready unbind bind nothing
row "to D3hot" build unbind asleep awake_bind
row "to D3hot, late" ready unbind asleep awake_bind
row "from D3hot" build unbind_asleep awake_bind nothing
row "memory decoding on" build unbind enable disable_bind
: >/tmp/fault
update
transfer
update
expect "pings lost over the updates" $(($(pings_lost) - lost0)) -eq 0
kernel_calm
guest_stop
finish
