#!/bin/sh
# A virtio network interface on a tap of L1's, with a ping every 20 ms and a TCP connection that carries data all the
# time: updates lose no ping, no byte and no connection, and the guest's kernel has nothing to say.
# bed: --module tun --guest-module virtio_pci --guest-module virtio_net
# shellcheck source=tests/nested/lib.sh
. /bed/lib.sh

tunctl -t tap0 >/dev/null || fail "no tap"
ip addr add 10.0.2.2/24 dev tap0
ip link set tap0 up
nc -ll -p 7000 -e cat >/dev/null 2>&1 &
echoes=$!

ARGS="molt.interval_ms=20 molt.irq=virtio0 molt.tcp=7000" GROWS="irqs recv tcp_recv"
guest_start --net tap=tap0,mac=52:54:00:12:34:77
expect "its address" "$(ask "read /sys/class/net/eth0/address" READ)" = "READ 52:54:00:12:34:77"
carrier=$(ask "read /sys/class/net/eth0/carrier_changes" READ)
pings_over_updates 8
expect "carrier_changes" "$(ask "read /sys/class/net/eth0/carrier_changes" READ)" = "$carrier"
dropped=$(cat /sys/class/net/tap0/statistics/tx_dropped)
expect "frames that found the tap's queue full" "$dropped" -eq 0
kernel_calm
guest_stop
kill "$echoes" 2>/dev/null
expect "pings lost in the whole life" "$(field "$END" lost)" -eq 0
expect "bytes of the connection that were wrong" "$(field "$END" tcp_bad)" -eq 0
expect "bytes that came back" "$(field "$END" tcp_recv)" -gt 1000000
finish
