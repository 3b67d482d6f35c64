# shellcheck shell=dash
# faults.sh - the fault matrix where VFIO is. A case says with all_rows what goes wrong, with which guest, and with
# end_is_well what its last words must say. faults_run then puts each in place, asks for an update and looks at what has
# become of it. After each row the guest is well and nothing is left over; after every fifth it is updated. Sourced by
# cases/faults*.sh, after lib.sh.
# shellcheck disable=SC2317 # functions are called by words of the table
set -eu

# Name | what is put in place | how it must end | words of reason and remedy.
#   file KIND [ARG]  the new program is a copy of the good one that is spoiled, or something else
#   limit RESOURCE   of the parent, whose children have its limits, lowered before the update is asked for
#   fault WORDS      the new program is molt-faulty, which does that (cpr/fault.h)
#   FUNCTION WORDS   the new one is, and stops itself at `build`: FUNCTION then does what this script can
#                    do to the processes, and lets it go on
# refused: the guest runs on where it was; updated. The process id is the same in every row.
rows() { all_rows | grep -vE "${FAULTS_LEFT_OUT:-^$}"; }
export MOLT_FAULT=@/tmp/fault

# ---- what is put in place ----

put() { # FILE
	rm -rf "$PROGRAM"
	cp "$1" "$PROGRAM.new"
	mv "$PROGRAM.new" "$PROGRAM"
}

file() { # KIND [ARG...]
	put "/bed/molt-$SIDE"
	case $1 in
	absent) rm "$PROGRAM" ;;
	empty) : >"$PROGRAM" ;;
	directory) rm "$PROGRAM" && mkdir "$PROGRAM" ;;
	text) echo 'This is no program.' >"$PROGRAM" ;;
	script) printf '#!/bin/sh\nexit 0\n' >"$PROGRAM" ;;
	mode) chmod "$2" "$PROGRAM" ;;
	byte) printf '%b' "\\0$3" | dd of="$PROGRAM" bs=1 seek="$2" conv=notrunc 2>/dev/null ;;
	cut) dd if="/bed/molt-$SIDE" of="$PROGRAM" bs=8192 count=1 2>/dev/null ;;
	other) put "$2" ;;
	esac
	ask_now
}

fault() { # WORDS
	echo "$*" >/tmp/fault
	put /bed/molt-faulty
	ask_now
}

limit() { # RESOURCE
	put "/bed/molt-$SIDE"
	/bed/memlock set "$PID" 1048576 "$1"
	ask_now
	record_wait
	/bed/memlock set "$PID" "$(if [ "$1" = memlock ]; then echo "$LIMIT"; else echo max; fi)" "$1"
}

# From here on what has to be waited for in the update.
stopped_at_build() { # WORDS
	SUCCESSOR=
	fault build:stop "$@"
	wait_until "the successor to stop" stopped_successor
}

go_on() {
	stopped_at_build "$@"
	kill -CONT "$SUCCESSOR"
}

# Remembered: the second update is to a good program, and is done after the first.
ask_again() {
	stopped_at_build "$@"
	if [ "$SIDE" = a ]; then SIDE=b; else SIDE=a; fi
	put "/bed/molt-$SIDE"
	kill -USR1 "$PID"
	kill -CONT "$SUCCESSOR"
	record_wait
	RECORDS=$((RECORDS + 1))
}

# ---- what must be true afterwards ----

ask_now() {
	UPDATES=$((UPDATES + 1))
	echo "$UPDATES" >/out/updates
	kill -USR1 "$PID"
}

record_wait() {
	now
	deadline=$((NOW + WAIT))
	until record_beyond "$RECORDS"; do
		now
		[ "$NOW" -lt "$deadline" ] || fail "no record: the guest is lost"
		sleep 0.2
	done
}

# What iommufd has pinned is counted for the process that has the guest. Type1 counts none.
pinned_as_due() {
	[ ! -e /dev/iommu ] || [ "$(awk '$1 == "VmPin:" { print $2 }' "/proc/$WORKER/status")" -eq $((MEM * 1024)) ]
}
locked_as_due() { [ "$(process_locked)" -eq "$(locked_due)" ]; }
inode() { stat -L -c %i "$1"; }
messages() { tail -n "+$((LINES + 1))" "$LOG" | grep -c '^molt: warning: update refused, the guest runs on: .'; }

at_begin() { RECORDS=$(lines "$REPORT") LINES=$(lines "$LOG") EXE=$(inode "/proc/$WORKER/exe"); }

