#!/bin/sh
# inner.sh: what `scripts/bench peers` runs in the bed's host (L1). POSIX sh (busybox).
#   inner.sh PART...     each part by itself, again when emulated SVM lost its guest
#   inner.sh --one PART  one part; what it saw goes to $DIR/results, a line each
# A part is boot, or WHO, WHO-huge or WHO-e1000e: who replaces itself (molt, exec, transfer: QEMU by cpr-exec or
# cpr-transfer) under a guest with an igb, the same with its memory in pages of 2 MiB (hugetlbfs), with an e1000e.
#   ROUNDS   how many updates in a part (of the e1000e: 2)
#   BOOTS    how many starts of each program
# shellcheck source=tests/nested/lib.sh
. /bed/lib.sh

ROUNDS=${ROUNDS:-8} BOOTS=${BOOTS:-5} WAIT=300 UP_WAIT=150 TRIES=3 HUGE_PAGES=136
QEMU=/usr/bin/qemu-system-x86_64
MOLT=/bed/molt
PEER=/bed/peer
WATCH='' OLD=''
MEM='' MEMFD='' # of huge pages, for molt and for QEMU

# The guest hardly writes to its console: each byte stops it for a moment.
APPEND="console=ttyS0 quiet panic=-1 molt.counter=1 molt.interval_ms=50 molt.sample_ms=100 molt.beat_ms=60000"

result() {
	echo "$*" >>"$DIR/results"
	say "$*"
}

# ---- the two programs ----

# QEMU's words, one a line; none has a space but the guest's command line.
qemu_words() { # GENERATION
	printf '%s\n' "$QEMU" -accel kvm -machine q35,memory-backend=ram,aux-ram-share=on -cpu host -smp 1 -m 256M \
		-object "memory-backend-memfd,id=ram,size=256M,share=on$MEMFD" \
		-nodefaults -no-user-config -display none -vga none -no-reboot \
		-chardev "file,id=console,path=$CONSOLE,append=on" -serial chardev:console \
		-qmp "unix:$RUN/qmp.$1,server=on,wait=off" \
		-kernel "$GUEST_KERNEL" -initrd "$GUEST_INITRD" -append "$APPEND" \
		-device "vfio-pci,host=$BDF,id=nic"
}

