#!/bin/sh
# What a host's disk does when it is not well, beneath a Debian guest and over updates: it is slow, fails, cannot be written
# to, or is full. The guest is told of what failed and of nothing else, updates are made all the same, and afterwards the
# disk is as good as before.
# bed: --debian --module ext4 --module loop --module dm_mod --module dm_delay --timeout 700
# shellcheck source=tests/nested/lib.sh
. /bed/lib.sh
# shellcheck source=tests/nested/debian.sh
. /bed/debian.sh
MEM=512
SECTORS=32768

# What the disk is made of from now on, as a device mapper's table says.
table() { # TARGET ARGUMENTS
	dmsetup --noudevsync load faulty --table "0 $SECTORS $*"
	dmsetup --noudevsync suspend --nolockfs faulty
	dmsetup --noudevsync resume faulty
}

copies() { # DISK MIB STATUS WHAT [CAUSE-AS-MOLT-SAYS-IT]
	debian_ask "dd if=/dev/urandom of=/dev/$1 bs=64k count=$(($2 * 16)) oflag=direct"
	expect "status of writing to $4" "$STATUS" -eq "$3"
	[ -z "${5-}" ] || expect "times that molt says '$5'" "$(grep -c "$5; the guest gets an error" "$LOG")" -ge 1
	debian_update
}

debian_program /usr/sbin/dmsetup
truncate -s $((SECTORS * 512)) /tmp/back.raw
losetup /dev/loop0 /tmp/back.raw
dmsetup --noudevsync create faulty --table "0 $SECTORS linear /dev/loop0 0"
mkdir /small
mount -t tmpfs -o size=4m small /small
truncate -s 16M /small/full.raw
debian_start --disk /dev/dm-0,direct --disk /small/full.raw

table delay /dev/loop0 0 200
debian_type "fio --name=slow --filename=/dev/vdb --rw=randwrite --bsrange=4k-64k --size=4M --direct=1 --ioengine=libaio --iodepth=8 --verify=crc32c --verify_state_save=0 --eta=never"
debian_updates 2
expect "status of fio on a slow disk" "$STATUS" -eq 0
table error
copies vdb 1 1 "a disk that fails" "I/O error"
table linear /dev/loop0 0
copies vdb 1 0 "the disk that has failed"
blockdev --setro /dev/dm-0
copies vdb 1 1 "a disk that has become read-only" "Operation not permitted"
blockdev --setrw /dev/dm-0
copies vdb 1 0 "the disk that was read-only"
copies vdc 16 1 "a disk whose host's file system is full" "No space left on device"
mount -o remount,size=32m /small
copies vdc 16 0 "the disk when there is room again"
debian_ask "sha256sum </dev/vdc"
vdc=${ANSWER%% *}
debian_stop
expect "what the guest has read, and the image" "$vdc" = "$(sha256sum </small/full.raw | cut -d ' ' -f 1)"
finish
