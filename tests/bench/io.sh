#!/bin/sh
# io.sh: what `scripts/bench io --bed` runs in the bed's host (L1). POSIX sh (busybox). The same Linux guest is up under
# each program, all at once; each measurement is made in one guest after the other while the others rest, $ROUNDS times
# over. The samples go to /out/samples: series, program, value.
# shellcheck source=tests/nested/lib.sh
. /bed/lib.sh

ROUNDS=${ROUNDS:-5} WAIT=300 MS=1000 PORT=7000
MOLT=/bed/molt QEMU=/usr/bin/qemu-system-x86_64 PEER=/bed/peer
PROGRAMS="molt molt-uring qemu-uring qemu-threads"
PIDS='' SERVER='' LOG=/dev/null CONSOLE=/dev/null

end_all() {
	# shellcheck disable=SC2086 # several
	kill -KILL $PIDS $SERVER 2>/dev/null || true
}
trap end_all EXIT

# ---- what each gets: a block device in memory, a tap ----

disk_make() { # NUMBER
	at=/sys/kernel/config/nullb/bench$1
	mkdir "$at"
	echo 256 >"$at/size"
	echo 4096 >"$at/blocksize"
	echo 1 >"$at/memory_backed"
	echo 1 >"$at/power"
	DISK=/dev/bench$1
	[ -b "$DISK" ] || fail "no $DISK"
}

tap_make() { # NUMBER
	TAP=tap$1 NET=10.0.$((10 + $1))
	tunctl -t "$TAP" >/dev/null || fail "no tap"
	ip addr add "$NET.2/24" dev "$TAP"
	ip link set "$TAP" up
}

# ---- the programs ----

start_molt() { # MORE-OF-THE-DISK
	"$MOLT" run -k "$GUEST_KERNEL" -i "$GUEST_INITRD" -m 256M -c 1 -p "$LINE" \
		--disk "$DISK,direct$1" --net "tap=$TAP" <&3 >>"$CONSOLE" 2>"$LOG" 3>&- &
}

# As fast as QEMU is known to be: the disk on a thread of its own.
start_qemu() { # HOW-THE-DISK-IS-READ VHOST
	"$QEMU" -accel kvm -machine microvm,pcie=on,memory-backend=ram -cpu host -smp 1 -m 256M \
		-object memory-backend-memfd,id=ram,size=256M,share=on -object iothread,id=io \
		-nodefaults -no-user-config -display none -vga none -no-reboot \
		-chardev stdio,id=console,signal=off -serial chardev:console \
		-kernel "$GUEST_KERNEL" -initrd /tmp/initrd -append "$LINE" \
		-drive "file=$DISK,if=none,id=disk,format=raw,cache=none,aio=$1" \
		-device virtio-blk-pci,drive=disk,iothread=io,romfile= \
		-netdev "tap,id=net,ifname=$TAP,script=no,downscript=no,vhost=$2" \
		-device virtio-net-pci,netdev=net,romfile= <&3 >>"$CONSOLE" 2>"$LOG" 3>&- &
}

start() { # NUMBER
	disk_make "$1"
	tap_make "$1"
	LINE="console=ttyS0 quiet panic=-1 molt.pings=0 molt.beat_ms=60000 molt.sample_ms=1000"
	LINE="$LINE molt.ip=$NET.15 molt.peer=$NET.2"
	mkdir "/out/$WHO"
	mkfifo "/tmp/orders-$WHO"
	guest_choose
	: >"$CONSOLE"
	case $WHO in
	molt) start_molt "" ;;
	molt-uring) start_molt ,aio=io_uring ;;
	qemu-uring) start_qemu io_uring on ;;
	qemu-threads) start_qemu threads off ;;
	esac
	PID=$! PIDS="$PIDS $!"
	echo "$PID $NET.2" >"/tmp/guest-$WHO"
	wait_until "guest's READY line" guest_said READY 0
}

# From here on the functions of lib.sh are about the guest of $WHO.
guest_choose() {
	CONSOLE=/out/$WHO/console.log LOG=/out/$WHO/log
	exec 3<>"/tmp/orders-$WHO"
	[ ! -f "/tmp/guest-$WHO" ] || read -r PID HOST <"/tmp/guest-$WHO"
}

# ---- measurements ----

# What is done in a second, by the guest's own clock. Looking at the console meanwhile would take its processor.
measure() { # SERIES FACTOR ORDER...
	series=$1 factor=$2
	shift 2
	before=$(guest_count LOAD)
	echo "$*" >&3
	sleep $((MS / 1000))
	wait_until "answer to '$*'" guest_said LOAD "$before"
	line=$(guest_line LOAD)
	[ "$(guest_count FAIL)" -eq 0 ] || fail "$WHO: $(guest_line FAIL)"
	printf '%s\t%s\t%s\n' "$series" "$WHO" "$(awk -v count="$(field "$line" "done")" -v us="$(field "$line" us)" -v factor="$factor" \
		'BEGIN { printf "%.0f", count * factor / us * 1e6 }')" >>/out/samples
}

disk() { # SERIES FACTOR read|write sequential|random BLOCK DEPTH
	series=$1 factor=$2
	shift 2
	measure "$series" "$factor" load_disk /dev/vda "$@" "$MS"
}

stream() { # SERIES send|receive|turns
	measure "$1" 1 load_stream "$HOST" "$PORT" "$2" "$MS"
}

in_turns() { # FUNCTION ARGUMENT...
	for WHO in $PROGRAMS; do
		# Its interface is as molt's.
		[ "$1 $WHO" != "stream molt-uring" ] || continue
		guest_choose
		"$@"
	done
}

round() {
	in_turns disk read_1_per_s 1 read random 4096 1
	in_turns disk write_1_per_s 1 write random 4096 1
	in_turns disk read_32_per_s 1 read random 4096 32
	in_turns disk write_32_per_s 1 write random 4096 32
	in_turns disk read_bytes_per_s 1048576 read sequential 1048576 4
	in_turns disk write_bytes_per_s 1048576 write sequential 1048576 4
	in_turns stream send_bytes_per_s send
	in_turns stream receive_bytes_per_s receive
	in_turns stream turns_per_s turns
}

: >/out/samples
# QEMU puts an initrd that is no whole number of pages over the ACPI tables that microvm's firmware has at the end of memory.
dd if="$GUEST_INITRD" of=/tmp/initrd bs=4096 conv=sync 2>/dev/null
mount -t configfs none /sys/kernel/config
"$PEER" stream "$PORT" &
SERVER=$!
number=0
for WHO in $PROGRAMS; do
	number=$((number + 1))
	start "$number"
	say "$WHO: its guest is up"
done
for n in $(seq "$ROUNDS"); do
	round
	say "round $n of $ROUNDS"
done
