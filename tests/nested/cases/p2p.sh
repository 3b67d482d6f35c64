#!/bin/sh
# Peer-to-peer DMA (p2p=on) by iommufd: a device of the guest copies from and to another's BAR, which is reached at the
# guest's address, also after it had decoded no memory for a while; a device without p2p=on is not reached. Updates are
# refused with the name of the device and the reason; status says so, and the log from the start on.
# bed: --kernel 7.3-own --device edu --device edu --bind
# shellcheck source=tests/nested/lib.sh
. /bed/lib.sh

CONTROL=/tmp/control
DEVICES="${BDF_edu:?} ${BDF_edu_2:?},p2p=on" ARGS="molt.mode=idle molt.p2p=1"
guest_start --control $CONTROL
P2P=$(guest_line P2P)
expect "the first device reaches the second, which has p2p=on" "$(field "$P2P" there)" -eq 1
expect "the second reaches the first, which has not" "$(field "$P2P" back)" -eq 0
expect "the first reaches the second again after that had decoded nothing" "$(field "$P2P" again)" -eq 1

expect "the log says it from the start on" \
	"$(grep -c "updates will be refused: vfio $BDF_edu_2 cannot be kept: p2p=on" "$LOG")" -eq 1
STATUS=$(/bed/molt-a status $CONTROL --json)
expect "devices that status says are not kept" "$(echo "$STATUS" | grep -o '"kept":false' | wc -l)" -eq 1
expect "the reason in status" "$(echo "$STATUS" | grep -c '"reason":"p2p=on')" -eq 1
update_ask
wait_until "record of the update" record_beyond "$RECORDS"
RECORD=$(tail -n 1 "$REPORT")
say "$RECORD"
expect "result" "$(json "$RECORD" result)" = refused
expect "the pause" "$(json "$RECORD" pause_ns)" -eq 0
expect "the reason names the device" "$(echo "$RECORD" | grep -c "vfio $BDF_edu_2 cannot be kept: p2p=on")" -eq 1
beats_wait 3
guest_stop
expect "warnings of BARs that are not reached" "$(grep -c 'do not reach BAR' "$LOG")" -eq 0

# By type1 it cannot be.
/bed/molt-a run --kernel "$GUEST_KERNEL" --mem 256M --vfio "$BDF_edu_2,p2p=on,iommu=type1" 2>/tmp/type1 </dev/null && fail "it runs with type1"
expect "the reason on type1" "$(grep -c "$BDF_edu_2,p2p=on needs iommufd" /tmp/type1)" -eq 1
finish
