#!/bin/sh
# e1000e under a flood of numbered UDP packets from L1: loses no more with updates than without.
# bed: --device e1000e --bind --hub
# shellcheck source=tests/nested/lib.sh
. /bed/lib.sh

# The driver's ring of 256 holds what comes while the emulated guest is away. Four updates are to end before
# the second stretch does, on slow machines too.
RATE=200 ALONE_S=12 UPDATES_S=32
ALONE=$((RATE * ALONE_S)) BESIDE=$((RATE * UPDATES_S))

# Sends one numbered stretch in the background while the rest of the arguments are done; prints the loss.
received() { field "$(beat)" udp_recv; }
stretch_lost() { # FIRST PACKETS COMMAND...
	first=$1 packets=$2
	shift 2
	/bed/udp-send 10.0.2.15 9000 "$first" "$packets" "$RATE" >/tmp/sent &
	sender=$!
	"$@"
	wait "$sender" || fail "the sender could not send: $(cat /tmp/sent)"
	beats_wait 3
	lost=$(($(field "$(cat /tmp/sent)" sent) - $(received) + got))
	got=$(received)
}

DEVICES=${BDF_e1000e:?} ARGS="molt.mode=udp molt.interval_ms=500 molt.sample_ms=20" GROWS="irqs udp_recv"
guest_start
# Asked for in the middle of a pause, the guest's address would have to wait.
arp -s 10.0.2.15 52:54:00:12:34:05
got=0
stretch_lost 0 "$ALONE" sleep "$ALONE_S"
control=$lost
stretch_lost "$ALONE" "$BESIDE" updates 4
say "$RATE packets a second: lost $control of $ALONE without update, $lost of $BESIDE over 4 updates"
full=$(ask "read /sys/class/net/eth0/statistics/rx_missed_errors" READ)
say "packets that found the ring full: $full"
# A machine that is busy otherwise keeps the guest away for longer than its ring lasts.
expect "packets lost over updates, against control and what found the ring full" \
	"$lost" -le $((control + ${full#READ }))
kernel_calm
guest_stop
for name in udp_dup udp_bad udp_sockdrop; do
	expect "$name" "$(field "$END" $name)" -eq 0
done
expect "packets received" "$(field "$END" udp_recv)" -ge $(((ALONE + BESIDE) * 95 / 100))
finish
