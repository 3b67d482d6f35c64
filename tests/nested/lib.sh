# shellcheck shell=dash
# lib.sh - drives a Linux guest under molt in the bed's host (L1) and checks what it says. POSIX sh
# (busybox), sourced by cases/*.sh, whose first words are `. /bed/lib.sh`.
#
# A case fails with status 1. Status 75: emulated SVM lost the guest, by its registers (artefact).
set -eu

WAIT=${WAIT:-300}
UPDATES=0 GUESTS=0 FAILED=0 PID='' WORKER='' ECHOES=''
trap cleanup EXIT
trap 'exit 130' INT TERM HUP

# ---- outcome ----

# Each line with the emulated host's time.
say() {
	now
	echo "    [${NOW}s] $*"
}

# expect TEXT ARGUMENTS-OF-TEST...: notes a failure and goes on.
expect() {
	text=$1
	shift
	if [ "$@" ]; then
		say "ok: $text ($*)"
	else
		say "NOT OK: $text ($*)"
		FAILED=$((FAILED + 1))
	fi
}

# For what makes the rest pointless. Speaks where a command substitution does not catch it.
fail() {
	exec >&2
	say "FAILED: $*"
	tail -n 12 "$LOG" 2>/dev/null | cut -c1-600 | sed 's/^/      molt| /'
	tr -d '\r' <"$CONSOLE" 2>/dev/null | tail -n 8 | cut -c1-400 | sed 's/^/      guest| /'
	# Where its threads are, and whether the vCPUs' exits still count.
	for thread in /proc/"${WORKER:-0}"/task/*; do
		[ ! -r "$thread/comm" ] || say "thread $(cat "$thread/comm"): $(cat "$thread/wchan" 2>/dev/null) $(cut -d' ' -f3,14,15 "$thread/stat")"
	done
	for when in now later; do
		cat /sys/kernel/debug/kvm/"${WORKER:-0}"-*/vcpu*/exits 2>/dev/null | tr '\n' ' ' | sed "s/^/    exits $when: /"
		[ "$when" = later ] || sleep 2
	done
	if artefact "$LOG"; then
		say "ARTEFACT: KVM internal error 3 at L1's own address $rip: emulated SVM lost the guest"
		exit 75
	fi
	exit 1
}

# At the end of every case.
finish() {
	[ "$FAILED" -eq 0 ] || { say "$FAILED checks failed"; exit 1; }
	exit 0
}

cleanup() {
	[ -z "$PID" ] || kill -KILL "$PID" 2>/dev/null || true
	[ -z "$ECHOES" ] || kill "$ECHOES" 2>/dev/null || true
}

# Peers saw it too: about one nested update in a hundred ends with KVM internal error 3, and what
# then is in the guest's registers is the host's: an instruction of L1's kernel or its modules.
artefact() { # LOG-OF-MOLT
	# As molt says it, or QEMU, which dumps all registers.
	rip=$(sed -n -e 's/.*KVM internal error 3; rip \([0-9a-f]\{16\}\) .*/\1/p' \
		-e '/Suberror: 3/,/^RIP=/s/^RIP=\([0-9a-f]\{16\}\) .*/\1/p' "$1" 2>/dev/null | tail -n 1)
	[ -n "$rip" ] || return 1
	awk -v rip="$rip" '
		$3 == "_text" { text = $1 } $3 == "_etext" { etext = $1 }
		$2 ~ /^[tT]$/ && /\[kvm/ { if (!low || $1 < low) low = $1; if ($1 > high) high = $1 }
		END { exit !(rip "" >= text && rip "" <= etext || rip "" >= low && rip "" <= high) }' /proc/kallsyms
}

# ---- reading what guest and molt say ----
#
# What is asked again and again does without processes as far as it can: an emulated host takes ten milliseconds
# for each, which are the guest's as well.

now() { read -r NOW _ </proc/uptime && NOW=${NOW%.*}; }

field() { # LINE NAME
	for word in $1; do
		case $word in
		"$2="*) echo "${word#*=}" ;;
		esac
	done
}

json() { # LINE NAME: a number or a string (without escapes)
	echo "$1" | sed -n "s/.*\"$2\":\(\"\([^\"]*\)\"\|\([^,}]*\)\).*/\2\3/p"
}

lines() { if [ -f "$1" ]; then wc -l <"$1"; else echo 0; fi; }

