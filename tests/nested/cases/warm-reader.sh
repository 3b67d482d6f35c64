#!/bin/sh
# Warming on Linux 6.1: by the reader, as there is no KVM_PRE_FAULT_MEMORY. 128 MiB in
# pages of 4 KiB, a half of them missing in the end, and 256 MiB from hugetlbfs.
# bed: --kernel 6.1
# shellcheck source=tests/nested/lib.sh
. /bed/lib.sh

LOG=/out/warm.log

# Says what the tool said; a mode that is to be there must be.
warmed() { # MODE MIB PAGES
	rc=0
	/bed/warm "$2" "$3" >"$LOG" || rc=$?
	while read -r line; do say "$3: $line"; done <"$LOG"
	expect "warm $2 $3" "$rc" -eq 0
	expect "mode $1" "$(grep -c "^WARM mode=$1 way=$1 " "$LOG")" -eq 1
}

warmed reader 128 4k
echo 128 >/proc/sys/vm/nr_hugepages
warmed reader 256 2m
finish
