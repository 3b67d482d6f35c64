#!/bin/sh
# A virtio network interface on a tap of L1's, with a ping every 20 ms and a TCP connection that carries data all the
# time: updates lose no ping, no byte and no connection, and the guest's kernel has nothing to say.
# bed: --module tun --guest-module virtio_pci --guest-module virtio_net
# shellcheck source=tests/nested/lib.sh
. /bed/lib.sh

tap_start tunctl -t tap0
echo_start

ARGS="molt.interval_ms=20 molt.irq=virtio0 molt.tcp=7000" GROWS="irqs recv tcp_recv"
guest_start --net tap=tap0,mac=52:54:00:12:34:77
expect "its address" "$(ask "read /sys/class/net/eth0/address" READ)" = "READ 52:54:00:12:34:77"
carrier=$(ask "read /sys/class/net/eth0/carrier_changes" READ)
pings_over_updates 8
expect "carrier_changes" "$(ask "read /sys/class/net/eth0/carrier_changes" READ)" = "$carrier"
dropped=$(cat /sys/class/net/tap0/statistics/tx_dropped)
expect "frames that found the tap's queue full" "$dropped" -eq 0
guest_stop_unharmed
connection_kept 1000000
finish
