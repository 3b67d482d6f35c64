#!/bin/sh
# New programs that fail after they took the device's memory over, under pings: the old program is brought
# back each time, the device and its DMA never stop, and a good update works afterwards.
# bed: --device e1000e --bind
# shellcheck source=tests/nested/lib.sh
. /bed/lib.sh

# Point and action (cpr/fault.h), and whether the process id stays.
ROWS="dma:segv=kept build:abort=kept dma:kill=changed build:exit=changed dma:stop=changed"

fault() { # POINT:ACTION kept|changed
	echo "$1" >/tmp/fault
	RECORDS=$(lines "$REPORT") old=$PID
	cp /bed/molt-faulty "$PROGRAM.new"
	mv "$PROGRAM.new" "$PROGRAM"
	UPDATES=$((UPDATES + 1))
	echo "$UPDATES" >/out/updates
	kill -USR1 "$PID"
	# The id may change, so that nobody's end means anything until there is a record.
	deadline=$(($(date +%s) + WAIT))
	until record_beyond "$RECORDS"; do
		[ "$(date +%s)" -lt "$deadline" ] || fail "$1: no record: the guest is lost"
		sleep 0.1
	done
	RECORD=$(tail -n 1 "$REPORT")
	PID=$(json "$RECORD" pid) START=$(process_start)
	say "$1: $(json "$RECORD" reason), $(json "$RECORD" pause_ns) ns"
	expect "$1: result" "$(json "$RECORD" result)" = brought-back
	if [ "$2" = kept ]; then
		expect "$1: process id" "$PID" -eq "$old"
	else
		expect "$1: process id" "$PID" -ne "$old"
	fi
	wait_until "end of the keeper" no_children
	beats_wait 2
	expect "$1: program" "$(version "/proc/$PID/exe")" = "$(version "/bed/molt-$SIDE")"
	expect "$1: VmLck" "$(process_locked)" -eq "$(locked_due)"
	expect "$1: descriptors" "$(process_fds)" -eq "$FDS"
}

DEVICES=${BDF_e1000e:?} ARGS=molt.interval_ms=20 TIMEOUT=4000
export MOLT_FAULT=@/tmp/fault
guest_start
lost0=$(pings_lost)
for row in $ROWS; do
	fault "${row%=*}" "${row#*=}"
	update
done
expect "pings lost over all of it" $(($(pings_lost) - lost0)) -eq 0
kernel_calm
guest_stop
finish
