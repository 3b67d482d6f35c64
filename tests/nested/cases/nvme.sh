#!/bin/sh
# nvme (MSI-X): blocks written, read and compared without a break over updates. The disk is slow, so
# that a transfer is under way at every pause and its interrupt comes in the gap between the programs. Linux 6.12.
# bed: --kernel 6.12 --device nvme-slow --bind --guest-module nvme
# shellcheck source=tests/nested/lib.sh
. /bed/lib.sh

REGISTERS="14 24 28 2c 30 34" # CC AQA ASQ ACQ (NVMe base specification, 3.1.3)
DEVICES=${BDF_nvme_slow:?} ARGS="molt.mode=idle molt.disk=/dev/nvme0n1" GROWS="disk_reads disk_writes disk_irqs"
guest_start
regs=$(ask "regs /sys/class/nvme/nvme0/device/resource0 $REGISTERS" REGS)
say "$regs"
n0=$(beat_n)
updates 8
say "disk: slowest transfer in the guest's life so far $(beats_max disk_max_us "$n0" "$(beat_n)") us"
expect "slowest transfer (us) is far from the driver's timeout" "$(field "$(beat)" disk_max_us)" -lt 3000000
expect "the device's registers" "$(ask "regs /sys/class/nvme/nvme0/device/resource0 $REGISTERS" REGS)" = "$regs"
kernel_calm
guest_stop
expect "blocks with wrong content" "$(field "$END" disk_bad)" -eq 0
expect "transfers that failed" "$(field "$END" disk_errs)" -eq 0
finish
