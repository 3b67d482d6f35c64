#!/bin/sh
# The fault matrix where VFIO is: a row per class of fault, under pings through an e1000e and with a transfer of an nvme
# disk always under way, memory in two DMA ranges. After each row the guest is well and nothing is left over; after every fifth it is updated.
# bed: --device e1000e --device nvme-slow --bind --guest-module nvme --mem 5G --timeout 600
# bed-short: --env FAULTS_LEFT_OUT=^(file|asked|limit|start|adopt)
# bed-long: --timeout 3000 --env FAULTS_ROUNDS=3 --env FAULTS_CONTROL=480
# shellcheck source=tests/nested/lib.sh
# shellcheck disable=SC2317 # functions are called by words of the table
. /bed/lib.sh

# Name | what is put in place | how it must end | words of reason and remedy.
#   file KIND [ARG]  the new program is a copy of the good one that is spoiled, or something else
#   limit RESOURCE   of the process, lowered before the update is asked for
#   fault WORDS      the new program is molt-faulty, which does that (cpr/fault.h)
#   old WORDS        the old one is; the new one is good
#   FUNCTION WORDS   the new one is, and stops itself at `build`: FUNCTION then does what this script can
#                    do to the processes, and lets it go on
# refused: nothing was replaced; kept, changed: brought back, with or without the process id; updated.
# dma-N: dead when DMA range N of two is remapped; group-N: when IOMMU group N of two is given to the new VM.
rows() { all_rows | grep -vE "${FAULTS_LEFT_OUT:-^$}"; }
all_rows() {
	cat <<'ROWS'
file absent|file absent|refused|No such file.*path
file empty|file empty|refused|empty
file a directory|file directory|refused|a directory
file text|file text|refused|not an ELF program
file a script|file script|refused|not an ELF program
file not executable|file mode 644|refused|not executable.*chmod
file writable by group|file mode 775|refused|writable by its group.*chmod go-w
file 32-bit|file byte 4 001|refused|another architecture
file aarch64|file byte 18 267|refused|another architecture
file cut off|file cut|refused|.
file another program|file other /bed/memlock|refused|without an answer.*no molt
asked: crashes|fault preflight:crash|refused|ended by signal 11 in the preflight
asked: exits|fault preflight:exit|refused|(status 0) without an answer
asked: hangs|fault preflight:hang|refused|in time
asked: garbage|fault preflight:garbage|refused|what is no answer
asked: forks|fault preflight:fork|refused|without an answer
asked: closes all|fault preflight:close|refused|ended (status 1)
asked: breaks out|fault preflight:roam|refused|ended (status 8)
limit of locked memory|limit memlock|refused|RLIMIT_MEMLOCK.*ulimit -l
limit of address space|limit as|refused|RLIMIT_AS.*prlimit
old: DMA addresses|old forget-1:fail|refused|invalidating DMA addresses
old: exec|exec_denied|refused|exec of .*Permission denied
crashes at once|fault entry:segv|changed|ended before
hangs at once|fault entry:hang|changed|ended before
start: crashes|fault start:segv|kept|signal 11
start: hangs|fault start:hang|kept|in time
start: exits|fault start:exit|changed|ended before
start: closes all|fault start:close|changed|ended before
adopt: bus error|fault adopt:bus|kept|signal 7
adopt: hangs|fault adopt:hang|kept|in time
adopt: killed|fault adopt:kill|changed|ended before
build: aborts|fault build:abort|kept|signal 6
build: hangs|fault build:hang|kept|in time
build: closes all|fault build:close|changed|Bad file descriptor
range 1: refused|fault dma-1:fail|kept|guest memory 0x0+0xc0000000: I/O error
range 1: crashes|fault dma-1:segv|kept|signal 11
range 1: killed|fault dma-1:kill|changed|ended before
range 2: refused|fault dma-2:fail|kept|guest memory 0x100000000+0x4000000: I/O error
range 2: crashes|fault dma-2:segv|kept|signal 11
range 2: killed|fault dma-2:kill|changed|ended before
device 1: crashes|fault group-1:segv|kept|signal 11
device 1: killed|fault group-1:kill|changed|ended before
device 2: refused|fault group-2:fail|kept|IOMMU group .* to KVM: I/O error
device 2: killed|fault group-2:kill|changed|ended before
all: crashes|fault dma:segv|kept|signal 11
all: hangs|fault dma:hang|kept|in time
all: exits|fault dma:exit|changed|ended before
all: stops|fault dma:stop|changed|in time
stopped, goes on|go_on|updated|
keeper killed|keeper_kill|updated|
keeper killed, crashes|keeper_kill dma:segv|kept|signal 11
keeper stopped|keeper_stop|updated|
asked twice|ask_again|updated|
ROWS
}

MEM=3136 # the 64 MiB above 4 GiB are the second range
LIMIT=$(((MEM + 64) * 1048576))
WRAP="/bed/memlock run $LIMIT" TIMEOUT=3000
DEVICES="${BDF_e1000e:?} ${BDF_nvme_slow:?}" GROWS="irqs recv disk_writes disk_irqs"
# nohz=off: tests/nested/cases/two-devices.sh
ARGS="nohz=off molt.beat_ms=250 molt.interval_ms=20 molt.disk=/dev/nvme0n1"
TOTAL=$(($(rows | wc -l) * ${FAULTS_ROUNDS:-1})) LOST=0 MAX_LOST=3
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

