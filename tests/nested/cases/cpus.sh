#!/bin/sh
# A Linux guest whose machine has 260 vCPUs, no PIC, no PIT and molt's IOAPIC, with a virtio disk, over updates. It
# starts two of the vCPUs: all of them take more than ten minutes in the emulated host.
# bed: --guest-module virtio_pci --guest-module virtio_blk
# shellcheck source=tests/nested/lib.sh
. /bed/lib.sh

truncate -s 16M /tmp/disk.raw
CPUS=260 MEM=768 DEVICES='' ARGS="maxcpus=2 molt.mode=idle molt.disk=/dev/vda" GROWS="disk_reads disk_writes"
guest_start --disk /tmp/disk.raw
online() { ask "read /sys/devices/system/cpu/online" READ; }
expect "vCPUs that are online" "$(online)" = "READ 0-1"
updates 2
expect "vCPUs that are online after updates" "$(online)" = "READ 0-1"
guest_stop
expect "transfers that failed" "$(field "$END" disk_errs)" -eq 0
finish
