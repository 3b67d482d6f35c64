#!/bin/sh
# A device whose BAR of 2 GiB is memory: the guest finds in each eighth of it what it wrote there before the update. What
# its first access fills in the host's page tables is bounded, as this kernel (6.1) fills a whole mapping in pages of 4 KiB.
# bed: --device bar-2g --bind
# shellcheck source=tests/nested/lib.sh
. /bed/lib.sh

GUEST_DEV=/sys/bus/pci/devices/0000:00:01.0
bar_mappings() { grep 'anon_inode:\[vfio-device\]' "/proc/$WORKER/maps"; }
page_tables() { awk '$1 == "VmPTE:" { print $2 }' "/proc/$WORKER/status"; }

access_bar() { # WHEN
	tables=$(page_tables)
	first=$(ask "bar $GUEST_DEV/resource2" BAR)
	again=$(ask "bar $GUEST_DEV/resource2" BAR)
	say "$1: $first; again $again"
	expect "$1: words that are not as written" $(($(field "$first" bad) + $(field "$again" bad))) -eq 0
	# Eight accesses, of which each fills 64 MiB: 1 MiB of page tables. All of the BAR has 4 MiB of them.
	expect "$1: page tables that were filled (kB)" $(($(page_tables) - tables)) -lt 2048
	expect "$1: page tables that the guest's accesses have filled at least (kB)" $(($(page_tables) - tables)) -ge 1024
}

DEVICES=${BDF_bar_2g:?} ARGS=molt.mode=idle GROWS=''
guest_start
expect "the guest enables it" "$(ask "write $GUEST_DEV/enable 1" WROTE)" = "WROTE 0"
access_bar "at the start"
for n in 1 2 3; do
	update
	access_bar "after update $n"
done
# A BAR is at a multiple of its length in the guest. So it is in the host, as far as huge pages reach.
start=$(bar_mappings | head -n 1 | cut -d- -f1) end=$(bar_mappings | tail -n 1 | sed 's/^[^-]*-\([^ ]*\) .*/\1/')
expect "mappings" "$(bar_mappings | wc -l)" -eq 32
expect "their length (MiB)" $(((0x$end - 0x$start) >> 20)) -eq 2048
expect "host address modulo 1 GiB" $((0x$start % 0x40000000)) -eq 0
kernel_calm
guest_stop
expect "rounds of writing" "$(guest_count BAR)" -eq 8
finish
