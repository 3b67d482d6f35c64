#!/bin/sh
# A guest's Linux runs guests of its own with KVM (nested=on), over updates: what those count, in registers and in
# memory, is right at each step. One processor, and two with two such guests, at any moment; then two with one such guest,
# which three updates find inside.
# bed: --guest-module kvm-amd --timeout 600
# shellcheck disable=SC2317 # functions are called by words, and by wait_until
# shellcheck source=tests/nested/lib.sh
. /bed/lib.sh

GROWS=kvm_rounds
export MOLT_FAULT=@/tmp/fault
: >/tmp/fault
mount -t debugfs none /sys/kernel/debug

# Is vCPU 1 in the guest that the guest runs? Asks without a process, which would take the processor from it.
inside() {
	for mode in /sys/kernel/debug/kvm/"$WORKER"-*/vcpu1/guest_mode; do
		read -r mode <"$mode"
	done
	[ "$mode" -eq 1 ]
}
# The successor is ready, and is let go on when the vCPU is inside. When it has the state, that says where it was found:
# on a busy host an interrupt may have taken it out.
updates_inside() { # HOW-MANY
	found=0 made=0
	until [ "$found" -eq "$1" ] || [ "$made" -eq 15 ]; do
		update_hold "ready:stop state"
		wait_until "the vCPU in the inner guest" inside
		kill -CONT "$SUCCESSOR"
		SUCCESSOR=''
		wait_until "the pause" stopped_successor
		! inside || found=$((found + 1))
		kill -CONT "$SUCCESSOR"
		SIDE=faulty made=$((made + 1))
		update_check
	done
	expect "updates that found the vCPU in the inner guest, of $made" "$found" -eq "$1"
}

inner_over_updates() { # PROCESSORS INNER-GUESTS WORDS UPDATES HOW-MANY
	CPUS=$1,nested=on ARGS="molt.mode=idle molt.sample_ms=20 molt.kvm=$2 $3"
	guest_start --warm-budget 0
	"$4" "$5"
	kernel_calm
	guest_stop
	expect "rounds of the guests in the guest" "$(field "$END" kvm_rounds)" -gt "$5"
	expect "rounds with wrong sums" "$(field "$END" kvm_bad)" -eq 0
	expect "guests in the guest that ended" "$(field "$END" kvm_errs)" -eq 0
}

inner_over_updates 1 1 '' updates 4
inner_over_updates 2 2 '' updates 2
# A tick that is due when the vCPU is to pause would take it out of the inner guest: its processor has none while it runs.
inner_over_updates 2 1 'nohz_full=1 isolcpus=nohz,domain,1' updates_inside 3
finish
