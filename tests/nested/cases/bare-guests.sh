#!/bin/sh
# The bare-metal guests of tests/guest on kvm_amd, a real KVM: where a software KVM differs, this verdict counts.
# bed: --kernel 6.1 --timeout 850 --mem 4G --append numa=fake=2 --append hugepagesz=1G --append hugepages=1
# shellcheck source=tests/nested/lib.sh
. /bed/lib.sh

LOG=/out/runner.log ALL=/out/all.log lost=0
export TMPDIR=/tmp MOLT_FAULTY=/bed/molt-faulty

run_one() { # NAME
	rc=0
	/bed/guest-runner --molt /bed/molt-a --molt-b /bed/molt-b --guests /bed/guests --slow 10 --updates 3 "$1" \
		>"$LOG" 2>&1 || rc=$?
	cat "$LOG" >>"$ALL"
	done=$(sed -n 's/^ok .* updates=\([0-9]*\) .*/\1/p; s/^not ok .* after \([0-9]*\) updates.*/\1/p' "$LOG")
	UPDATES=$((UPDATES + ${done:-0}))
	echo "$UPDATES" >/out/updates
}

# Not again: what is about molt as a process, and the same whatever KVM there is. Nor, on the bed's one
# processor, what is for many: of a busy guest of eight vCPUs the successor gets a ninth.
PROCESS='calls.*|gap-4|cpus-.*|stress-8|topology-8|soak|control.*|inject.*|fault.*|skew|parent|take.*|container|states|user|secrets'
PROCESS=$PROCESS'|sandbox.*|metrics|pause-.*|disk-(stuck|hold|errors)|net-(hold|event)|log|console|config|terminal|mem-node'
echo 64 >/proc/sys/vm/nr_hugepages # of 2 MiB; that of 1 GiB is there from the boot on
for name in $(/bed/guest-runner --list | grep -vxE "$PROCESS"); do
	run_one "$name"
	for _ in 1 2; do
		if [ "$rc" -ne 1 ] || ! artefact "$LOG"; then
			break
		fi
		say "ARTEFACT: guest/$name: KVM internal error 3 at L1's own address $rip; once more"
		lost=$((lost + 1))
		echo "$lost" >/out/artefacts
		run_one "$name"
	done
	[ "$rc:$name" != 77:nested ] || rc=1 # here SVM is
	case $rc in
	0 | 77) say "$(grep "^ok \|^SKIP " "$LOG" | cut -c1-160)" ;;
	*) FAILED=$((FAILED + 1)) && sed 's/^/    /' "$LOG" | cut -c1-400 ;;
	esac
done
finish
