#!/bin/sh
# 4 GiB of guest memory, some of it above the PCI hole: two DMA ranges. In huge pages, as L1 allows
# them; with small ones the machine of this test needs a minute to pin it all.
# bed: --device e1000e --bind --mem 6G
# shellcheck source=tests/nested/lib.sh
. /bed/lib.sh

DEVICES=${BDF_e1000e:?} MEM=4096 CPUS=2
echo always >/sys/kernel/mm/transparent_hugepage/shmem_enabled
guest_start
pings_over_updates 3
expect "page size" "$(json "$RECORD" page_size)" != 4K
guest_stop_unharmed
finish
