#!/bin/sh
# Two devices and two vCPUs: pings through an e1000e while an nvme disk is written and compared.
# bed: --device e1000e --device nvme --bind --guest-module nvme
# shellcheck source=tests/nested/lib.sh
. /bed/lib.sh

DEVICES="${BDF_e1000e:?} ${BDF_nvme:?}" CPUS=2 GROWS="irqs recv disk_reads disk_irqs"
# Emulated SVM (QEMU 7.2) now and then lets an interrupt in between STI and HLT, update or not: a vCPU
# that has just been given work then sleeps on it. The periodic tick wakes it.
ARGS="nohz=off molt.interval_ms=50 molt.disk=/dev/nvme0n1"
guest_start
pings_over_updates 8
kernel_calm
guest_stop
expect "pings lost in the whole life" "$(field "$END" lost)" -eq 0
expect "blocks with wrong content" "$(field "$END" disk_bad)" -eq 0
expect "transfers that failed" "$(field "$END" disk_errs)" -eq 0
finish
