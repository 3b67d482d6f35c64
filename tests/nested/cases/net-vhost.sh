#!/bin/sh
# A virtio network interface whose frames L1's kernel moves (vhost-net), with pings and a TCP connection: updates lose no
# ping, no byte and no connection; nor do one that fails in the pause, and those to a molt without vhost and back.
# bed: --module tun --module vhost_net --guest-module virtio_pci --guest-module virtio_net
# shellcheck source=tests/nested/lib.sh
. /bed/lib.sh

tap_start tunctl -t tap0
echo_start

# An update that changes who serves the interface, and so which threads and descriptors there are.
other_update() { # PROGRAM RESULT SERVED-BY
	before=$(lines "$REPORT")
	program_put "$1"
	kill -USR1 "$PID"
	wait_until "record of an update" record_beyond "$before"
	expect "result" "$(json "$(tail -n 1 "$REPORT")" result)" = "$2"
	wait_until "end of the other worker" only_worker
	expect "who serves it" "$(served_by)" = "$3"
	beats_wait 2
}

export MOLT_FAULT=@/tmp/fault
echo load:exit >/tmp/fault
ARGS="molt.interval_ms=20 molt.irq=virtio0 molt.tcp=7000" GROWS="irqs recv tcp_recv"
guest_start --net tap=tap0 --control /run/guest.sock
expect "who serves it" "$(served_by)" = vhost
lost0=$(pings_lost)
updates 4
expect "pings lost over the updates" $(($(pings_lost) - lost0)) -eq 0
# In the pause: the old program's vhost goes on.
other_update /bed/molt-faulty refused vhost
# A host that has lost its vhost, and has it again.
mv /dev/vhost-net /dev/vhost-net.away
other_update /bed/molt-a ok molt
mv /dev/vhost-net.away /dev/vhost-net
other_update /bed/molt-b ok vhost
expect "frames that found the tap's queue full" "$(cat /sys/class/net/tap0/statistics/tx_dropped)" -eq 0
guest_stop_unharmed
connection_kept 1000000
finish
