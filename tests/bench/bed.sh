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
	for _ in $(seq "${UPDATES:-5}"); do
		/bed/peer first HELLO /bed/molt run -k /bed/guests/hello -m 256M -c 1 -p tsc_khz=1000000 2>>/out/log |
			sed -n 's/^us=\([0-9]*\) .*/byte_us\t\t\1/p'
		/bed/peer first READY /bed/molt run -k "$GUEST_KERNEL" -i "$GUEST_INITRD" -m 256M -c 1 -p "console=ttyS0 quiet" 2>>/out/log |
			sed -n 's/^us=\([0-9]*\) .*/init_us\t\t\1/p'
	done >/out/samples
	;;
esac
