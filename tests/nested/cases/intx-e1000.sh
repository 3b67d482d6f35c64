#!/bin/sh
# e1000, which has INTx only: the interrupt's other common life, with a driver that reads its cause to lower the line.
# bed: --device e1000 --bind --guest-module e1000
# shellcheck source=tests/nested/lib.sh
. /bed/lib.sh

DEVICES=${BDF_e1000:?} ARGS=molt.interval_ms=20
guest_start
pings_over_updates 3
kernel_calm
guest_stop
expect "pings lost in the whole life" "$(field "$END" lost)" -eq 0
finish
