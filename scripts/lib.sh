# lib.sh - functions shared by the scripts that run on the developer's own machine (bash; sourced, not run).
# shellcheck shell=bash

SCRIPTS_DIR=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
TOP_DIR=$(dirname "$SCRIPTS_DIR")
export SCRIPTS_DIR TOP_DIR

PROG=${PROG:-$(basename "$0")}
QUIET=${QUIET:-0}

die() { # STATUS MESSAGE...
	local status=$1
	shift
	echo "$PROG: $*" >&2
	exit "$status"
}

# One line a stage, with the seconds since the script started.
stage() {
	[ "$QUIET" -eq 1 ] || printf '%s: [%3ds] %s\n' "$PROG" "$SECONDS" "$*"
}

cache_dir() {
	echo "${MOLT_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/molt}"
}

# The archive address that this machine itself uses (of the main archive, not the security one).
apt_archive_uri() {
	local uri
	# shellcheck disable=SC2016 # apt expands these
	uri=$(apt-get indextargets --format '$(REPO_URI) $(CODENAME) $(LABEL)' 'Created-By: Packages' 2>/dev/null |
		awk '$2 !~ /security/ && $3 == "Debian" { print $1; exit }')
	if [ -z "$uri" ]; then
		# No lists yet: read the sources themselves, in either format.
		uri=$(cat /etc/apt/sources.list.d/*.sources /etc/apt/sources.list /etc/apt/sources.list.d/*.list 2>/dev/null |
			sed -n -e 's/^URIs:[[:space:]]*\([^[:space:]]*\).*/\1/p' \
				-e 's/^deb[[:space:]]\+\(\[[^]]*\][[:space:]]*\)\{0,1\}\([^[:space:]]*\).*/\2/p' |
			grep '/debian/*$' | head -n 1 || true)
	fi
	[ -n "$uri" ] || die 3 "no Debian archive address in /etc/apt/sources.list*: cannot fetch a kernel (add the machine's mirror there)"
	echo "$uri"
}

kernel_suite() { # VERSION
	case $1 in
	6.1) echo bookworm ;;
	6.12) echo bookworm-backports ;;
	7.3 | 7.3-own) echo trixie-backports ;;
	*) die 2 "unknown kernel '$1' (known: 6.1, 6.12, 7.3, 7.3-own)" ;;
	esac
}

# apt with a configuration of its own in $1, so that neither root nor a change of the machine's sources is needed.
private_apt() { # STATE_DIR TOOL ARGUMENTS...
	local dir=$1 tool=$2
	shift 2
	"$tool" -q \
		-o Dir::Etc::sourcelist="$dir/sources.list" -o Dir::Etc::sourceparts=/dev/null \
		-o Dir::Etc::preferences=/dev/null -o Dir::Etc::preferencesparts=/dev/null \
		-o Dir::State="$dir/state" -o Dir::State::Lists="$dir/lists" -o Dir::State::status="$dir/status" \
		-o Dir::Cache="$dir/cache" -o APT::Architecture=amd64 -o APT::Architectures=amd64 \
		-o APT::Sandbox::User=root -o Acquire::Languages=none -o Acquire::Retries=3 -o Debug::NoLocking=1 "$@"
}

# A private apt in DIR, with the lists of these suites.
archive_open() { # DIR SUITE...
	local dir=$1 uri suite
	shift
	uri=$(apt_archive_uri)
	mkdir -p "$dir/lists/partial" "$dir/cache/archives/partial" "$dir/state" "$dir/debs"
	: >"$dir/status"
	for suite; do
		echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $uri $suite main"
	done >"$dir/sources.list"
	private_apt "$dir" apt-get -o Acquire::http::Timeout=60 update >"$dir/log" 2>&1 ||
		die 1 "apt-get update for $* failed: $(tail -n 3 "$dir/log")"
}

