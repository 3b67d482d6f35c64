#!/bin/sh
# A guest's Linux runs guests of its own with KVM (nested=on), over updates: what those count, in registers and in
# memory, is right at each step. One processor, then two with two such guests.
# bed: --guest-module kvm-amd --timeout 600
# shellcheck source=tests/nested/lib.sh
. /bed/lib.sh

inner_over_updates() { # PROCESSORS HOW-MANY
	CPUS=$1,nested=on ARGS="molt.mode=idle molt.sample_ms=20 molt.kvm=$1" GROWS=kvm_rounds
	guest_start --warm-budget 0
	updates "$2"
	kernel_calm
	guest_stop
	expect "rounds of the guests in the guest" "$(field "$END" kvm_rounds)" -gt "$2"
	expect "rounds with wrong sums" "$(field "$END" kvm_bad)" -eq 0
	expect "guests in the guest that ended" "$(field "$END" kvm_errs)" -eq 0
}

inner_over_updates 1 8
inner_over_updates 2 4
finish