qemu_start() { # GENERATION [WORD]...
	qemu_words "$1" >"$DIR/words"
	shift
	[ $# -eq 0 ] || printf '%s\n' "$@" >>"$DIR/words"
	set --
	while read -r word; do
		set -- "$@" "$word"
	done <"$DIR/words"
	"$@" </dev/null >>"$LOG" 2>&1 &
	PID=$!
}

qmp() { # GENERATION COMMAND...
	generation=$1
	shift
	"$PEER" qmp "$RUN/qmp.$generation" "$@" 2>>"$LOG"
}

qmp_running() { # GENERATION
	"$PEER" qmp -u '"running": true' "$RUN/qmp.$1" '{"execute":"query-status"}' >/dev/null 2>>"$LOG"
}

start_molt() {
	# A process that is new at each start, as QEMU's is.
	"$MOLT" run -k "$GUEST_KERNEL" -i "$GUEST_INITRD" -m "256M$MEM" -c 1 -p "$APPEND" --vfio "$BDF" \
		--console "file:$CONSOLE" --report "$REPORT" --update-timeout 60000 --prepare-timeout 60000 </dev/null >>"$LOG" 2>&1 &
	PID=$!
}
start_exec() { qemu_start 0; }
start_transfer() { qemu_start 0; }

# One update each. MARK: when the command was given; 0 when the new program says that the guest runs.
update_molt() { # NUMBER
	# The shell's own looks would cost an emulated host more than the update does.
	MARK=$("$PEER" signal "$PID" "$REPORT" 2>>"$LOG") || return 1
	[ "$(json "$(tail -n 1 "$REPORT")" result)" = ok ]
}

update_exec() { # NUMBER
	state=$RUN/state
	words=$({ qemu_words "$1"; printf '%s\n' -incoming "file:$state"; } | sed 's/.*/"&"/' | tr '\n' ',')
	# The answer of the last one may be lost with the program that gave it.
	MARK=$(qmp $(($1 - 1)) '{"execute":"migrate-set-parameters","arguments":{"mode":"cpr-exec"}}' \
		"{\"execute\":\"migrate-set-parameters\",\"arguments\":{\"cpr-exec-command\":[${words%,}]}}" \
		"{\"execute\":\"migrate\",\"arguments\":{\"uri\":\"file:$state\"}}" | head -n 1)
	qmp_running "$1"
}

listening() { [ -S "$RUN/cpr.sock" ]; }
cpr_address() { # NAME
	echo "{\"transport\":\"socket\",\"type\":\"unix\",\"path\":\"$RUN/$1.sock\"}"
}

update_transfer() { # NUMBER
	OLD=$PID
	rm -f "$RUN/cpr.sock" "$RUN/main.sock"
	began=$(cut -d' ' -f1 /proc/uptime)
	qemu_start "$1" -incoming "unix:$RUN/main.sock" -incoming \
		"{\"channel-type\":\"cpr\",\"addr\":$(cpr_address cpr)}"
	wait_until "QEMU that listens" listening
	PREPARE=$(awk -v began="$began" '{ printf "%.0f", ($1 - began) * 1e6 }' /proc/uptime)
	sleep 0.3
	MARK=$(qmp $(($1 - 1)) '{"execute":"migrate-set-parameters","arguments":{"mode":"cpr-transfer"}}' \
		"{\"execute\":\"migrate\",\"arguments\":{\"channels\":[{\"channel-type\":\"main\",\"addr\":$(cpr_address main)},{\"channel-type\":\"cpr\",\"addr\":$(cpr_address cpr)}]}}" | head -n 1)
	qmp_running "$1" || return 1
	qmp $(($1 - 1)) '{"execute":"quit"}' >/dev/null || true
	wait "$OLD" || true
	OLD=
}

stop_molt() { kill -TERM "$PID"; }
stop_exec() { qmp "$ROUND" '{"execute":"system_powerdown"}' >/dev/null; }
stop_transfer() { stop_exec; }

# ---- what is seen ----

# The longest time in which the guest did not count, of those that began after MARK and until half a second after
# the program said that it runs; and that of the 1.5 s before MARK.
cycle_report() { # NUMBER
	result "CYCLE part=$PART n=$1 $(awk -v mark="$MARK" -v said="$SAID" -v prepare="$PREPARE" '
		$1 != "GAP" { next }
		{ split($2, f, "="); split($3, t, "="); split($4, o, "="); gap = t[2] - f[2]; middle = t[2] - gap / 2 }
		middle > mark && f[2] < said + 500000 && gap > pause { pause = gap; total = t[2] - mark; own = o[2] }
		middle <= mark && middle > mark - 1500000 && gap > quiet { quiet = gap }
		END { printf "pause_us=%.0f total_us=%.0f own_us=%.0f quiet_us=%.0f prepare_us=%.0f",
			pause, total, own, quiet, prepare }' "$DIR/gaps") fds=$(fds_held)"
}

# Of molt the worker's.
fds_held() {
	worker_find || WORKER=$PID
	process_fds
}

memory_report() { # WHEN
	result "MEMORY part=$PART when=$1 $("$PEER" memory "$PID")"
}

signs() { grep -c ALIVE "$DIR/gaps" || true; }
counting() {
	before=$(signs)
	sleep 1.5
	[ "$(signs)" -gt "$before" ]
}

# The guest is lost. That may be emulated SVM's doing, which its registers tell.
lost() { # WHY
	if artefact "$LOG"; then
		fail "guest lost: $*"
	fi
	said=$(grep -m 1 -iE 'run failed|internal error|brought back|peer:' "$LOG" | cut -c1-200)
	result "FATE part=$PART updates=$ROUND fate=died after=$*${said:+ ($said)}"
	exit 0
}

huge_pages() { # NUMBER
	echo "$1" >/proc/sys/vm/nr_hugepages
	[ "$(cat /proc/sys/vm/nr_hugepages)" -eq "$1" ] || fail "the emulated host has not $1 huge pages"
}

# A guest that never comes up, before any update, is emulation's doing under each of them: once in a hundred.
guest_up() {
	LATE=$(($(date +%s) + UP_WAIT))
	until guest_said READY 0; do
		alive || fail "$WHO ended before its guest was up"
		[ "$(date +%s)" -lt "$LATE" ] || {
			say "the guest is not up after $UP_WAIT s"
			exit 75
		}
		sleep 0.2
	done
}

part_update() {
	DIR=/out/$PART-$TRY RUN=/tmp/$PART-$TRY CONSOLE=$DIR/console.log REPORT=$DIR/report.json LOG=$DIR/log
	ROUND=0 PREPARE=0
	mkdir -p "$DIR" "$RUN"
	: >"$CONSOLE"
	WHO=${PART%%-*} BDF=${BDF_igb:?}
	case $PART in
	*-e1000e) BDF=${BDF_e1000e:?} ROUNDS=2 ;;
	*-huge)
		MEM=,hugetlb=2M MEMFD=,hugetlb=on,hugetlbsize=2M
		huge_pages $HUGE_PAGES
		;;
	esac
	"start_$WHO"
	guest_up
	"$PEER" watch "$PID" "$DIR/gaps" 2>>"$LOG" &
	WATCH=$!
	sleep 3
	kill -0 "$WATCH" || fail "the guest's counter is not found"
	memory_report start
	while [ "$ROUND" -lt "$ROUNDS" ]; do
		sleep 1.5
		ROUND=$((ROUND + 1))
		"update_$WHO" "$ROUND" || lost "the new program never said that the guest runs"
		SAID=$(awk '{ printf "%.0f", $1 * 1e6 }' /proc/uptime)
		# The pause is written down when it is over, which may be later than the program says.
		counting || counting || counting || lost "the guest never ran again"
		cycle_report "$ROUND"
		counting || counting || counting || lost "the guest stood still within seconds"
	done
	memory_report end
	kill "$WATCH"
	"stop_$WHO"
	part_account
}

