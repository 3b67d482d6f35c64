#!/bin/sh
# Updates that cannot be done are refused before the pause, with the reason; the guest notices nothing.
# bed: --device e1000e --bind
# shellcheck source=tests/nested/lib.sh
. /bed/lib.sh

LIMIT=$((300 * 1048576))
DEVICES=${BDF_e1000e:?} ARGS=molt.interval_ms=20 WRAP="/bed/memlock run $LIMIT"

refused() { # WHAT WORD-OF-THE-REASON WORD-OF-THE-REMEDY
	records=$(lines "$REPORT")
	kill -USR1 "$PID"
	wait_until "record of the refusal" record_beyond "$records"
	record=$(tail -n 1 "$REPORT")
	say "$1: $(json "$record" reason) | remedy: $(json "$record" remedy)"
	expect "$1: result" "$(json "$record" result)" = refused
	expect "$1: reason names $2" -n "$(json "$record" reason | grep "$2")"
	expect "$1: remedy names $3" -n "$(json "$record" remedy | grep "$3")"
	expect "$1: program" "$(version "/proc/$PID/exe")" = "$(version "/bed/molt-$SIDE")"
	expect "$1: VmLck" "$(process_locked)" -eq "$(locked_due)"
	expect "$1: descriptors" "$(process_fds)" -eq "$FDS"
	expect "$1: threads" "$(process_threads)" -eq "$THREADS"
	expect "$1: children" "$(process_children)" -eq 0
	before=$(beat)
	beats_wait 2
	expect "$1: pings answered since" "$(field "$(beat)" recv)" -gt "$(field "$before" recv)"
}

guest_start
lost0=$(pings_lost)
mv "$PROGRAM" "$PROGRAM.away"
refused "missing program" "$PROGRAM" "path"
cp "$PROGRAM.away" "$PROGRAM"
chmod a-x "$PROGRAM"
refused "program not executable" "not executable" "chmod"
chmod 775 "$PROGRAM"
refused "program writable by its group" "writable by its group" "chmod go-w"
rm "$PROGRAM"
cp /bed/memlock "$PROGRAM"
refused "another program" "without an answer" "no molt"
mv "$PROGRAM.away" "$PROGRAM"
/bed/memlock set "$PID" 1048576
refused "locked memory" RLIMIT_MEMLOCK "ulimit -l"
/bed/memlock set "$PID" "$LIMIT"
expect "pings lost over the refusals" $(($(pings_lost) - lost0)) -eq 0
# And then it can be done.
updates 2
kernel_calm
guest_stop
expect "pings lost in the whole life" "$(field "$END" lost)" -eq 0
finish
