#!/bin/sh
# e1000e under pings every 20 ms through many updates: what molt and the host's kernel hold does not grow, nor the pause.
# A guest that emulated SVM loses is counted, and another one goes on: 200 updates are more than most of them live to see.
# bed: --device e1000e --bind
# bed-long: --timeout 3400 --env SOAK_UPDATES=200
# shellcheck source=tests/nested/lib.sh
. /bed/lib.sh

TOTAL=${SOAK_UPDATES:-10}
SAMPLES=/out/soak.samples ROOM_KIB=256 SLAB_ROOM_KIB=4096 PAUSE_FACTOR=3
LIVES=0 LOST=0

kib() { awk -v key="$1:" '$1 == key { print $2 }' "$2"; }

sample() {
	echo "life=$GUESTS pause_us=$(($(json "$RECORD" pause_ns) / 1000))" \
		"anon_kib=$(kib RssAnon "/proc/$WORKER/status") data_kib=$(kib VmData "/proc/$WORKER/status")" \
		"parent_kib=$(kib RssAnon "/proc/$PID/status")" \
		"rss_kib=$(kib VmRSS "/proc/$WORKER/status") fd_table=$(kib FDSize "/proc/$WORKER/status")" \
		"slab_kib=$(kib SUnreclaim /proc/meminfo) stacks_kib=$(kib KernelStack /proc/meminfo)" >>"$SAMPLES"
}

# One guest. update() itself compares descriptors, threads, children and locked memory with the start.
life() {
	trap cleanup EXIT
	guest_start
	lost0=$(pings_lost)
	while [ "$UPDATES" -lt "$TOTAL" ]; do
		update
		sample
	done
	expect "pings lost in this life" $(($(pings_lost) - lost0)) -eq 0
	kernel_said
	expect "complaints of the guest's kernel" "$(grep -ciE 'reset|link|timed out|error|watchdog: |hung|nobody cared|stall|bug|oops' "$DIR/kmsg.txt")" -eq 0
	guest_stop
	finish
}

values() { # NAME LIFE (none: all)
	awk -v name="$1=" -v life="$2" 'life == "" || $1 == "life=" life {
		for (i = 1; i <= NF; i++) if (index($i, name) == 1) print substr($i, length(name) + 1) }' "$SAMPLES"
}

# The quickest pauses are those that a busy machine slows least.
median() { sort -n | awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)] }'; }
least() { sort -n | head -n 1; }

# Medians of the first and of the last hundred samples, or thirds of fewer: $FIRST and $LAST.
ends() { # NAME LIFE
	n=$(((($(values "$1" "$2" | wc -l)) + 2) / 3))
	[ "$n" -le 100 ] || n=100
	FIRST=$(values "$1" "$2" | head -n "$n" | median) LAST=$(values "$1" "$2" | tail -n "$n" | median)
	QUICK_FIRST=$(values "$1" "$2" | head -n "$n" | least) QUICK_LAST=$(values "$1" "$2" | tail -n "$n" | least)
	LINE="$LINE $1=$FIRST,$LAST"
}

DEVICES=${BDF_e1000e:?} ARGS=molt.interval_ms=20
: >"$SAMPLES"
while [ "$UPDATES" -lt "$TOTAL" ]; do
	rc=0
	set +e
	(
		set -e
		life
	)
	rc=$?
	set -e
	UPDATES=$(cat /out/updates) LIVES=$((LIVES + 1)) GUESTS=$((GUESTS + 1))
	case $rc in
	0) ;;
	75) LOST=$((LOST + 1)) && echo "$LOST" >/out/artefacts ;;
	*) exit "$rc" ;;
	esac
	[ "$LOST" -le $((3 + TOTAL / 20)) ] || fail "emulated SVM lost $LOST guests in $UPDATES updates"
done

# A process's own figures from the life with most samples; the kernel's from all.
longest=$(values life '' | sort -n | uniq -c | sort -n | tail -n 1 | awk '{ print $2 }')
LINE="SOAK updates=$UPDATES lives=$LIVES lost=$LOST"
# Not judged: on a machine that is busy otherwise an emulated TSC and the emulated clock drift apart.
LINE="$LINE tsc_unstable=$(cat /out/guest*/kmsg.txt | grep -c 'Marking TSC unstable' || true)"
for name in anon_kib data_kib parent_kib; do
	ends "$name" "$longest"
	expect "$name does not grow" "$LAST" -le $((FIRST + ROOM_KIB))
done
ends fd_table "$longest"
expect "the descriptor table does not grow" "$LAST" -le "$FIRST"
ends rss_kib "$longest" # of guest memory, what was touched since the update: not judged
for name in slab_kib stacks_kib; do
	ends "$name" ''
	expect "$name does not grow" "$LAST" -le $((FIRST + SLAB_ROOM_KIB))
done
ends pause_us ''
expect "the quickest pauses (us) do not grow" "$QUICK_LAST" -le $((QUICK_FIRST * PAUSE_FACTOR))
say "$LINE"
finish
