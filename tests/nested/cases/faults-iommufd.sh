#!/bin/sh
# The fault matrix with iommufd: an e1000e under pings and a mediated device, the kernel's sample mtty, which sends back
# what it is sent. The host's kernel is our own, as Debian's have neither.
# bed: --kernel 7.3-own --device e1000e --bind --module mtty --timeout 600
# bed-short: --env FAULTS_LEFT_OUT=^(build|ready|load)
# bed-long: --timeout 3000 --env FAULTS_ROUNDS=3 --env FAULTS_CONTROL=480
# shellcheck disable=SC2317 # functions are called by words of the table, and by faults.sh
# shellcheck source=tests/nested/lib.sh
. /bed/lib.sh
# shellcheck source=tests/nested/faults.sh
. /bed/faults.sh

# group-N: when device N of two is made known to the new VM; process-N: the Nth time that the successor moves the
# accounting of locked memory to itself, which is after commit: the guest runs all the same, and it is tried again.
all_rows() {
	cat <<'ROWS'
limit of locked memory|limit memlock|refused|RLIMIT_MEMLOCK.*ulimit -l
limit of address space|limit as|refused|.
hello: crashes|fault hello:segv|refused|ended, or said what is no message
build: aborts|fault build:abort|refused|ended, or said what is no message
build: closes all|fault build:close|refused|.
device 1: refused|fault group-1:fail|refused|to KVM: I/O error
device 1: crashes|fault group-1:segv|refused|ended, or said what is no message
device 2: refused|fault group-2:fail|refused|to KVM: I/O error
device 2: killed|fault group-2:kill|refused|ended, or said what is no message
ready: crashes|fault ready:segv|refused|ended, or said what is no message
state: crashes|fault state:segv|refused|ended before it had taken over
state: hangs|fault state:hang|refused|in time
load: crashes|fault load:segv|refused|ended before it had taken over
load: stops|fault load:stop|refused|in time
load: killed|fault load:kill|refused|ended before it had taken over
accounting: refused once|fault process-1:fail|updated|
accounting: refused thrice|fault process-1:fail process-2:fail process-3:fail|updated|
stopped, goes on|go_on|updated|
asked twice|ask_again|updated|
ROWS
}

MDEV=83b8f4f2-509f-382f-3c1e-e6bfe0fa1001
echo $MDEV >/sys/class/mdev_bus/mtty/mdev_supported_types/mtty-2/create || fail "no mtty"

LIMIT=$(((2 * MEM + 64) * 1048576))
# The emulated host is slow: what hangs in the pause stands still for so long.
WRAP="/bed/memlock run $LIMIT" TIMEOUT=3000
DEVICES="${BDF_e1000e:?} mdev:$MDEV" GROWS="irqs recv tty_recv"
ARGS="nohz=off molt.beat_ms=250 molt.interval_ms=20 molt.tty=/dev/ttyS1"

end_is_well() {
	expect "bytes that were wrong or too many" "$(field "$END" tty_bad)" -eq 0
	expect "bytes that came back, to those sent" "$(field "$END" tty_recv)" -ge $(($(field "$END" tty_sent) - 8))
}

faults_run