# What the guest says of its whole life, and how it ends.
ended_or_late() { ended || [ "$(date +%s)" -ge "$LATE" ]; }
part_account() {
	LATE=$(($(date +%s) + WAIT))
	while ! ended_or_late; do
		sleep 0.2
	done
	end=$(guest_line END)
	[ -n "$end" ] || lost "the guest did not close its account"
	# A dead leader is seen before its threads have let go of the device.
	wait "$PID" || true
	PID=
	result "FATE part=$PART updates=$ROUND fate=ok sent=$(field "$end" sent) recv=$(field "$end" recv) lost=$(field "$end" lost) senderr=$(field "$end" senderr) back=$(field "$end" back)"
}

# ---- starts ----

part_boot() {
	DIR=/out/$PART-$TRY LOG=$DIR/log CONSOLE=/dev/null
	mkdir -p "$DIR"
	for n in $(seq "$BOOTS"); do
		# Up to a tiny guest's first byte it is the program's own time; Linux unpacks itself first.
		boots byte HELLO tsc_khz=1000000 /bed/hello
		boots linux "Linux version" "console=ttyS0 earlyprintk=ttyS0" "$GUEST_KERNEL" "$GUEST_INITRD"
	done
}

boots() { # WHAT TEXT COMMAND-LINE KERNEL [INITRD]
	what=$1 text=$2 line=$3 kernel=$4 initrd=${5:-}
	common="-accel kvm -cpu host -smp 1 -m 256M -object memory-backend-memfd,id=ram,size=256M,share=on -nodefaults -no-user-config -display none -vga none -no-reboot -serial stdio"
	# shellcheck disable=SC2086 # words
	boot q35 "$QEMU" -machine q35,memory-backend=ram $common -kernel "$kernel" ${initrd:+-initrd "$initrd"} -append "$line"
	# shellcheck disable=SC2086 # words
	boot microvm "$QEMU-microvm" -machine microvm,memory-backend=ram $common -kernel "$kernel" ${initrd:+-initrd "$initrd"} -append "$line"
	boot molt "$MOLT" run -k "$kernel" ${initrd:+-i "$initrd"} -m 256M -c 1 -p "$line"
}

boot() { # WHO COMMAND...
	who=$1
	shift
	seen=$("$PEER" first "$text" "$@" </dev/null 2>>"$LOG") || fail "$who did not start"
	result "BOOT who=$who what=$what n=$n $seen"
}

# ---- all of it ----

part_end() {
	# shellcheck disable=SC2086 # none, one or two
	kill $WATCH $OLD 2>/dev/null || true
	cleanup
	# The next part's guest gets the same device.
	wait 2>/dev/null || true
	[ -z "$MEM" ] || huge_pages 0
}

main() {
	if [ "$1" = --one ]; then
		PART=$2
		trap part_end EXIT
		case $PART in
		boot) part_boot ;;
		*) part_update ;;
		esac
		exit 0
	fi
	: >/out/results
	for part; do
		for TRY in $(seq "$TRIES"); do
			export TRY
			say "part $part, try $TRY"
			status=0
			sh "$0" --one "$part" || status=$?
			[ "$status" -ne 0 ] || break
			# A QEMU that ends before its guest is up comes up the next time.
			[ "$status" -ne 75 ] || echo "ARTEFACT part=$part" >>/out/results
		done
		[ "$status" -eq 0 ] || { say "part $part failed (status $status)"; exit 1; }
		cat "/out/$part-$TRY/results" >>/out/results
	done
}

main "$@"
