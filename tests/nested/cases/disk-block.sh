#!/bin/sh
# Disks that are read direct from devices with blocks of 4096 bytes: one is such a device itself, by io_uring; another is a
# file on one. The guest is told of the blocks and keeps to them; it is updated about every second with 32 requests in
# flight. A file system that becomes read-only is the guest's I/O error, and its disk is as good as before when that ends.
# What a slow, failing or full disk does is disk-faults'.
# bed: --module null_blk --module configfs --module ext4 --guest-module virtio_pci --guest-module virtio_blk --timeout 400
# shellcheck source=tests/nested/lib.sh
. /bed/lib.sh
ANSWERS='\(LOAD\|FAIL\)'

device() { # NAME MIB
	at=/sys/kernel/config/nullb/$1
	mkdir "$at"
	echo "$2" >"$at/size"
	echo 4096 >"$at/blocksize"
	echo 1 >"$at/memory_backed"
	echo 1 >"$at/power"
	DEVICE=/dev/$1
	[ -b "$DEVICE" ] || fail "no $DEVICE"
}

# Writes of the guest to its second disk, beside which the host updates; what the guest says in the end.
writes() { # BLOCK-LEN MS UPDATES
	answered=$(guest_count "$ANSWERS")
	echo "load_disk /dev/vdb write random $1 32 $2" >&3
	[ "$3" -eq 0 ] || updates "$3"
	wait_until "the end of the guest's writes" guest_said "$ANSWERS" "$answered"
	ANSWER=$(guest_line "$ANSWERS")
	say "$ANSWER"
}

mount -t configfs none /sys/kernel/config
device below 64
mke2fs -b 4096 "$DEVICE" >/dev/null || fail "no file system"
mkdir /host
mount -t ext4 "$DEVICE" /host || fail "the file system cannot be mounted"
truncate -s 16M /host/image
device itself 32
CPUS=1 DEVICES='' ARGS="molt.mode=idle molt.disk=/dev/vda" GROWS="disk_reads disk_writes disk_irqs"
guest_start --disk "$DEVICE,direct,aio=io_uring" --disk /host/image,direct --control /tmp/disk.ctl
expect "disks that io_uring serves" "$("$PROGRAM" status /tmp/disk.ctl | grep -c "disk $DEVICE .*served by io_uring")" -eq 1
for disk in vda vdb; do
	expect "the blocks of $disk" "$(ask "read /sys/block/$disk/queue/logical_block_size" READ)" = "READ 4096"
done
writes 512 1000 0
expect "writes that are no whole blocks" "$ANSWER" = "FAIL what=load_disk errno=22"
writes 4096 8000 4
expect "writes over updates" "${ANSWER%% *}" = LOAD
expect "errors that molt tells of" "$(grep -c "the guest gets an error" "$LOG")" -eq 0

# The image is a hole again: there is no room for it on a file system that nobody may write to.
truncate -s 0 /host/image
truncate -s 16M /host/image
echo u >/proc/sysrq-trigger
wait_until "read-only file system" grep -q ' /host ext4 ro' /proc/mounts
writes 4096 2000 1
expect "writes to a read-only file system" "$ANSWER" = "FAIL what=load_disk errno=5"
expect "times that molt says so" "$(grep -c "Read-only file system; the guest gets an error" "$LOG")" -ge 1
mount -o remount,rw /host
writes 4096 2000 1
expect "writes when it is writable again" "${ANSWER%% *}" = LOAD
guest_end
END=$(guest_line END)
say "$END"
expect "blocks of the device with wrong content" "$(field "$END" disk_bad)" -eq 0
expect "transfers of it that failed" "$(field "$END" disk_errs)" -eq 0
finish
