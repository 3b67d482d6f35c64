#!/bin/sh
# 4 GiB of guest memory, some of it above the PCI hole: two DMA ranges.
# bed: --device e1000e --bind --mem 6G
# shellcheck source=tests/nested/lib.sh
. /bed/lib.sh

DEVICES=${BDF_e1000e:?} MEM=4096 CPUS=2 WAIT=120
guest_start
pings_over_updates 3
kernel_calm
guest_stop
expect "pings lost in the whole life" "$(field "$END" lost)" -eq 0
finish
