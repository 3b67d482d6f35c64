#!/bin/sh
# guest/states on kvm_amd: states that KVM gives and may refuse to take. What a software KVM takes, or refuses, is another
# matter.
# bed: --kernel 6.1 --timeout 400
# shellcheck source=tests/nested/lib.sh
. /bed/lib.sh

LOG=/out/runner.log
export TMPDIR=/tmp

rc=0
/bed/guest-runner --molt /bed/molt-a --molt-b /bed/molt-b --guests /bed/guests --slow 10 --updates 40 states \
	>"$LOG" 2>&1 || rc=$?
cat "$LOG"
UPDATES=$(grep -c ' done$\| refused: ' "$LOG" || true)
echo "$UPDATES" >/out/updates
if [ "$rc" -ne 0 ] && artefact "$LOG"; then
	say "ARTEFACT: KVM internal error 3 at L1's own address $rip"
	exit 75
fi
expect "the runner's status" "$rc" -eq 0
# If they are not any more, the table of docs/fault-matrix.md is wrong.
for state in protected-mode-L protected-mode-L-LME real-mode-L async-pf-nowhere ap-init-smi; do
	expect "$state is refused" "$(grep -c "^  $state  *refused" "$LOG")" -eq 1
done
finish
