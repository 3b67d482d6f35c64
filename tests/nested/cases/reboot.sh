#!/bin/sh
# A guest that resets (--on-reset reboot) right after an update, while its NIC sends and receives: each boot finds a NIC
# that works, in the same processes, and nothing is left over of the boot before. In the end it panics, and Linux's own driver
# of pvpanic (ACPI QEMU0001) says so.
# bed: --device e1000e --bind --guest-module pvpanic-mmio
# shellcheck source=tests/nested/lib.sh
. /bed/lib.sh

DEVICES="${BDF_e1000e:?}"
guest_start --on-reset reboot
for _ in 1 2 3; do
	update
	boot_again
	boot_again
done
update
kernel_calm
expect "boots" "$(guest_count READY)" -eq 7
echo panic >&3
wait_until "end" ended || true
status=0
wait "$PID" || status=$?
PID=
expect "molt's exit status" "$status" -eq 34
expect "lines of molt about the panic" "$(grep -c "warning: the guest's kernel has panicked (exit 34)" "$LOG")" -eq 1
expect "lines of molt about a boot" "$(grep -c 'it begins anew' "$LOG")" -eq 6
expect "system calls that the sandbox forbids" "$(grep -c sandbox: "$LOG")" -eq 0
finish
