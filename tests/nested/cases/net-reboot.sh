#!/bin/sh
# A guest with a virtio network interface resets (--on-reset reboot), right after an update and without one, while pings
# and a TCP connection go: each boot finds an interface that works, on the same tap, and loses no ping. Once molt moves
# the frames, once L1's kernel (vhost-net).
# bed: --module tun --module vhost_net --guest-module virtio_pci --guest-module virtio_net --timeout 700
# shellcheck source=tests/nested/lib.sh
. /bed/lib.sh

tap_start tunctl -t tap0
echo_start

ARGS="molt.interval_ms=20 molt.irq=virtio0 molt.tcp=7000" GROWS="irqs recv tcp_recv"
for vhost in off on; do
	guest_start --net tap=tap0,mac=52:54:00:12:34:77,vhost=$vhost --on-reset reboot
	update
	for boot in 2 3; do
		boot_again
		expect "its address" "$(ask "read /sys/class/net/eth0/address" READ)" = "READ 52:54:00:12:34:77"
		expect "pings lost since boot $boot" "$(pings_lost)" -eq 0
	done
	update
	kernel_calm
	expect "boots" "$(guest_count READY)" -eq 3
	expect "lines of molt about a boot" "$(grep -c 'it begins anew' "$LOG")" -eq 2
	guest_end
	END=$(guest_line END)
	connection_kept 100000
done
finish
