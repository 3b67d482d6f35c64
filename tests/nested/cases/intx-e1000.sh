#!/bin/sh
# e1000, which has INTx only, flooded by L1: at most pauses its line is asserted, its handler runs, or
# the kernel has masked it; it must go on from each. The rate is such that the driver's ring of 256 holds
# what comes while the emulated guest is away, pause and the slow first steps after it.
# bed: --device e1000 --bind --hub --guest-module e1000
# shellcheck source=tests/nested/lib.sh
. /bed/lib.sh

DEVICES=${BDF_e1000:?} ARGS="molt.mode=udp molt.interval_ms=100 molt.sample_ms=20" GROWS="irqs recv udp_recv"
guest_start
arp -s 10.0.2.15 52:54:00:12:34:05
/bed/udp-send 10.0.2.15 9000 0 1000000 150 >/tmp/sent &
sender=$!
updates 8
kill "$sender"
beats_wait 2
full=$(ask "read /sys/class/net/eth0/statistics/rx_missed_errors" READ)
say "packets that found the ring full: $full"
guest_stop_unharmed
# On a machine that is busy otherwise the guest may be away for longer than the ring lasts: what found it
# full is the network's loss, not the update's.
expect "packets missing, but for those that found the ring full" "$(field "$END" udp_missing)" -le "${full#READ }"
for name in udp_dup udp_bad; do
	expect "$name" "$(field "$END" $name)" -eq 0
done
finish