# Downloads and unpacks one kernel into the folder $2: vmlinuz, release, lib/modules/RELEASE.
kernel_unpack() { # VERSION DIR
	local version=$1 dir=$2 apt=$2/apt packages vmlinuz
	archive_open "$apt" "$(kernel_suite "$version")"
	# Newer kernels come in several packages; follow the dependencies of the metapackage.
	packages=$(private_apt "$apt" apt-cache depends --recurse --no-recommends --no-suggests --no-conflicts \
		--no-breaks --no-replaces --no-enhances linux-image-amd64 |
		grep -E '^linux-(image|binary|modules|base)-[0-9][^ ]*-amd64(-unsigned)?$' | sort -u)
	# The signed image and its unsigned twin are alternatives.
	if echo "$packages" | grep -q '^linux-image-.*-amd64$'; then
		packages=$(echo "$packages" | grep -v -- '-unsigned$')
	fi
	[ -n "$packages" ] || die 1 "no package of kernel $version found"
	# shellcheck disable=SC2086 # one word a package
	(cd "$apt/debs" && private_apt "$apt" apt-get download $packages) >"$apt/log" 2>&1 ||
		die 1 "download of $packages failed: $(tail -n 3 "$apt/log")"
	local deb
	for deb in "$apt"/debs/*.deb; do
		dpkg -x "$deb" "$apt/root"
	done
	# /boot, or beside the modules from 7.x on.
	vmlinuz=$(find "$apt/root" -name 'vmlinuz*' -type f -print -quit)
	[ -n "$vmlinuz" ] || die 1 "no vmlinuz in $packages"
	mv "$vmlinuz" "$dir/vmlinuz"
	mkdir -p "$dir/lib"
	if [ -d "$apt/root/usr/lib/modules" ]; then
		mv "$apt/root/usr/lib/modules" "$dir/lib/modules"
	else
		mv "$apt/root/lib/modules" "$dir/lib/modules"
	fi
	basename "$dir"/lib/modules/* >"$dir/release"
	depmod -b "$dir" "$(cat "$dir/release")"
	rm -rf "$apt"
}

KERNEL_CONFIG=$SCRIPTS_DIR/bed.d/kernel.config

# The version of the source package of a kernel VERSION, looked up once a week: what is built stays the same meanwhile.
kernel_source_version() { # VERSION
	local file dir
	file=$(cache_dir)/kernels/$1.source
	mkdir -p "$(dirname "$file")"
	if [ ! -s "$file" ] || [ -n "$(find "$file" -mtime +7)" ]; then
		dir=$(mktemp -d)
		archive_open "$dir" "$(kernel_suite "$1")"
		private_apt "$dir" apt-cache policy "linux-source-$1" | awk '$1 == "Candidate:" { print $2 }' >"$dir/version"
		[ -s "$dir/version" ] || die 1 "no package linux-source-$1 in $(kernel_suite "$1")"
		mv "$dir/version" "$file"
		rm -rf "$dir"
	fi
	cat "$file"
}

# Builds Debian's source of a kernel with our configuration, into the folder $2, with the same files as kernel_unpack.
kernel_build() { # VERSION-own-KEY DIR
	local version=${1%%-own*} dir=$2 apt=$2/apt src=$2/source
	archive_open "$apt" "$(kernel_suite "$version")"
	(cd "$apt/debs" && private_apt "$apt" apt-get download "linux-source-$version") >"$apt/log" 2>&1 ||
		die 1 "download of linux-source-$version failed: $(tail -n 3 "$apt/log")"
	stage "unpacking its source" >&2
	mkdir -p "$src"
	dpkg --fsys-tarfile "$apt"/debs/*.deb | tar -xO --wildcards './usr/src/linux-source-*.tar.xz' |
		xz -dc | tar -x -C "$src" --strip-components=1
	rm -rf "$apt"
	make -C "$src" KCONFIG_ALLCONFIG="$KERNEL_CONFIG" allnoconfig >"$dir/build.log" 2>&1 ||
		die 1 "configuring kernel $version failed: $(tail -n 3 "$dir/build.log")"
	kernel_config_check "$src/.config"
	stage "building it (some ten minutes; see $dir/build.log)" >&2
	make -C "$src" -j "$(nproc)" LOCALVERSION= bzImage modules >>"$dir/build.log" 2>&1 ||
		die 1 "building kernel $version failed: $(grep -m 3 -i error "$dir/build.log")"
	make -C "$src" INSTALL_MOD_PATH="$dir" INSTALL_MOD_STRIP=1 modules_install >>"$dir/build.log" 2>&1 ||
		die 1 "installing the modules of kernel $version failed: $(tail -n 3 "$dir/build.log")"
	cp "$src/arch/x86/boot/bzImage" "$dir/vmlinuz"
	make -s -C "$src" kernelrelease >"$dir/release"
	rm -rf "$src" "$dir"/lib/modules/*/build "$dir/build.log"
}

# What was asked for and is not there has a dependency that is not met.
kernel_config_check() { # .CONFIG
	local missing
	missing=$(grep '^CONFIG_.*=[ym]$' "$KERNEL_CONFIG" | grep -vxFf "$1" || true)
	[ -z "$missing" ] || die 1 "scripts/bed.d/kernel.config: not in this kernel: $(echo "$missing" | tr '\n' ' ')"
}

