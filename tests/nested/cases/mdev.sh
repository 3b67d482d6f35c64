#!/bin/sh
# A mediated device by iommufd: the kernel's sample mtty, a serial card on PCI whose interrupt is a line, and which sends
# back what it is sent. Not one byte is lost or doubled over 20 updates. On type1 the same guest is not updated, and told so.
# The host's kernel is our own, as Debian's have neither.
# bed: --kernel 7.3-own --module mtty
# shellcheck source=tests/nested/lib.sh
. /bed/lib.sh

MDEV=83b8f4f2-509f-382f-3c1e-e6bfe0fa1001
echo $MDEV >/sys/class/mdev_bus/mtty/mdev_supported_types/mtty-2/create || fail "no mtty"

DEVICES=mdev:$MDEV GROWS=tty_recv
ARGS="molt.mode=idle molt.tty=/dev/ttyS1"
guest_start
updates 20
kernel_calm
guest_stop
expect "bytes that came back, to those sent" "$(field "$END" tty_recv)" -ge $(($(field "$END" tty_sent) - 8))
expect "bytes that were wrong or too many" "$(field "$END" tty_bad)" -eq 0
expect "bytes sent" "$(field "$END" tty_sent)" -gt 1000
say "slowest eight bytes: $(field "$END" tty_max_us) us"

DEVICES=mdev:$MDEV,iommu=type1
guest_start
update_refused
expect "the reason names the device" "$(echo "$RECORD" | grep -c "$MDEV")" -ge 1
guest_stop
finish
