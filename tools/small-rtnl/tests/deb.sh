#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Test make deb: what it says to wrong input, and that the kernel of a package that it
# makes boots under QEMU with the package's modules, and shares.
#
# The tests are called through check(), which shellcheck does not see:
# shellcheck disable=SC2317

# shellcheck source=../lib.sh
. "$(dirname "$0")/../lib.sh"
# shellcheck source=../kbuild.sh
. "$TOOLS/kbuild.sh"
# shellcheck source=says.sh
. "$TOOLS/tests/says.sh"

TMP=$(mktemp -d "${TMPDIR:-/tmp}/small-rtnl-deb.XXXXXX")
trap 'rm -rf "$TMP"' EXIT
: >"$TMP/out"
deb=$TOOLS/deb.sh
src=$BUILD/linux
arch=x86_64
obj=$src/.obj-deb-test
unset CONFIG

# program NAME: standard input becomes one that takes the place of the real one
program()
{
	mkdir -p "$TMP/bin"
	{
		echo '#!/bin/sh'
		cat
	} >"$TMP/bin/$1"
	chmod 755 "$TMP/bin/$1"
}

# with_programs COMMAND...: and once only
with_programs()
{
	local rc=0

	PATH=$TMP/bin:$PATH "$@" || rc=$?
	rm -rf "${TMP:?}/bin"
	return "$rc"
}

full_disk()
{
	program df <<-'DF'
	printf 'Avail\n12\n'
	DF
	CONFIG=$TMP/config BUILD=$TMP/empty with_programs "$deb" plan
}

not_root()
{
	program dpkg-query <<-'QUERY'
	exit 1
	QUERY
	program id <<-'ID'
	echo 1000
	ID
	CONFIG=$TMP/config with_programs "$deb" plan
}

small_config()
{
	mkdir -p "$obj"
	cat "$TOOLS"/kernel-config/{base,qemu}.config >"$TMP/wanted"
	kmake KCONFIG_ALLCONFIG="$TMP/wanted" allnoconfig >"$TMP/out" 2>&1 &&
		cp "$obj/.config" "$TMP/config"
}

no_net()
{
	sed 's/^CONFIG_NET=y/# CONFIG_NET is not set/' "$TMP/config" >"$TMP/no-net"
	CONFIG=$TMP/no-net "$deb"
}

# make_deb: leaves the package's content in $TMP/root
make_deb()
{
	local name

	name=$(CONFIG=$TMP/config "$deb" 2>"$TMP/out") || return
	dpkg-deb -x "$name" "$TMP/root" || return
	cat "$TMP/out"
}

boots()
{
	local kernel release

	kernel=$(echo "$TMP"/root/boot/vmlinuz-*)
	release=${kernel##*/vmlinuz-}
	cat >"$TMP/script" <<-GUEST
	set -e
	uname -r
	[[ $release == *-small-rtnl-* ]] && [ "\$(uname -r)" = "$release" ]
	ip netns add a
	ip netns add b
	ip -n a link add a0 type veth peer name b0 netns b
	ip -n b link delete b0
	ip netns delete a
	ip netns delete b
	cat /sys/kernel/debug/rtnl/{sections,handlers}
	[ -d /sys/kernel/tracing/events/rtnl_net ]
	awk '\$1 == "shared" { exit !\$2 }' /sys/kernel/debug/rtnl/sections
	GUEST
	KERNEL=$kernel MODULES=$TMP/root MACHINE=qemu SCRIPT=$TMP/script \
		LOG=$BUILD/log/deb-console.log TIMEOUT=${TIMEOUT:-600} "$TOOLS/vm.sh" >"$TMP/out" 2>&1
}

[ -e "$src/.git" ] || die "there is no patched tree at $src: run 'make tree'"
echo "foo" >"$TMP/text"
check "no configuration" says 1 "Name its configuration: make deb CONFIG=" -- "$deb"
check "a configuration that is not there" \
	says 1 "$TMP/none is not a file" -- env CONFIG="$TMP/none" "$deb"
check "what is no configuration" says 1 "holds no option like" -- env CONFIG="$TMP/text" "$deb"
check "a small configuration" small_config
check "the disk is full" says 1 "has 12 MB free and this step needs" -- full_disk
check "packages are missing, and who builds may not install them" \
	says 1 "as root, run: apt-get install" debhelper -- not_root
check "a kernel without network" says 1 "depends on CONFIG_NET: switch that on" -- no_net
check "packages" make_deb
if [ -d "$TMP/root" ]; then
	check "the kernel in them boots, and has shared sections" boots
else
	skip "the kernel in them boots" "there are none"
fi
rm -rf "$obj"
finish
