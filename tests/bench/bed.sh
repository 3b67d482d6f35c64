#!/bin/sh
# bed.sh: what `scripts/bench scale --bed` and `boot --bed` run in the bed's host (L1). POSIX sh (busybox).
#   bed.sh scale | boot    $UPDATES: how many of each; the samples go to /out/samples
set -eu

case $1 in
scale)
	# All devices that --bind bound.
	BENCH_VFIO=
	for device in /sys/bus/pci/drivers/vfio-pci/0000:*; do
		BENCH_VFIO="$BENCH_VFIO ${device##*/}"
	done
	export BENCH_VFIO TMPDIR=/tmp
	for bench in sizes devices; do
		/bed/guest-runner --molt /bed/molt --guests /bed/guests --slow 10 --bench "$bench" ${UPDATES:+--updates "$UPDATES"} >>/out/samples || {
			cat /out/samples
			exit 1
		}
	done
	;;
boot)
	first() { # MEASURE TEXT ARGUMENT...
		measure=$1 text=$2
		shift 2
		seen=$(/bed/peer first "$text" /bed/molt run -m 256M -c 1 "$@" </dev/null 2>>/out/log) || {
			tail -n 20 /out/log
			exit 1
		}
		echo "$seen" | sed -n "s/^us=\([0-9]*\) .*/$measure\t\t\1/p" >>/out/samples
	}
	for _ in $(seq "${UPDATES:-5}"); do
		first byte_us HELLO -k /bed/guests/hello -p tsc_khz=1000000
		first init_us READY -k "$GUEST_KERNEL" -i "$GUEST_INITRD" -p "console=ttyS0 quiet molt.mode=idle"
	done
	;;
esac
