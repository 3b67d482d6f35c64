#!/bin/sh
# A virtio disk under a Linux guest, which writes, reads and compares blocks past its page cache without a break: over
# updates nothing is lost, and the guest's kernel has nothing to say. Nobody else may write to the image meanwhile.
# A source of random bytes stands beside it.
# bed: --guest-module virtio_pci --guest-module virtio_blk --guest-module virtio_rng
# shellcheck source=tests/nested/lib.sh
. /bed/lib.sh

truncate -s 16M /tmp/disk.raw
CPUS=2 DEVICES='' ARGS="molt.mode=idle molt.disk=/dev/vda" GROWS="disk_reads disk_writes disk_irqs"
guest_start --disk /tmp/disk.raw,serial=of-the-test,queues=2 --rng --control /tmp/disk.ctl
expect "its serial" "$(ask "read /sys/block/vda/serial" READ)" = "READ of-the-test"
expect "the processors of its second queue" "$(ask "read /sys/block/vda/mq/1/cpu_list" READ)" = "READ 1"
expect "its sectors" "$(ask "read /sys/block/vda/size" READ)" = "READ 32768"
expect "its source of random bytes" "$(ask "read /sys/class/misc/hw_random/rng_current" READ)" = "READ virtio_rng.0"
status=0
"$PROGRAM" run --kernel "$GUEST_KERNEL" --console none --disk /tmp/disk.raw 2>/tmp/second || status=$?
expect "a second writer's status" "$status" -eq 4
say "$(head -n 1 /tmp/second)"
expect "who reads and writes its file" "$("$PROGRAM" status /tmp/disk.ctl | grep -c 'disk.raw .*served by threads')" -eq 1
truncate -s 32M /tmp/disk.raw
expect "what molt says of its length" "$("$PROGRAM" rescan /tmp/disk.ctl)" = "disk /tmp/disk.raw: 33554432 bytes: the guest is told"
# shellcheck disable=SC2317 # called by wait_until
size_is() { [ "$(ask "read /sys/block/vda/size" READ)" = "READ $1" ]; }
wait_until "the disk's new size in the guest" size_is 65536
n0=$(beat_n)
updates 8
expect "its sectors after updates" "$(ask "read /sys/block/vda/size" READ)" = "READ 65536"
say "disk: slowest transfer in the guest's life so far $(beats_max disk_max_us "$n0" "$(beat_n)") us"
status=0
"$PROGRAM" run --kernel "$GUEST_KERNEL" --console none --disk /tmp/disk.raw 2>/tmp/second || status=$?
expect "a second writer's status after updates" "$status" -eq 4
kernel_calm
guest_stop
expect "blocks with wrong content" "$(field "$END" disk_bad)" -eq 0
expect "transfers that failed" "$(field "$END" disk_errs)" -eq 0
expect "bytes that the image holds" "$(tr -d '\0' </tmp/disk.raw | wc -c)" -gt 100000
expect "the image's length" "$(wc -c </tmp/disk.raw)" -eq 33554432
finish
