#!/bin/sh
# Warming on Linux 6.1: by the reader, as there is no KVM_PRE_FAULT_MEMORY. 128 MiB in
# pages of 4 KiB, a half of them missing in the end, and 256 MiB from hugetlbfs.
# bed: --kernel 6.1
# shellcheck source=tests/nested/lib.sh
. /bed/lib.sh

warmed reader 128 4k
echo 128 >/proc/sys/vm/nr_hugepages
warmed reader 256 2m
finish
