#!/bin/sh
# The fault matrix where VFIO is: a row per class of fault, under pings through an e1000e and with a transfer of an nvme
# disk always under way, memory in two DMA ranges. After each row the guest is well and nothing is left over; after every fifth it is updated.
# bed: --device e1000e --device nvme-slow --bind --guest-module nvme --mem 5G --timeout 600
# bed-short: --env FAULTS_LEFT_OUT=^(file|limit|hello|offer)
# bed-long: --timeout 3000 --env FAULTS_ROUNDS=3 --env FAULTS_CONTROL=480
# shellcheck disable=SC2317 # functions are called by words of the table, and by faults.sh
# shellcheck source=tests/nested/lib.sh
. /bed/lib.sh
# shellcheck source=tests/nested/faults.sh
. /bed/faults.sh

# group-N: when IOMMU group N of two is given to the new VM; dma-N: when DMA range N of two gets the successor's address,
# which is after commit: the guest runs all the same, and it is tried again.
all_rows() {
	cat <<'ROWS'
file absent|file absent|refused|No such file.*path
file empty|file empty|refused|empty
file a directory|file directory|refused|a directory
file text|file text|refused|not an ELF program
file a script|file script|refused|not an ELF program
file not executable|file mode 644|refused|not executable.*chmod
file writable by group|file mode 775|refused|writable by its group.*chmod go-w
file 32-bit|file byte 4 001|refused|another architecture
file aarch64|file byte 18 267|refused|another architecture
file cut off|file cut|refused|.
file another program|file other /bed/memlock|refused|ended, or said what is no message
limit of locked memory|limit memlock|refused|RLIMIT_MEMLOCK.*ulimit -l
limit of address space|limit as|refused|.
hello: crashes|fault hello:segv|refused|ended, or said what is no message
hello: exits|fault hello:exit|refused|ended, or said what is no message
hello: hangs|fault hello:hang|refused|in time
hello: closes all|fault hello:close|refused|ended, or said what is no message
offer: bus error|fault offer:bus|refused|ended, or said what is no message
offer: hangs|fault offer:hang|refused|in time
offer: killed|fault offer:kill|refused|ended, or said what is no message
build: aborts|fault build:abort|refused|ended, or said what is no message
build: hangs|fault build:hang|refused|in time
build: closes all|fault build:close|refused|.
device 1: crashes|fault group-1:segv|refused|ended, or said what is no message
device 1: killed|fault group-1:kill|refused|ended, or said what is no message
device 2: refused|fault group-2:fail|refused|IOMMU group .* to KVM: I/O error
device 2: killed|fault group-2:kill|refused|ended, or said what is no message
ready: crashes|fault ready:segv|refused|ended, or said what is no message
ready: stops|fault ready:stop|refused|in time
state: crashes|fault state:segv|refused|ended before it had taken over
state: hangs|fault state:hang|refused|in time
state: exits|fault state:exit|refused|ended before it had taken over
load: crashes|fault load:segv|refused|ended before it had taken over
load: hangs|fault load:hang|refused|in time
load: stops|fault load:stop|refused|in time
load: killed|fault load:kill|refused|ended before it had taken over
range 1: refused|fault dma-1:fail|updated|
range 2: refused|fault dma-2:fail|updated|
stopped, goes on|go_on|updated|
asked twice|ask_again|updated|
ROWS
}

MEM=3136 # the 64 MiB above 4 GiB are the second range
LIMIT=$(((MEM + 64) * 1048576))
# The emulated host is slow: what hangs in the pause stands still for so long.
WRAP="/bed/memlock run $LIMIT" TIMEOUT=3000
DEVICES="${BDF_e1000e:?} ${BDF_nvme_slow:?}" GROWS="irqs recv disk_writes disk_irqs"
# nohz=off: tests/nested/cases/two-devices.sh
ARGS="nohz=off molt.beat_ms=250 molt.interval_ms=20 molt.disk=/dev/nvme0n1"

end_is_well() {
	expect "blocks with wrong content" "$(field "$END" disk_bad)" -eq 0
	expect "transfers that failed" "$(field "$END" disk_errs)" -eq 0
}

echo always >/sys/kernel/mm/transparent_hugepage/shmem_enabled
faults_run
