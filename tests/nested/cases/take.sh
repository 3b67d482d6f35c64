#!/bin/sh
# molt run --take with a passed-through e1000e (MSI-X) under pings every 20 ms: four times another molt, in mount,
# network, IPC and UTS namespaces of its own, takes the guest, and is updated once each time. No ping is lost, the link
# stays up, and the process that had the guest ends with 0.
# bed: --device e1000e --bind
# shellcheck source=tests/nested/lib.sh
. /bed/lib.sh

CONTROL=/tmp/control/guest
DEVICES=${BDF_e1000e:?} ARGS=molt.interval_ms=20
mkdir -m 700 /tmp/control

# Puts the other version in place and has it take the guest. The rest is as after an update (update_check).
take_ask() {
	other_version
	giver=$PID
	unshare -m -n -i -u "$PROGRAM" run --take "$CONTROL" </dev/null >>"$LOG" 2>&1 3>&- &
	PID=$!
	wait_until "record of take $UPDATES" record_beyond "$RECORDS"
	START=$(process_start)
	status=0
	wait "$giver" || status=$?
	quiet_expect "status of who gave the guest away" "$status" -eq 0
	quiet_expect "words of who has it" "$(grep -c '(--take) has the guest' "$LOG")" -eq $((TAKES += 1))
}

# Every other one (lib.sh).
TAKES=0
update() {
	if [ $((UPDATES % 2)) -eq 0 ]; then take_ask; else update_ask; fi
	update_check
}

guest_start --control "$CONTROL"
carrier=$(ask "read /sys/class/net/eth0/carrier_changes" READ)
pings_over_updates 8
expect "takes" "$TAKES" -eq 4
expect "carrier_changes" "$(ask "read /sys/class/net/eth0/carrier_changes" READ)" = "$carrier"
guest_stop_unharmed
expect "pings sent" "$(field "$END" sent)" -gt 1000
finish