# The guest's lines that begin with a word; one that is being written has no carriage return yet.
CR=$(printf '\r')
NL='
'
guest_lines() { sed -n "/^$1\( .*\)\{0,1\}$CR\$/s/$CR//p" "$CONSOLE"; }
guest_line() { guest_lines "$1" | tail -n 1; }
guest_count() { grep -c "^$1\( .*\)\{0,1\}$CR\$" "$CONSOLE" || true; }

# The last heartbeat, into $BEAT, and its number, into $BEAT_N. It is never far from the console's end, but where the
# guest's kernel has been asked for its words: then the one before stays.
beat_look() {
	tail=$(tail -c 1500 "$CONSOLE")
	tail=$NL${tail%"$CR"*}$CR
	case $tail in
	*"${NL}BEAT "*"$CR"*)
		tail=${tail##*"${NL}BEAT "}
		BEAT="BEAT ${tail%%"$CR"*}" BEAT_N=${tail#n=}
		BEAT_N=${BEAT_N%% *}
		;;
	esac
}
beat() { beat_look && echo "$BEAT"; }
beat_n() { beat_look && echo "$BEAT_N"; }

# Largest value of a field in the heartbeats after number FROM and up to TO.
beats_max() { # NAME FROM TO
	guest_lines BEAT | awk -v name="$1=" -v from="$2" -v to="$3" '
		substr($2, 3) + 0 > from && substr($2, 3) + 0 <= to {
			for (i = 2; i <= NF; i++)
				if (index($i, name) == 1 && substr($i, length(name) + 1) + 0 > max)
					max = substr($i, length(name) + 1) + 0
		}
		END { print max + 0 }'
}

# The time at which a process was created stays over exec; with the number it names one process.
process_start() {
	sed 's/.*) //' "/proc/$PID/stat" 2>/dev/null | awk '$1 != "Z" { print $20; n = 1 } END { if (!n) print "gone" }'
}

# A zombie has no program.
alive() { [ -e "/proc/$PID/exe" ]; }

wait_until() { # WHAT COMMAND...
	what=$1
	shift
	now
	deadline=$((NOW + WAIT))
	until "$@"; do
		alive || fail "molt ended while waiting for $what"
		now
		[ "$NOW" -lt "$deadline" ] || fail "no $what within $WAIT s"
		sleep 0.2
	done
}

guest_said() { [ "$(guest_count "$1")" -gt "$2" ]; }
beat_beyond() { beat_look && [ "$BEAT_N" -gt "$1" ]; }
# After a reboot they are counted from 1 again.
beat_below() { beat_look && [ "$BEAT_N" -lt "$1" ]; }
record_beyond() { [ "$(lines "$REPORT")" -gt "$1" ]; }
ended() { ! alive; }

# The time is counted from each heartbeat anew: on a busy machine they come slowly.
beats_wait() { # HOW-MANY
	beat_look
	beats_end=$((BEAT_N + $1))
	while [ "$BEAT_N" -lt "$beats_end" ]; do
		wait_until "heartbeat" beat_beyond "$BEAT_N"
	done
}

# Asks the guest over its console; prints the answer's last line.
ask() { # ORDER ANSWER
	before=$(guest_count "$2")
	echo "$1" >&3
	wait_until "answer to '$1'" guest_said "$2" "$before"
	guest_line "$2"
}

# ---- the guest's life ----

# The guest gets the devices $DEVICES, $MEM (MiB) and $CPUS; $ARGS are words for its init, $WRAP a
# command that runs molt. Options for molt may follow.
# TIMEOUT: ms from the state's hand-over to commit; the default is for real machines.
MEM=256 CPUS=1 DEVICES='' ARGS='' WRAP='' TIMEOUT=60000
guest_start() { # [OPTION]...
	set -- "console=ttyS0 quiet panic=-1 iomem=relaxed molt.beat_ms=500 $ARGS" "$@"
	guest_launch "$@"
	wait_until "guest's READY line" guest_said READY 0
	wait_until "first heartbeats" beat_beyond 1
	guest_remember
	say "guest $GUESTS is up on Linux $(uname -r): $(guest_line READY)"
}

guest_launch() { # KERNEL-COMMAND-LINE [OPTION]...
	cmdline=$1
	shift
	GUESTS=$((GUESTS + 1))
	DIR=/out/guest$GUESTS
	CONSOLE=$DIR/console.log REPORT=$DIR/report.json LOG=$DIR/molt.log PROGRAM=$DIR/bin/molt
	mkdir -p "$DIR/bin"
	cp /bed/molt-a "$PROGRAM"
	SIDE=a
	: >"$CONSOLE"
	BEAT='' BEAT_N=0
	mkfifo "/tmp/orders$GUESTS"
	exec 3<>"/tmp/orders$GUESTS"
	for bdf in $DEVICES; do
		set -- "$@" --vfio "$bdf"
	done
	$WRAP "$PROGRAM" run --kernel "$GUEST_KERNEL" --initrd "$GUEST_INITRD" --mem "${MEM}M" --cpus "$CPUS" --cmdline "$cmdline" \
		--report "$REPORT" --update-timeout "$TIMEOUT" --prepare-timeout 60000 --warm-budget 1000 "$@" <&3 >>"$CONSOLE" 2>"$LOG" 3>&- &
	PID=$!
}

# What must be the same after updates.
guest_remember() {
	START=$(process_start)
	worker_find || fail "no worker"
	ls -l "/proc/$WORKER/fd" >/out/fds-fresh
	TAKEN_FDS=''
	FDS=$(process_fds) THREADS=$(process_threads) PARENT_FDS=$(parent_fds)
	expect "VmLck is the guest's memory" "$(process_locked)" -eq "$(locked_due)"
}

count() { echo $#; }

# $PID is the parent, which the world knows; $WORKER, its only child at rest, has the guest.
children() {
	for list in "/proc/$PID"/task/*/children; do
		read -r found <"$list" || true
		echo "$found"
	done
}
worker_find() {
	WORKER=''
	for child in $(children); do
		[ "$(cat "/proc/$child/comm" 2>/dev/null)" != molt-worker ] || [ -z "$(ls "/proc/$child/fd" 2>/dev/null)" ] || WORKER=$child
	done
	[ -n "$WORKER" ]
}
only_worker() { worker_find && [ "$(children | wc -w)" -eq 1 ]; }
# Without the vCPU of the reader that warms: where the host has no idle time, warming may end before it needs one.
process_fds() {
	ls -l "/proc/$WORKER/fd" >/tmp/fds
	awk -v reader="kvm-vcpu:$CPUS\$" '/ -> / && $NF !~ reader { n++ } END { print n + 0 }' /tmp/fds
}
process_threads() { count "/proc/$WORKER/task"/*; }
parent_fds() { count "/proc/$PID/fd"/*; }
process_locked() { awk '$1 == "VmLck:" { print $2 }' "/proc/$WORKER/status"; }
# iommufd, which is used where there is one, counts pinned memory elsewhere; nothing is pinned for a mediated device alone.
locked_due() {
	case $DEVICES in
	'' | mdev:*) echo 0 ;;
	*iommu=type1*) echo $((MEM * 1024)) ;;
	*) if [ -e /dev/iommu ]; then echo 0; else echo $((MEM * 1024)); fi ;;
	esac
}
parent_is_new() { [ "/proc/$PID/exe" -ef "$PROGRAM" ]; }
parent_is_at_rest() { [ "$(parent_fds)" -eq "$PARENT_FDS" ]; }

# As an upgrade of its package does.
program_put() { # FILE
	cp "$1" "$PROGRAM.new"
	mv "$PROGRAM.new" "$PROGRAM"
}

# Puts the other version in place; its update counts.
other_version() {
	RECORDS=$(lines "$REPORT")
	if [ "$SIDE" = a ]; then SIDE=b; else SIDE=a; fi
	program_put "/bed/molt-$SIDE"
	UPDATES=$((UPDATES + 1))
	echo "$UPDATES" >/out/updates
}

# Puts the other version in place and asks for the update.
update_ask() {
	other_version
	kill -USR1 "$PID"
}

# Asks for an update that is to be refused: $RECORD.
update_refused() {
	update_ask
	wait_until "record of the update" record_beyond "$RECORDS"
	RECORD=$(tail -n 1 "$REPORT")
	say "$RECORD"
	expect "result" "$(json "$RECORD" result)" = refused
}

stopped_successor() {
	for child in $(children); do
		case $(cat "/proc/$child/comm" 2>/dev/null) in
		molt-succ*) [ "$(awk '$1 == "State:" { print $2 }' "/proc/$child/status")" != T ] || SUCCESSOR=$child ;;
		esac
	done
	[ -n "$SUCCESSOR" ]
}

# Asks for an update whose successor stops at a point of cpr/fault.h, until it is sent SIGCONT. molt's environment must
# have MOLT_FAULT=@/tmp/fault.
update_hold() { # POINT
	RECORDS=$(lines "$REPORT") SUCCESSOR=''
	echo "$1:stop" >/tmp/fault
	program_put /bed/molt-faulty
	UPDATES=$((UPDATES + 1))
	echo "$UPDATES" >/out/updates
	kill -USR1 "$PID"
	wait_until "the successor to stop" stopped_successor
}

# One whole update, and everything that must be as it was.
update() {
	update_ask
	update_check
}

update_check() {
	update_settled
	# The first heartbeat still has something of the time before the pause.
	beats_wait 1
	before=$BEAT
	beats_wait 1
	update_kept
	expect_growth "update $UPDATES" "$before"
}

# The update is made, and nobody is there but for who stays.
update_settled() {
	wait_until "record of update $UPDATES" record_beyond "$RECORDS"
	worker_find || fail "no worker"
	locked=$(process_locked)
	RECORD=$(tail -n 1 "$REPORT")
	[ "$(json "$RECORD" result)" = ok ] || fail "update $UPDATES: $RECORD"
	wait_until "end of the worker before" only_worker
	wait_until "parent to become the new program" parent_is_new
	wait_until "parent to be at rest" parent_is_at_rest
}

# Of the processes, a little later.
update_kept() {
	quiet_expect "pid of update $UPDATES" "$(process_start)" = "$START"
	quiet_expect "program of update $UPDATES" "/proc/$WORKER/exe" -ef "$PROGRAM"
	quiet_expect "version of update $UPDATES" "$(json "$RECORD" new_version)" = "$(version "/bed/molt-$SIDE")"
	quiet_expect "VmLck right after update $UPDATES" "$locked" -eq "$(locked_due)"
	# A worker that took over has one more, and always one: a standard output that is a file, which it inherits and
	# is handed over as the console's.
	if [ -z "$TAKEN_FDS" ]; then
		TAKEN_FDS=$(process_fds)
		ls -l "/proc/$WORKER/fd" >/out/fds-taken
		expect "descriptors after the first update" "$TAKEN_FDS" -le $((FDS + 1))
	fi
	quiet_expect "descriptors after update $UPDATES" "$(process_fds)" -eq "$TAKEN_FDS"
	quiet_expect "threads after update $UPDATES" "$(process_threads)" -eq "$THREADS"
}

# What counts up in a guest that is well. A case with other work says so.
GROWS="irqs recv"

# It does so within a second, or the reason is looked for, and within ten: slow machines stand still for some now and
# then, update or not. A lost interrupt is told by the slowest answer (pings_over_updates), or by the guest's kernel
# (kernel_calm); where neither is asked, as for pings in the case faults, only by the line that is printed here.
GROW_BEATS=20
expect_growth() { # OF-WHAT HEARTBEAT-BEFORE
	late=
	grow_from=$BEAT_N last=$((BEAT_N + GROW_BEATS))
	for name in $GROWS; do
		until [ "$(field "$BEAT" "$name")" -gt "$(field "$2" "$name")" ] || [ "$BEAT_N" -ge "$last" ]; do
			late=$name
			beats_wait 1
		done
		quiet_expect "$1: $name grows" "$(field "$BEAT" "$name")" -gt "$(field "$2" "$name")"
	done
	# Of one heartbeat to the next a slow disk or a slow machine may know nothing.
	[ $((BEAT_N - grow_from)) -lt 2 ] || say "$1: $late stood still for a second and more, until heartbeat $BEAT_N"
}

version() { "$1" --version | { read -r _ version _ && echo "$version"; }; }

quiet_expect() {
	text=$1
	shift
	[ "$@" ] || expect "$text" "$@"
}

updates() { # HOW-MANY
	for _ in $(seq "$1"); do
		update
	done
	say "ok: $1 updates, versions alternating: pid, VmLck $(process_locked) kB, $FDS descriptors, $THREADS threads as before, no children; pauses (ms):$(pauses "$1")"
}

pauses() { tail -n "$1" "$REPORT" | sed 's/.*"pause_ns":\([0-9]*\).*/\1/' | awk '{ printf " %.0f", $1 / 1e6 }'; }

# The guest resets, and is there again in the same processes (--on-reset reboot).
boot_again() {
	boots=$(guest_count READY)
	beats_wait 8
	old=$BEAT_N
	echo reboot >&3
	wait_until "boot after a reset" guest_said READY "$boots"
	wait_until "heartbeats after a reset" beat_below "$old"
	quiet_expect "worker after a reset" -d "/proc/$WORKER"
	quiet_expect "pid after a reset" "$(process_start)" = "$START"
	quiet_expect "VmLck after a reset" "$(process_locked)" -eq "$(locked_due)"
	quiet_expect "descriptors after a reset" "$(process_fds)" -le $((FDS + 2))
	quiet_expect "threads after a reset" "$(process_threads)" -eq "$THREADS"
	TAKEN_FDS=''
	beats_wait 1
	before=$BEAT
	beats_wait 1
	expect_growth "after a reset" "$before"
	say "ok: boot $((boots + 1)), $(process_fds) descriptors"
}

# Powers the guest off and closes its account: $END.
guest_stop() {
	guest_end
	END=$(guest_line END)
	[ -n "$END" ] || fail "the guest did not close its account (molt's status $status)"
	quiet_expect "boots" "$(guest_count READY)" -eq 1
	quiet_expect "FAIL lines of the guest" "$(guest_count FAIL)" -eq 0
	quiet_expect "heartbeats, none missing" "$(guest_count BEAT)" -eq "$(field "$END" beats)"
	quiet_expect "clocks that went back" "$(field "$END" back)" -eq 0
	for name in dup bad senderr; do
		quiet_expect "pings: $name" "$(field "$END" "$name")" -eq 0
	done
	say "guest $GUESTS: $END"
}

# By the power button.
guest_end() {
	kill -TERM "$PID"
	now
	deadline=$((NOW + WAIT))
	until ended; do
		now
		[ "$NOW" -lt "$deadline" ] || fail "the guest did not power off within $WAIT s"
		sleep 0.2
	done
	status=0
	wait "$PID" || status=$?
	PID=
	exec 3>&-
	quiet_expect "molt's exit status" "$status" -eq 0
	quiet_expect "system calls that the sandbox forbids" "$(grep -c sandbox: "$LOG")" -eq 0
}

# ---- a network interface on a tap of L1's ----

tap_start() { # COMMAND... that makes tap0
	"$@" >/dev/null || fail "no tap"
	ip addr add 10.0.2.2/24 dev tap0
	ip link set tap0 up
}

# Sends back what comes to L1's port 7000, until the case ends.
echo_start() {
	nc -ll -p 7000 -e cat >/dev/null 2>&1 &
	ECHOES=$!
}

# Who moves the frames of the guest's only interface: molt or vhost. Its control socket is /run/guest.sock.
served_by() { /bed/molt-a status /run/guest.sock --json | sed -n 's/.*"served_by":"\([a-z]*\)".*/\1/p'; }

# The guest's account of its TCP connection.
connection_kept() { # BYTES
	expect "bytes of the connection that were wrong" "$(field "$END" tcp_bad)" -eq 0
	expect "bytes that came back" "$(field "$END" tcp_recv)" -gt "$1"
}

# ---- devices that the guest is to eject (unbind=eject, --control $CONTROL) ----

# From here on the host waits for the device.
host_unbinds() { # BDF
	echo "$1" >/sys/bus/pci/drivers/vfio-pci/unbind &
	UNBIND=$!
}
is_ejected() { grep -q "$1 is ejected" "$LOG"; }
host_has() { # BDF HOW-MANY-IN-ALL
	wait "$UNBIND" || fail "the unbind of $1 failed"
	wait_until "word of the ejection of $1" is_ejected "$1"
	expect "the driver of $1" ! -e "/sys/bus/pci/devices/$1/driver"
	expect "devices that are ejected, in status" \
		"$(/bed/molt-a status "$CONTROL" --json | grep -o '"trouble":"is ejected' | wc -l)" -eq "$2"
	expect "the same in metrics" "$(/bed/molt-a metrics "$CONTROL" | sed -n 's/^molt_devices_ejected //p')" -eq "$2"
	worker_find || fail "no worker"
	TAKEN_FDS='' FDS=$(process_fds)
}

# ---- common measurements ----

# Pings of the guest's life so far that are lost: first, whatever is late comes or is given up.
none_overdue() { beat_look && [ "$(field "$BEAT" overdue)" -eq 0 ]; }
pings_lost() {
	beats_wait 3
	wait_until "decision on late pings" none_overdue
	field "$(beat)" lost
}

# A stretch without updates and one of the same length with them. A lost interrupt would show as an answer that waits
# for the driver's watchdog. So does a machine that stands still meanwhile: a slow answer counts if it comes three times.
pings_over_updates() { # HOW-MANY
	for _ in 1 2 3; do
		pings_compared "$1"
		expect "pings lost over $1 updates" $((lost1 - lost0)) -eq 0
		[ "$slowest" -ge "$slow" ] || break
		say "an answer took $slowest us; it may wait $slow"
	done
	expect "the slowest answer (us) waited for the pause and for nothing else" "$slowest" -lt "$slow"
}

pings_compared() { # HOW-MANY
	lost0=$(pings_lost)
	n0=$(beat_n)
	updates "$1"
	n1=$(beat_n)
	lost1=$(pings_lost)
	n2=$(beat_n)
	beats_wait $((n1 - n0))
	n3=$(beat_n)
	lost2=$(pings_lost)
	longest=$(pauses "$1" | tr ' ' '\n' | sort -n | tail -n 1)
	stretch "with $1 updates" "$n0" "$n1" $((lost1 - lost0))
	stretch "control, no update" "$n2" "$n3" $((lost2 - lost1))
	say "longest pause reported: $longest ms"
	slowest=$(beats_max rtt_us "$n0" "$n1")
	slow=$((longest * 1000 + $(beats_max rtt_us "$n2" "$n3") + 1500000))
}

stretch() { # TITLE FROM TO LOST
	say "$1: $(($3 - $2)) heartbeats, pings lost $4, largest clock gap $(beats_max gap_us "$2" "$3") us, slowest answer $(beats_max rtt_us "$2" "$3") us"
}

# Powers off a guest whose kernel had nothing to complain of, and which has lost no ping.
guest_stop_unharmed() {
	kernel_calm
	guest_stop
	expect "pings lost in the whole life" "$(field "$END" lost)" -eq 0
}

# Has a tool warm a VM of its own, and says what it said; it must have tried MODE.
warmed() { # MODE MIB PAGES
	LOG=/out/warm.log rc=0
	/bed/warm "$2" "$3" >"$LOG" || rc=$?
	while read -r line; do say "$3: $line"; done <"$LOG"
	expect "warm $2 $3" "$rc" -eq 0
	expect "mode $1" "$(grep -c "^WARM mode=$1 way=$1 " "$LOG")" -eq 1
}

# The kernel's own words since the guest was ready, into $DIR/kmsg.txt.
kernel_said() {
	ask kmsg KMSG_END >/dev/null
	guest_lines KMSG | sed 's/^KMSG //' >"$DIR/kmsg.txt"
	say "the guest's kernel said $(lines "$DIR/kmsg.txt") lines since it was ready"
	sed 's/^/      /' "$DIR/kmsg.txt"
}

# By more than 5 ms? The emulated host may be kept from its processor between two clocks that KVM reads for
# KVM_SET_CLOCK, or the guest between two that its watchdog compares; what guests on /dev/kvm see is held to microseconds.
clocks_skewed() {
	awk '{ for (i = 1; i < NF; i++) if ($i == "wd_nsec:") wd = $(i + 1); else if ($i == "cs_nsec:") cs = $(i + 1) }
		/as unstable because/ { told = 1 }
		told && /cs_nsec:/ { d = wd - cs; told = 0; if (d > 5000000 || d < -5000000) bad = 1 }
		END { exit !bad }' "$DIR/kmsg.txt"
}

# No word of a reset, a link that changed, a timeout, an error, an interrupt nobody wanted. That the
# clocks' watchdog was kept from its work by a pause is true, and all that it may say: its reading took too long, or
# came too late, and so it judged nothing.
kernel_calm() {
	kernel_said
	idle='detected capacity change|clocksource: .*(Long readout interval|read-back delay of [0-9]+ns)' # "hang"
	clocks_skewed || idle="$idle|[Mm]arking (TSC|clocksource) .*unstable"
	expect "complaints of the guest's kernel" "$(grep -vE "$idle" "$DIR/kmsg.txt" | grep -ciE \
		'reset|link|timeout|timed out|error|fail|watchdog|hang|hung|nobody cared|stuck|lockup|stall|bad|warn|bug|oops|unstable|abort|polled')" -eq 0
}