old() { # WORDS
	: >/tmp/fault
	put /bed/molt-faulty
	SIDE=faulty
	ask_now
	update_check
	at_begin
	echo "$*" >/tmp/fault
	put /bed/molt-b
	ask_now
}

# From here on what has to be waited for in the update.
process_named() { cat /proc/[0-9]*/comm 2>/dev/null | grep -qx "$1"; }
state_is() { [ "$(awk '$1 == "State:" { print $2 }' "/proc/$PID/status")" = "$1" ]; }
child() { cat "/proc/$PID"/task/*/children | tr -d ' '; }

# What was checked is executed, but whether it may be is the kernel's to say.
exec_denied() {
	fault preflight:slow
	wait_until "the new program to be asked" process_named molt-preflight
	chmod a-x "$PROGRAM"
}

stopped_at_build() { # WORDS
	fault build:stop "$@"
	wait_until "the new program to stop" state_is T
}

go_on() {
	stopped_at_build "$@"
	kill -CONT "$PID"
}

keeper_kill() {
	stopped_at_build "$@"
	kill -KILL "$(child)"
	kill -CONT "$PID"
}

keeper_stop() {
	stopped_at_build "$@"
	keeper=$(child)
	kill -STOP "$keeper"
	kill -CONT "$PID"
	record_wait
	kill -CONT "$keeper"
}

# Remembered: the second update is to a good program, and is done after the first.
ask_again() {
	stopped_at_build "$@"
	if [ "$SIDE" = a ]; then SIDE=b; else SIDE=a; fi
	put "/bed/molt-$SIDE"
	kill -USR1 "$PID"
	kill -CONT "$PID"
	record_wait
	RECORDS=$((RECORDS + 1))
}

# ---- what must be true afterwards ----

ask_now() {
	UPDATES=$((UPDATES + 1))
	echo "$UPDATES" >/out/updates
	kill -USR1 "$PID"
}

# The process may be another one afterwards: that it has gone means nothing before there is a record.
record_wait() {
	now
	deadline=$((NOW + WAIT))
	until record_beyond "$RECORDS"; do
		now
		[ "$NOW" -lt "$deadline" ] || fail "no record: the guest is lost"
		sleep 0.2
	done
}

inode() { stat -L -c %i "$1"; }
# shellcheck disable=SC2010 # one process, not one for each link
molts() { ls -l /proc/[0-9]*/exe 2>/dev/null | grep -c " $PROGRAM\( (deleted)\)\{0,1\}$"; }
alone() { no_children && [ "$(molts)" -eq 1 ]; }
messages() { tail -n "+$((LINES + 1))" "$LOG" | grep -c '^molt: update \(refused, the guest runs on: .\|failed, the guest runs on in the old .*: .\)'; }

at_begin() { RECORDS=$(lines "$REPORT") LINES=$(lines "$LOG") OLD=$PID EXE=$(inode "/proc/$PID/exe"); }

row() { # NAME WHAT OUTCOME WORDS
	at_begin
	$2
	record_wait
	record=$(tail -n 1 "$REPORT")
	PID=$(json "$record" pid) START=$(process_start) result=$(json "$record" result)
	told="$(json "$record" reason) | $(json "$record" remedy)"
	pause=$(json "$record" pause_ns)
	say "$1: $3${pause:+, paused $((${pause:-0} / 1000000)) ms}: $told"
	case $3 in
	refused) quiet_expect "$1: result" "$result" = refused ;;
	updated) quiet_expect "$1: result" "$result" = ok ;;
	*) quiet_expect "$1: result" "$result" = brought-back ;;
	esac
	if [ "$3" = updated ]; then
		quiet_expect "$1: program" "$(inode "/proc/$PID/exe")" -eq "$(inode "$PROGRAM")"
		quiet_expect "$1: messages" "$(messages)" -eq 0
	else
		quiet_expect "$1: program" "$(inode "/proc/$PID/exe")" -eq "$EXE"
		quiet_expect "$1: messages" "$(messages)" -eq 1
		quiet_expect "$1: says $4" -n "$(echo "$told" | grep "$4")"
	fi
	if [ "$3" = changed ]; then
		quiet_expect "$1: process id" "$PID" -ne "$OLD"
	else
		quiet_expect "$1: process id" "$PID" -eq "$OLD"
	fi
	wait_until "end of all processes but one" alone
	# The first heartbeat still has something of the time before the pause.
	beats_wait 1
	before=$BEAT
	beats_wait 2
	quiet_expect "$1: VmLck" "$(process_locked)" -eq "$(locked_due)"
	quiet_expect "$1: descriptors" "$(process_fds)" -eq "$FDS"
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
	guest_start --preflight-timeout 5000
	lost0=$(pings_lost)
	while [ "$NEXT" -lt "$TOTAL" ]; do
		failed=$FAILED
		IFS='|' read -r name what outcome words <<ROW
$(rows | sed -n "$((NEXT % $(rows | wc -l) + 1))p")
ROW
		row "$name" "$what" "$outcome" "$words"
		# After an update to molt-faulty too: it is no old program to go back to.
		if [ "$outcome" = updated ] || [ "$SIDE" = faulty ] || [ $((NEXT % 5)) -eq 4 ]; then
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
	expect "blocks with wrong content" "$(field "$END" disk_bad)" -eq 0
	expect "transfers that failed" "$(field "$END" disk_errs)" -eq 0
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

echo always >/sys/kernel/mm/transparent_hugepage/shmem_enabled
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
