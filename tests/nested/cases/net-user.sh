#!/bin/sh
# --net user: passt, which molt starts, carries the guest's pings and a TCP connection to L1 over L1's own sockets; it stays
# the same process over updates, loses nothing, and ends with the guest.
# bed: --hub --guest-module virtio_pci --guest-module virtio_net --file /usr/bin/passt:/bin/passt --file /lib64/ld-linux-x86-64.so.2:/lib64/ld-linux-x86-64.so.2 --file /lib/x86_64-linux-gnu/libc.so.6:/lib/x86_64-linux-gnu/libc.so.6
# shellcheck source=tests/nested/lib.sh
. /bed/lib.sh

# Where passt takes the guest's address and its router from; the router's address means L1 itself.
ip route add default via 10.0.2.2 dev "${L1_NIC:?}"
echo "0 2147483647" >/proc/sys/net/ipv4/ping_group_range
# passt shuts itself in by pivot_root, which the initial root file system does not take: molt gets another root.
mkdir -p /etc /newroot
echo "root:x:0:0::/root:/bin/sh${NL}nobody:x:65534:65534::/:/bin/sh" >/etc/passwd
mount -t tmpfs newroot /newroot
for dir in bin bed dev etc guest lib lib64 out proc run sys tmp; do
	mkdir "/newroot/$dir"
	mount -o rbind "/$dir" "/newroot/$dir"
done
cat >/tmp/in-newroot <<'SCRIPT'
#!/bin/sh
cd /newroot && mount --move . / && exec chroot . "$@"
SCRIPT
chmod +x /tmp/in-newroot
WRAP="unshare -m /tmp/in-newroot"
echo_start
passt_pid() { pidof passt; }

ARGS="molt.interval_ms=50 molt.irq=virtio0 molt.ip=10.0.2.20 molt.tcp=7000" GROWS="irqs recv tcp_recv"
guest_start --net user
passt=$(passt_pid)
expect "passt is there" -n "$passt"
lost0=$(pings_lost)
updates 6
expect "pings lost over the updates" $(($(pings_lost) - lost0)) -eq 0
expect "the same passt" "$(passt_pid)" = "$passt"
kernel_calm
guest_stop
connection_kept 100000
sleep 1
expect "passt has ended" -z "$(passt_pid)"
finish
