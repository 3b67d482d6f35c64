#!/bin/sh
# Host and guest with Linux 6.12: boots, pings, three updates.
# bed: --kernel 6.12 --device e1000e --bind
# shellcheck source=tests/nested/lib.sh
. /bed/lib.sh

DEVICES=${BDF_e1000e:?} ARGS=molt.interval_ms=20
guest_start
say "host: $(uname -r)"
pings_over_updates 3
kernel_calm
guest_stop
expect "pings lost in the whole life" "$(field "$END" lost)" -eq 0
finish
