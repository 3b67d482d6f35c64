#!/bin/sh
# A virtio network interface with two pairs of queues on a tap with two, for a guest with two processors; its frames moved by
# L1's kernel, and by molt. The pings and a TCP connection use one pair each, of which each interrupts; updates lose no ping,
# no byte and no connection.
# bed: --module tun --module vhost_net --guest-module virtio_pci --guest-module virtio_net --timeout 800
# shellcheck source=tests/nested/lib.sh
. /bed/lib.sh

tap_start /bed/tap-queues tap0
echo_start

attached() { count /sys/class/net/tap0/queues/rx-*; }
dropped() { cat /sys/class/net/tap0/statistics/tx_dropped; }
irqs() { ask "irqs virtio0-input.$1" IRQS; }

# L1 has one processor for the guest's two, which a connection keeps busy, and for the new program, which stands back while it
# prepares: that takes long.
CPUS=2 ARGS="molt.interval_ms=20 molt.irq=virtio0 molt.tcp=7000" GROWS="irqs recv tcp_recv"
for vhost in on off; do
	guest_start --net "tap=tap0,queues=2,vhost=$vhost" --warm-budget 0 --prepare-timeout 240000
	expect "queues of the tap that the guest uses" "$(attached)" -eq 2
	# Between two guests nobody takes what L1 sends.
	dropped0=$(dropped)
	before0=$(irqs 0) before1=$(irqs 1)
	lost0=$(pings_lost)
	updates 4
	expect "pings lost over the updates" $(($(pings_lost) - lost0)) -eq 0
	say "interrupts of the first pair: $before0, then $(irqs 0); of the second: $before1, then $(irqs 1)"
	expect "interrupts of the first pair" "$(irqs 0 | cut -d' ' -f2)" -gt "${before0#IRQS }"
	expect "interrupts of the second pair" "$(irqs 1 | cut -d' ' -f2)" -gt "${before1#IRQS }"
	expect "queues of the tap after updates" "$(attached)" -eq 2
	expect "frames that found the tap's queue full" "$(dropped)" -eq "$dropped0"
	guest_stop_unharmed
	connection_kept 1000000
done
finish
