#!/bin/sh
# A virtio network interface with two pairs of queues whose frames L1's kernel moves (vhost-net), and a successor that
# cannot set up the second pair. Where that is found while it builds it refuses, the guest is not paused, and both pairs go
# on; after commit molt moves the frames itself, until the next update. No ping, no byte and no connection is lost.
# bed: --module tun --module vhost_net --guest-module virtio_pci --guest-module virtio_net --timeout 800
# shellcheck source=tests/nested/lib.sh
. /bed/lib.sh

tap_start /bed/tap-queues tap0
echo_start

irqs() { ask "irqs virtio0-input.$1" IRQS | cut -d' ' -f2; }

# The call, which of its kind in the successor fails; what becomes of the update; who serves the interface; the reason.
row() { # CALL RESULT SERVED-BY WORDS
	failed=$FAILED
	echo "$1:fail" >/tmp/fault
	before=$(lines "$REPORT")
	first=$(irqs 0) second=$(irqs 1)
	program_put /bed/molt-faulty
	kill -USR1 "$PID"
	wait_until "record of an update" record_beyond "$before"
	record=$(tail -n 1 "$REPORT")
	pause=$(json "$record" pause_ns)
	say "$1: $(json "$record" reason)"
	expect "$1: result" "$(json "$record" result)" = "$2"
	if [ "$2" = refused ]; then
		expect "$1: ns of pause" "${pause:-0}" -eq 0
		expect "$1: reasons that say $4" "$(json "$record" reason | grep -c "$4")" -eq 1
	fi
	wait_until "end of the other worker" only_worker
	expect "$1: who serves it" "$(served_by)" = "$3"
	beats_wait 2
	expect "$1: interrupts of the first pair" "$(irqs 0)" -gt "$first"
	expect "$1: interrupts of the second pair" "$(irqs 1)" -gt "$second"
	expect "$1: queues of the tap that the guest uses" "$(count /sys/class/net/tap0/queues/rx-*)" -eq 2
	[ "$FAILED" -ne "$failed" ] || SURVIVED=$((SURVIVED + 1))
}

export MOLT_FAULT=@/tmp/fault
CPUS=2 ARGS="molt.interval_ms=20 molt.irq=virtio0 molt.tcp=7000" GROWS="irqs recv tcp_recv"
guest_start --net tap=tap0,queues=2,vhost=on --control /run/guest.sock --warm-budget 0 --prepare-timeout 240000
lost0=$(pings_lost) SURVIVED=0
row vhost-owner-2 refused vhost 'vhost: a thread'
row vhost-memory-2 refused vhost 'vhost: guest memory'
row vhost-rings-3 refused vhost 'vhost: rings'
row vhost-backend-3 ok molt
updates 1
expect "who serves it after an update" "$(served_by)" = vhost
expect "pings lost over the updates" $(($(pings_lost) - lost0)) -eq 0
guest_stop_unharmed
connection_kept 1000000
echo "FAULT rows=4 survived=$SURVIVED excepted=0"
finish