# Prints the folder NAME of the cache's KIND, having it made first if it is not there: UNPACK NAME FOLDER.
cache_fetch() { # KIND NAME WHAT UNPACK
	local name=$2 what=$3 unpack=$4 cache dir tmp
	cache=$(cache_dir)/$1
	dir=$cache/$name
	mkdir -p "$cache"
	# A second bed started meanwhile waits here for the first one's download.
	exec 8>"$cache/.lock-$name"
	flock -w 1800 8 || die 1 "another download of $what holds $cache/.lock-$name"
	# Only a complete folder ever gets the final name.
	if [ ! -d "$dir" ]; then
		stage "fetching Debian's $what into $dir" >&2
		# We hold the lock: whatever is half done here belongs to a run that was interrupted.
		rm -rf "$cache/.new-$name".*
		tmp=$(mktemp -d "$cache/.new-$name.XXXXXX")
		if ! (set -e; "$unpack" "$name" "$tmp"); then
			rm -rf "$tmp"
			exit 1
		fi
		chmod 755 "$tmp"
		mv -T "$tmp" "$dir"
	fi
	exec 8>&-
	echo "$dir"
}

# Prints the folder of the kernel VERSION, fetching it first if it is not in the cache.
kernel_fetch() { # VERSION
	local dir version key
	kernel_suite "$1" >/dev/null
	case $1 in
	*-own)
		version=$(kernel_source_version "${1%-own}")
		key=$({ echo "$version"; cat "$KERNEL_CONFIG"; } | sha256sum | cut -c1-16)
		dir=$(cache_fetch kernels "$1-$key" "kernel source ${1%-own}" kernel_build) || exit
		;;
	*) dir=$(cache_fetch kernels "$1" "kernel $1" kernel_unpack) || exit ;;
	esac
	[ -f "$dir/vmlinux" ] || kernel_extract "$dir"
	echo "$dir"
}

# A field of four bytes of a bzImage's header (kernel documentation, arch/x86/boot.rst).
header_field() { # FILE OFFSET
	od -An -j "$2" -N 4 -t u4 "$1" | tr -d ' '
}

# The ELF kernel within FOLDER/vmlinuz, beside it: an emulated machine takes seconds to unpack it itself. It is behind the
# setup sectors; its last four bytes are its size.
kernel_extract() { # FOLDER
	local image=$1/vmlinuz from length tmp tool
	from=$((($(od -An -j 497 -N 1 -t u1 "$image") + 1) * 512 + $(header_field "$image" 584)))
	length=$(($(header_field "$image" 588) - 4))
	case $(od -An -j "$from" -N 4 -t x1 "$image" | tr -d ' ') in
	fd377a58) tool='xz -dc' ;;
	28b52ffd) tool='zstd -dcq' ;;
	*) die 1 "$image: neither xz nor zstd at byte $from (remove $1: it is fetched again)" ;;
	esac
	tmp=$(mktemp "$1/.vmlinux.XXXXXX")
	# shellcheck disable=SC2086 # a tool and its options
	if ! { tail -c "+$((from + 1))" "$image" || true; } | head -c "$length" | $tool >"$tmp"; then
		rm -f "$tmp"
		die 1 "$image cannot be unpacked by $tool (remove $1: it is fetched again)"
	fi
	chmod 644 "$tmp"
	mv "$tmp" "$1/vmlinux"
}

qemu_suite() { # VERSION
	case $1 in
	11.1) echo trixie-backports ;;
	*) die 2 "unknown QEMU '$1' (known: 11.1)" ;;
	esac
}

