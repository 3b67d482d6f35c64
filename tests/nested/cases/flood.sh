#!/bin/sh
# e1000e under a flood of numbered UDP packets from L1: loses no more with updates than without.
# bed: --device e1000e --bind --hub
# shellcheck source=tests/nested/lib.sh
. /bed/lib.sh

# The driver's ring of 256 holds what comes while the emulated guest is away.
RATE=200 ALONE_S=12 TOTAL=0 GOT=0

received() { field "$(beat)" udp_recv; }

# Where the machine is busy, thousands of packets wait in the network of the emulated hosts, and come late.
all_received() {
	last=''
	until [ "$(received)" = "$last" ]; do
		last=$(received)
		beats_wait 3
	done
}

# Sends numbered packets while the arguments are done; $SENT and $LOST of them.
flood() { # COMMAND...
	/bed/udp-send 10.0.2.15 9000 "$TOTAL" 1000000 "$RATE" >/tmp/sent &
	sender=$!
	"$@"
	kill -TERM "$sender" || :
	wait "$sender" || fail "the sender could not send: $(cat /tmp/sent)"
	all_received
	SENT=$(field "$(cat /tmp/sent)" sent)
	LOST=$((SENT - $(received) + GOT))
	GOT=$(received)
	TOTAL=$((TOTAL + SENT))
}

DEVICES=${BDF_e1000e:?} ARGS="molt.mode=udp molt.interval_ms=500 molt.sample_ms=20" GROWS="irqs udp_recv"
guest_start
# Asked for in the middle of a pause, the guest's address would have to wait.
arp -s 10.0.2.15 52:54:00:12:34:05
flood sleep "$ALONE_S"
alone=$SENT control=$LOST
flood updates 4
say "$RATE packets a second: lost $control of $alone without update, $LOST of $SENT over 4 updates"
full=$(ask "read /sys/class/net/eth0/statistics/rx_missed_errors" READ)
say "packets that found the ring full: $full"
# A machine that is busy otherwise keeps the guest away for longer than its ring lasts.
expect "packets lost over updates, against control and what found the ring full" \
	"$LOST" -le $((control + ${full#READ }))
kernel_calm
guest_stop
for name in udp_dup udp_bad udp_sockdrop; do
	expect "$name" "$(field "$END" $name)" -eq 0
done
expect "packets received" "$(field "$END" udp_recv)" -ge $((TOTAL * 95 / 100))
finish
