#!/bin/sh
# 200 numbered packets sent while the guest stands still: they are in its memory before it runs
# again, and it then gets every one. The device goes on between two programs.
# bed: --device e1000e --bind --hub
# shellcheck source=tests/nested/lib.sh
. /bed/lib.sh

PACKETS=200 # the driver's ring has 256 descriptors
DEVICES=${BDF_e1000e:?} ARGS="molt.mode=udp molt.interval_ms=500" GROWS="irqs recv"

guest_memory() { # the sealed memfd of this size
	for fd in "/proc/$WORKER"/fd/*; do
		[ "$(stat -L -c %s "$fd")" -ne $((MEM * 1048576)) ] || echo "$fd"
	done
}
# Heartbeats come twice a second.
# shellcheck disable=SC2317 # called by wait_until
stands_still() {
	still=$(guest_count BEAT)
	sleep 2
	[ "$(guest_count BEAT)" -eq "$still" ]
}
missing() { field "$(beat)" udp_missing; }
# shellcheck disable=SC2317 # called by wait_until
all_there() { beat_look && [ "$(field "$BEAT" udp_recv)" -ge "$1" ]; }

guest_start --debug-hold 6000
arp -s 10.0.2.15 52:54:00:12:34:05
# A few before, for the count to begin.
/bed/udp-send 10.0.2.15 9000 0 10 100 >/dev/null
for round in 1 2; do
	beats_wait 2
	first=$((10 + (round - 1) * PACKETS)) before=$(beat)
	expect "packets before round $round" "$(field "$before" udp_recv)" -eq "$first"
	memory=$(guest_memory)
	update_ask
	wait_until "pause" stands_still
	beats=$(guest_count BEAT)
	/bed/udp-send 10.0.2.15 9000 "$first" "$PACKETS" 400 >/tmp/sent
	sleep 0.5
	found=$(/bed/packets-in "$memory" "$first" "$PACKETS")
	expect "still the same pause: records" "$(lines "$REPORT")" -eq "$RECORDS"
	expect "still the same pause: heartbeats" "$(guest_count BEAT)" -eq "$beats"
	say "sent: $(cat /tmp/sent); in the memory of the guest that stands still: $found"
	expect "packets in memory in the pause" "$found" = "found=$PACKETS"
	update_check
	# They are in its memory; it may take some heartbeats to look through them.
	wait_until "packets in the guest" all_there $((first + PACKETS))
	expect "packets that reached the guest" "$(field "$BEAT" udp_recv)" -eq $((first + PACKETS))
	expect "packets missing" "$(missing)" -eq 0
done
kernel_calm
guest_stop
expect "pings lost" "$(field "$END" lost)" -eq 0
finish
