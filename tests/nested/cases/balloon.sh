#!/bin/sh
# A Linux guest with a balloon: what it has used and does not use any more its kernel reports, and the host has it back,
# with updates before, after and in between. What the guest still uses is as it was.
# bed: --guest-module virtio_pci --guest-module virtio_balloon --timeout 700
# shellcheck source=tests/nested/lib.sh
. /bed/lib.sh
ROUNDS=2 MUCH=96 LITTLE=8

# MiB of guest memory that the host has; the same file in each worker.
held() {
	for fd in "/proc/$WORKER/fd"/*; do
		case $(readlink "$fd") in
		*memfd:molt-ram0*) ;;
		*) continue ;;
		esac
		echo $(($(stat -L -c %b "$fd") / 2048))
		return
	done
}
# shellcheck disable=SC2317 # called by wait_until
held_below() { [ "$(held)" -lt "$1" ]; }
reported() { "$PROGRAM" metrics /tmp/balloon.ctl | sed -n 's/^molt_guest_memory_reported_bytes_total //p'; }

DEVICES='' ARGS="molt.mode=idle" GROWS=''
guest_start --balloon --control /tmp/balloon.ctl
expect "the balloon's driver" "$(ask "read /sys/bus/virtio/devices/virtio0/status" READ)" = "READ 0x0000000f"
expect "used at first" "$(ask "use $LITTLE" USED)" = "USED $LITTLE bad=0"
for _ in $(seq "$ROUNDS"); do
	expect "used" "$(ask "use $MUCH" USED)" = "USED $MUCH bad=0"
	worker_find
	full=$(held)
	updates 1
	expect "still used, and then most of it not" "$(ask "use $LITTLE" USED)" = "USED $LITTLE bad=0"
	told=$(reported)
	updates 2
	wait_until "the host to have it back" held_below $((full - 64))
	say "of $full MiB the host has $((full - $(held))) back; reported over two updates: $((($(reported) - told) / 1048576))"
	updates 1
done
expect "used at the end" "$(ask "use 0" USED)" = "USED 0 bad=0"
expect "MiB reported in the whole life" $(($(reported) / 1048576)) -ge $((ROUNDS * 64))
kernel_calm
guest_stop
finish
