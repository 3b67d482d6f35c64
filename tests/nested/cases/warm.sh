#!/bin/sh
# Warming on Linux 7.3: by KVM_PRE_FAULT_MEMORY, and by the reader all the same. 128 MiB in
# pages of 4 KiB, a half of them missing in the end, and 256 MiB from hugetlbfs.
# bed: --kernel 7.3
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

warmed pre-fault 128 4k
echo 128 >/proc/sys/vm/nr_hugepages
warmed pre-fault 256 2m
finish