row() { # NAME WHAT OUTCOME WORDS
	at_begin
	$2
	record_wait
	record=$(tail -n 1 "$REPORT")
	result=$(json "$record" result)
	told="$(json "$record" reason) | $(json "$record" remedy)"
	pause=$(json "$record" pause_ns)
	say "$1: $3${pause:+, paused $((${pause:-0} / 1000000)) ms}: $told"
	wait_until "end of all workers but one" only_worker
	quiet_expect "$1: process id told" "$(json "$record" pid)" -eq "$PID"
	quiet_expect "$1: process id" "$(process_start)" = "$START"
	if [ "$3" = updated ]; then
		quiet_expect "$1: result" "$result" = ok
		wait_until "parent to become the new program" parent_is_new
		quiet_expect "$1: program" "$(inode "/proc/$WORKER/exe")" -eq "$(inode "$PROGRAM")"
		quiet_expect "$1: messages" "$(messages)" -eq 0
	else
		quiet_expect "$1: result" "$result" = refused
		quiet_expect "$1: program" "$(inode "/proc/$WORKER/exe")" -eq "$EXE"
		quiet_expect "$1: messages" "$(messages)" -eq 1
		quiet_expect "$1: says $4" -n "$(echo "$told" | grep "$4")"
	fi
	wait_until "parent to be at rest" parent_is_at_rest
	# The first heartbeat still has something of the time before the pause.
	beats_wait 1
	before=$BEAT
	beats_wait 2
	# Where a range's new address was refused it is tried again each second.
	wait_until "locked memory" locked_as_due
	wait_until "pinned memory" pinned_as_due
	quiet_expect "$1: descriptors" "$(process_fds)" -eq "${TAKEN_FDS:-$FDS}"
	quiet_expect "$1: threads" "$(process_threads)" -eq "$THREADS"
	expect_growth "$1" "$before"
	quiet_expect "$1: pings lost so far" "$(field "$BEAT" lost)" -eq "$lost0"
}

good_update() {
	rm -rf "$PROGRAM"
	: >/tmp/fault
	update
}

# One guest, which goes on with the row at which its predecessor was lost.
life() {
	trap cleanup EXIT
	guest_start --prepare-timeout 20000 ${CONTROL:+--control "$CONTROL"}
	lost0=$(pings_lost)
	while [ "$NEXT" -lt "$TOTAL" ]; do
		failed=$FAILED
		IFS='|' read -r name what outcome words <<ROW
$(rows | sed -n "$((NEXT % $(rows | wc -l) + 1))p")
ROW
		row "$name" "$what" "$outcome" "$words"
		if [ "$outcome" = updated ] || [ $((NEXT % 5)) -eq 4 ]; then
			good_update
		fi
		[ "$FAILED" -ne "$failed" ] || SURVIVED=$((SURVIVED + 1))
		NEXT=$((NEXT + 1))
		echo "$NEXT $SURVIVED" >/out/next
	done
	good_update
	the_end
}

# Another guest, for so many seconds, without any update.
control() { # SECONDS
	trap cleanup EXIT
	guest_start
	lost0=$(pings_lost)
	until=$(($(date +%s) + $1))
	while [ "$(date +%s)" -lt "$until" ]; do
		beats_wait 8
	done
	the_end
}

the_end() {
	expect "pings lost in this life" $(($(pings_lost) - lost0)) -eq 0
	kernel_calm
	guest_stop
	end_is_well
	finish
}

# In a shell of its own: 0, 75 for a guest that emulated SVM lost, or failed.
apart() {
	rc=0
	set +e
	(
		set -e
		"$@"
	)
	rc=$?
	set -e
	GUESTS=$((GUESTS + 1))
	case $rc in
	0) ;;
	75) LOST=$((LOST + 1)) && echo "$LOST" >/out/artefacts ;;
	*) FAILED=$((FAILED + 1)) ;;
	esac
}

# All rows, with as many guests as emulated SVM makes necessary.
faults_run() {
	TOTAL=$(($(rows | wc -l) * ${FAULTS_ROUNDS:-1})) LOST=0 MAX_LOST=3
	NEXT=0 SURVIVED=0 STATUS=75
	while [ "$STATUS" -eq 75 ] && [ "$LOST" -le "$MAX_LOST" ]; do
		apart life
		STATUS=$rc
		[ ! -f /out/next ] || read -r NEXT SURVIVED </out/next
		[ ! -f /out/updates ] || UPDATES=$(cat /out/updates)
	done
	say "emulated SVM lost $LOST guests in $UPDATES updates, $(cut -d. -f1 /proc/uptime) s"
	expect "rows seen" "$NEXT" -eq "$TOTAL"
	if [ -n "${FAULTS_CONTROL:-}" ]; then
		before=$LOST
		apart control "$FAULTS_CONTROL"
		say "control: emulated SVM lost $((LOST - before)) guests in $FAULTS_CONTROL s without updates"
	fi
	echo "FAULT rows=$TOTAL survived=$SURVIVED excepted=0"
	finish
}