# What one QEMU needs to run, and no more, under $2/usr: as on a host of its own suite, or from any
# other folder by its own ld.so (qemu_command).
qemu_unpack() { # VERSION DIR
	local dir=$2 apt=$2/apt suite deb name
	suite=$(qemu_suite "$1")
	archive_open "$apt" "${suite%-backports}" "$suite"
	# With an empty status file all that it depends on is new, down to the C library.
	private_apt "$apt" apt-get install -y --download-only --no-install-recommends -t "$suite" qemu-system-x86 >"$apt/log" 2>&1 ||
		die 1 "download of qemu-system-x86 from $suite failed: $(tail -n 3 "$apt/log")"
	for deb in "$apt"/cache/archives/*.deb; do
		dpkg -x "$deb" "$apt/root"
	done
	mkdir -p "$dir/usr/bin" "$dir/usr/lib64" "$dir/usr/lib/x86_64-linux-gnu" "$dir/usr/share/qemu"
	cp -L "$apt/root/usr/lib64/ld-linux-x86-64.so.2" "$dir/usr/lib64/"
	for name in qemu-system-x86_64 qemu-system-x86_64-microvm; do
		cp "$apt/root/usr/bin/$name" "$dir/usr/bin/"
		qemu_libraries "$apt/root" "$name" | xargs cp -L -t "$dir/usr/lib/x86_64-linux-gnu"
	done
	for name in qemu/kvmvapic.bin qemu/linuxboot_dma.bin qemu/multiboot_dma.bin qemu/pvh.bin qemu/qboot.rom \
		seabios/bios-256k.bin seabios/bios-microvm.bin; do
		cp -L "$apt/root/usr/share/$name" "$dir/usr/share/qemu/"
	done
	rm -rf "$apt"
}

qemu_libraries() { # ROOT PROGRAM
	local list
	list=$("$1/usr/lib64/ld-linux-x86-64.so.2" --library-path "$1/usr/lib/x86_64-linux-gnu" --list "$1/usr/bin/$2") ||
		die 1 "$2 does not find its libraries: $list"
	echo "$list" | awk -v root="$1" 'index($3, root) == 1 { print $3 }'
}

qemu_fetch() { # VERSION
	qemu_suite "$1" >/dev/null
	cache_fetch qemu "$1" "QEMU $1" qemu_unpack
}

# The words that run the QEMU of such a folder, one a line.
qemu_command() { # DIR
	printf '%s\n' "$1/usr/lib64/ld-linux-x86-64.so.2" --library-path "$1/usr/lib/x86_64-linux-gnu" \
		"$1/usr/bin/qemu-system-x86_64" -L "$1/usr/share/qemu"
}

# Copies modules with all they depend on into DEST, and writes DEST/modules.list in load order.
modules_copy() { # KERNEL_DIR DEST MODULE...
	local kernel=$1 dest=$2 module path name
	shift 2
	mkdir -p "$dest"
	for module in "$@"; do
		modprobe -d "$kernel" -S "$(cat "$kernel/release")" --show-depends --ignore-install "$module" ||
			die 1 "kernel $(cat "$kernel/release") has no module $module"
	done | awk '$1 == "insmod" && !seen[$2]++ { print $2 }' >"$dest/.paths"
	: >"$dest/modules.list"
	while read -r path; do
		name=$(basename "$path" | sed 's/\.ko.*$//')
		case $path in
		*.xz) xz -dc "$path" >"$dest/$name.ko" ;;
		*.zst) zstd -qdc "$path" >"$dest/$name.ko" ;;
		*) cp "$path" "$dest/$name.ko" ;;
		esac
		echo "$name" >>"$dest/modules.list"
	done <"$dest/.paths"
	rm "$dest/.paths"
}

# What a stock kernel needs to come to the root file system of a virtio disk, and to its network.
# shellcheck disable=SC2034 # for those who source this
ROOT_MODULES=(virtio_pci virtio_blk virtio_net virtio_rng ext4)

# Packs a folder as an initramfs (uncompressed: the emulated CPU is slower at unpacking than at copying).
cpio_make() { # DIR OUT
	(cd "$1" && find . -mindepth 1 -print0 | LC_ALL=C sort -z |
		cpio --null -o -H newc -R 0:0 --quiet) >"$2.tmp"
	mv "$2.tmp" "$2"
}

# A Linux guest's RAM disk: our init and the modules it loads; with busybox for an init that is a script of it.
guest_initrd_make() { # KERNEL_DIR INIT OUT [MODULE...]
	local kernel=$1 init=$2 out=$3 tmp
	shift 3
	[ $# -gt 0 ] || set -- e1000e button evdev
	tmp=$(mktemp -d)
	mkdir -p "$tmp/root/lib/modules"
	install -m 755 "$init" "$tmp/root/init"
	if head -n 1 "$init" | grep -q '^#!/bin/busybox'; then
		mkdir -p "$tmp/root/bin" "$tmp/root/dev" "$tmp/root/proc" "$tmp/root/sys" "$tmp/root/newroot"
		install -m 755 "$(command -v busybox)" "$tmp/root/bin/busybox"
	fi
	modules_copy "$kernel" "$tmp/root/lib/modules" "$@"
	sed 's|.*|/lib/modules/&.ko|' "$tmp/root/lib/modules/modules.list" >"$tmp/root/modules.list"
	rm "$tmp/root/lib/modules/modules.list"
	cpio_make "$tmp/root" "$out"
	rm -rf "$tmp"
}

# Two versions of molt that differ in name only, in build-demo/a and build-demo/b.
versions_build() {
	local v
	mkdir -p "$TOP_DIR/build-demo"
	for v in a b; do
		stage "building molt, version $v"
		(cd "$TOP_DIR" && cmake --preset release -B "build-demo/$v" "-DMOLT_VERSION_SUFFIX=-$v" &&
			cmake --build "build-demo/$v") >"$TOP_DIR/build-demo/build-$v.log" 2>&1 || {
			tail -n 30 "$TOP_DIR/build-demo/build-$v.log" >&2
			die 1 "build of version $v failed: all of it is in build-demo/build-$v.log"
		}
	done
}
