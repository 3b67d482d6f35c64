#!/bin/sh
# Two devices: pings through an e1000e while an nvme disk is written and compared. The disk is slow: a quick one keeps
# the emulated processor busy all the time, and answers then wait for seconds, update or not. So do two vCPUs that tick
# 250 times a second each, as they would have to with QEMU 7.2: nested/mem-4g has two, less busy ones.
# bed: --device e1000e --device nvme-slow --bind --guest-module nvme
# shellcheck source=tests/nested/lib.sh
. /bed/lib.sh

DEVICES="${BDF_e1000e:?} ${BDF_nvme_slow:?}" GROWS="irqs recv disk_reads disk_irqs"
ARGS="molt.interval_ms=50 molt.disk=/dev/nvme0n1"
guest_start
pings_over_updates 8
guest_stop_unharmed
expect "blocks with wrong content" "$(field "$END" disk_bad)" -eq 0
expect "transfers that failed" "$(field "$END" disk_errs)" -eq 0
finish
