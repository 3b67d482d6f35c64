#!/bin/sh
# Peer-to-peer DMA (p2p=on) to a device that the guest resets itself (function level reset), which ends the mapping of its
# BAR: it is mapped anew. An edu device copies within an igb's registers; the emulator of Debian 12 has no igb.
# bed: --kernel 7.3-own --qemu 11.1 --device edu --device igb --bind
# shellcheck source=tests/nested/lib.sh
. /bed/lib.sh

DEVICES="${BDF_edu:?} ${BDF_igb:?},p2p=on" ARGS="molt.mode=idle molt.p2p=2"
guest_start
P2P=$(guest_line P2P)
expect "the edu device reaches the igb" "$(field "$P2P" before)" -eq 1
expect "the igb has reset itself" "$(field "$P2P" reset)" -eq 1
expect "the edu device reaches the igb after that" "$(field "$P2P" after)" -eq 1
guest_stop
expect "warnings of BARs that are not reached" "$(grep -c 'do not reach BAR' "$LOG")" -eq 0
finish
