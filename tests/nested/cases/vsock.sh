#!/bin/sh
# Sockets between the guest and L1: data there and back without a break. An update resets the connection on both sides, the
# guest connects anew, and no byte is wrong; one that fails in the pause resets nothing.
# bed: --module vhost_vsock --guest-module virtio_pci --guest-module vmw_vsock_virtio_transport
# shellcheck source=tests/nested/lib.sh
. /bed/lib.sh

/bed/vsock-echo 7000 >/tmp/ends &
echoes=$!
export MOLT_FAULT=@/tmp/fault
echo load:exit >/tmp/fault
DEVICES='' ARGS="molt.mode=idle molt.vsock=7000" GROWS="vsock_recv"
guest_start --vsock cid=42
status=0
"$PROGRAM" run --kernel "$GUEST_KERNEL" --console none --vsock cid=42 2>/tmp/second || status=$?
expect "status of a second guest of that context id" "$status" -eq 4
say "$(head -n 1 /tmp/second)"
updates 4
beats_wait 2
expect "connections that the guest saw end" "$(field "$(beat)" vsock_ends)" -eq 4
expect "that L1 saw reset" "$(grep -c reset /tmp/ends)" -eq 4
before=$(lines "$REPORT")
program_put /bed/molt-faulty
kill -USR1 "$PID"
wait_until "record of an update" record_beyond "$before"
expect "result" "$(json "$(tail -n 1 "$REPORT")" result)" = refused
beat_look
before=$BEAT
beats_wait 2
expect_growth "after the refusal" "$before"
kernel_calm
guest_stop
kill "$echoes" 2>/dev/null
expect "the same in the whole life" "$(field "$END" vsock_ends)" -eq 4
expect "wrong data" "$(field "$END" vsock_bad)" -eq 0
expect "bytes that came back" "$(field "$END" vsock_recv)" -gt 100000
finish
