#!/bin/sh
# Warming on Linux 7.3: by KVM_PRE_FAULT_MEMORY, and by the reader all the same. 128 MiB in
# pages of 4 KiB, a half of them missing in the end, and 256 MiB from hugetlbfs.
# bed: --kernel 7.3
# shellcheck source=tests/nested/lib.sh
. /bed/lib.sh

warmed pre-fault 128 4k
echo 128 >/proc/sys/vm/nr_hugepages
warmed pre-fault 256 2m
finish
