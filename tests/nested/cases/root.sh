#!/bin/sh
# A Debian with two processors, its root on a virtio disk and its network on a tap with two pairs of queues, whose frames L1's
# kernel moves (vhost-net), updated about every second while fio writes a second disk and verifies it, TCP streams run both ways (iperf3) and pings go. Nothing is lost, and after its power-off fio
# finds from outside what it has written.
# bed: --debian --module tun --module vhost_net --module ext4 --timeout 900
# bed-long: --timeout 1800 --env SIZE=512M --env TRAFFIC=400 --env LEAST=30
# shellcheck source=tests/nested/lib.sh
. /bed/lib.sh
# shellcheck source=tests/nested/debian.sh
. /bed/debian.sh
MEM=512 CPUS=2
SIZE=${SIZE:-48M} TRAFFIC=${TRAFFIC:-30} LEAST=${LEAST:-3}

# The same words lead fio to the same blocks again.
fio_words() { # FILE WORD...
	file=$1
	shift
	echo "fio --name=verify --filename=$file --rw=randwrite --bsrange=4k-64k --size=$SIZE --direct=1 --ioengine=libaio" \
		"--iodepth=32 --fdatasync=64 --verify=crc32c --verify_fatal=1 --verify_state_save=0 --eta=never $*"
}

tap_start /bed/tap-queues tap0
debian_program /usr/bin/iperf3
iperf3 --server >/out/iperf3-server.txt 2>&1 &
server=$!
truncate -s "$SIZE" /tmp/data.raw
debian_start --disk "/tmp/data.raw,serial=data" --net tap=tap0,vhost=on,queues=2 --rng \
	--control /run/guest.sock
expect "who serves the interface" "$(served_by)" = vhost
debian_ask "ls -d /sys/class/net/e*/queues/rx-* | wc -l"
expect "queues that the guest receives from" "$ANSWER" = 2

debian_ask "ping -i 0.2 -c $((TRAFFIC * 5)) 10.0.2.2 >ping 2>&1 & pings=\$!"
debian_ask "iperf3 -c 10.0.2.2 --bidir --bitrate 4M --time $TRAFFIC >streams 2>&1 & streams=\$!"
debian_type "$(fio_words /dev/vdb --verify_backlog=64)"
debian_updates "$LEAST"
expect "fio's status" "$STATUS" -eq 0
debian_type "wait \$pings; echo \$(tail -n 3 ping)"
debian_updates 0
say "ping: $ANSWER"
expect "pings lost" -z "${ANSWER##* 0% packet loss*}"
debian_ask "wait \$streams"
expect "iperf3's status" "$STATUS" -eq 0
debian_ask "echo \$(grep receiver streams)"
say "streams: $ANSWER"
expect "the same after the updates" "$(served_by)" = vhost
debian_ask "! dmesg -l emerg,alert,crit,err,warn | grep -E 'virtio|vd[ab]|en[ps]|ext4|EXT4|hung|stall|lockup|BUG|Oops'"
expect "complaints of the guest's kernel: none" "$STATUS" -eq 0
debian_stop
kill "$server"
status=0
# shellcheck disable=SC2046 # one word each
chroot /debian $(fio_words /tmp/data.raw --verify_only --direct=0) >"$DIR/fio-outside.txt" 2>&1 || status=$?
expect "fio's status, from outside" "$status" -eq 0
finish
