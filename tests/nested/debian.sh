# shellcheck shell=dash
# debian.sh - a Debian guest on a virtio disk (scripts/bed --debian), driven by what is typed at its console. POSIX sh
# (busybox), sourced after lib.sh.

ASKED=0

# The guest's root disk is its first one. Options for molt may follow. Warming is for the idle time of a processor, and
# L1's has none beside such a guest. The kernel says errors in its log only: one of a disk, on the console in the middle of
# a status, would be read as that.
debian_start() { # [OPTION]...
	guest_launch "console=ttyS0 quiet loglevel=1 systemd.show_status=1 panic=-1 root=/dev/vda ip=10.0.2.15::10.0.2.2:255.255.255.0:::none" \
		--warm-budget 0 --stop-timeout "$WAIT" --disk "$GUEST_DISK" "$@"
	wait_until "systemd's multi-user target" grep -q 'Reached target.*multi-user.target' "$CONSOLE"
	wait_until "prompt" grep -q '^root@molt-guest' "$CONSOLE"
	guest_remember
	debian_ask "systemctl is-system-running --wait"
	expect "the guest's systemd is" "$ANSWER" = running
	say "guest $GUESTS is a Debian up on Linux $(uname -r)"
}

# Types a command. When it has ended its status is on a line that the echo of what was typed is not like.
debian_type() { # COMMAND
	ASKED=$((ASKED + 1))
	echo "$1; echo ENDED $ASKED \$?" >&3
}

debian_answered() { guest_said "ENDED $ASKED [0-9][0-9]*" 0; }

# Into $STATUS the command's, into $ANSWER the last line of what it said.
debian_answer() {
	wait_until "end of the guest's command $ASKED" debian_answered
	STATUS=$(guest_line "ENDED $ASKED [0-9][0-9]*")
	STATUS=${STATUS##* }
	ANSWER=$(tr -d '\r' <"$CONSOLE" | grep -B 1 "^ENDED $ASKED " | head -n 1)
}

debian_ask() { # COMMAND
	debian_type "$1"
	debian_answer
}

debian_update() {
	update_ask
	update_settled
	sleep 1
	update_kept
}

# An update about every second while the typed command runs.
debian_updates() { # AT-LEAST
	from=$UPDATES
	until debian_answered; do
		debian_update
	done
	debian_answer
	say "$((UPDATES - from)) updates meanwhile, versions alternating; pauses (ms):$(pauses $((UPDATES - from)))"
	expect "updates while it ran" $((UPDATES - from)) -ge "$1"
}

# By the power button. The file system must be whole then, and is mounted for its own programs to look at the disks.
debian_stop() {
	guest_end
	mkdir -p /debian
	mount -t ext4 -o ro,noload "$GUEST_DISK" /debian || fail "the root disk cannot be mounted"
	mount -o bind /dev /debian/dev
	mount -o bind /tmp /debian/tmp
	status=0
	chroot /debian /sbin/e2fsck -fn "$GUEST_DISK" >"$DIR/e2fsck.txt" 2>&1 || status=$?
	expect "e2fsck's status of the root disk" "$status" -eq 0
}

# A program of the image and its libraries, for L1.
debian_program() { # PATH
	mkdir -p /debian
	mount -t ext4 -o ro,noload "$GUEST_DISK" /debian || fail "the root disk cannot be mounted"
	for file in "$1" $(chroot /debian ldd "$1" | grep -o '/[^ ]*'); do
		mkdir -p "${file%/*}"
		# shellcheck disable=SC2094 # the one is of another root
		chroot /debian cat "$file" >"$file"
		chmod +x "$file"
	done
	umount /debian
	export PATH="$PATH:${1%/*}"
}
