#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# make deb CONFIG=FILE: Debian packages of the patched kernel with our option on, from
# a configuration of the user's own, such as /boot/config-$(uname -r). Their version
# names the queue. They come to $BUILD/deb, and deb.sh prints the kernel's package.
#
# deb.sh plan: only look whether all that is needed is there.

. "$(dirname "$0")/lib.sh"
# shellcheck source=kbuild.sh
. "$TOOLS/kbuild.sh"

CONFIG=${CONFIG:-}
out=$BUILD/deb
src=$BUILD/linux
# dpkg-buildpackage leaves the packages in the folder above, which is the tree
obj=$src/.obj-deb
arch=x86_64
log=$BUILD/log/deb

check_arguments()
{
	local modules each=2

	[ -n "$CONFIG" ] ||
		die "whose kernel shall it be? Name its configuration: make deb CONFIG=/boot/config-$(uname -r), for example"
	[ -f "$CONFIG" ] || die "CONFIG=$CONFIG is not a file: name the configuration of a kernel"
	grep -q '^CONFIG_[A-Z0-9_]*=' "$CONFIG" ||
		die "CONFIG=$CONFIG holds no option like CONFIG_NET=y: name the configuration of a kernel, not compressed"
	[ "$(uname -m)" = x86_64 ] || die "this machine is $(uname -m), and packages are only made on and for x86_64"
	"$TOOLS/deps.sh" deb
	# Objects with debug information are several times as large
	! grep -qx 'CONFIG_DEBUG_INFO=y' "$CONFIG" || each=6
	modules=$(grep -c '=m$' "$CONFIG" || true)
	[ -e "$obj/vmlinux" ] || need_space "$BUILD" $((2000 + each * modules))
}

# The commit, unless what is built is not all of it
version_suffix()
{
	local commit

	commit=$(git -C "$TOP" rev-parse --short=7 HEAD 2>/dev/null) || commit=unknown
	if [ -n "$(git -C "$TOP" status --porcelain -- patches net drivers include 2>/dev/null)" ] ||
		! git -C "$src" diff --quiet HEAD; then
		commit+=-changed
	fi
	echo "-small-rtnl-$commit"
}

configure()
{
	# A distribution's keys are in its own tree only
	printf '%s\n' CONFIG_NET_SMALL_RTNL=y "CONFIG_LOCALVERSION=\"$suffix\"" \
		'# CONFIG_LOCALVERSION_AUTO is not set' CONFIG_SYSTEM_TRUSTED_KEYS='""' \
		CONFIG_SYSTEM_REVOCATION_KEYS='""' |
		cat "$CONFIG" - >"$obj/.config"
	quietly "$log-config.log" "choosing the options" kmake olddefconfig ||
		die "Kconfig does not read CONFIG=$CONFIG: see $log-config.log"
	grep -qx CONFIG_NET_SMALL_RTNL=y "$obj/.config" ||
		die "a kernel of CONFIG=$CONFIG has no CONFIG_NET_SMALL_RTNL, which depends on CONFIG_NET: switch that on there"
	if grep -qx CONFIG_DEBUG_INFO_BTF=y "$CONFIG" && ! grep -qx CONFIG_DEBUG_INFO_BTF=y "$obj/.config"; then
		say "CONFIG_DEBUG_INFO_BTF is gone, as pahole is older than this kernel asks for: BPF programs that need BTF will not load"
	fi
}

case "${1:-}" in
'' | plan) ;;
*) die "usage: deb.sh [plan]" ;;
esac
check_arguments
[ "${1:-}" != plan ] || exit 0

[ -e "$src/.git" ] || die "there is no patched tree at $src: run 'make tree'"
mkdir -p "$BUILD/log" "$obj" "$out"
exec 9>"$BUILD/.lock-deb"
flock -n 9 || die "another make deb is at work in $BUILD: wait for it, or set BUILD="
suffix=$(version_suffix)
configure
quietly "$log.log" "building the packages: hours for a distribution's configuration" \
	kmake DEB_BUILD_PROFILES=pkg.linux-upstream.nokerneldbg KDEB_CHANGELOG_DIST=unstable bindeb-pkg ||
	die "the packages do not build: see $log.log"
# No headers without modules
find "$src" -maxdepth 1 -name "linux-*${suffix}_*.deb" -exec mv -t "$out" {} +
# Headers for user space are none of ours
rm -f "$src"/linux-libc-dev_*.deb "$src"/linux-upstream_*
say "to try it: apt-get install $out/linux-image-*$suffix"'_*.deb'", then boot it; README.md says how to see that it works, and how to go back"
echo "$out"/linux-image-*"$suffix"_*.deb
