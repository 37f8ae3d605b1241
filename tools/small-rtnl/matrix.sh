#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# matrix.sh all|COMPILER-ARCH-OPTION-HOW...: compile each C file that the series
# touches, with W=1 and sparse: by gcc or clang, for x86_64 or i386, with our
# option on or off, as module (m) or built in (y). All are sixteen.
#
# Any warning fails.
#
# Some functions are called through quietly(), which shellcheck does not see:
# shellcheck disable=SC2317

. "$(dirname "$0")/lib.sh"
# shellcheck source=tap.sh
. "$TOOLS/tap.sh"

frags=$TOOLS/kernel-config
# Debian's sparse is too old for this word, without which kbuild would not use
# it, and takes MODULE_AUTHOR() and the like for an error
sparse="sparse -D__typeof_unqual__=__typeof__"
src=$BUILD/linux

clang=$(compgen -c clang- | grep -E '^clang-[0-9]+$' | sort -t - -k 2 -n | tail -n 1 || true)
[ -n "$clang" ] || die "clang is missing: run 'make deps'"
for tool in gcc ccache sparse; do
	command -v "$tool" >/dev/null || die "$tool is missing: run 'make deps'"
done
[ -d "$src/.git" ] || die "there is no patched tree at $src: run 'make tree'"

[ $# -gt 0 ] || die "usage: matrix.sh all|COMPILER-ARCH-OPTION-HOW..."
names=("$@")
if [ "$1" = all ]; then
	names=({gcc,clang}-{x86_64,i386}-{on,off}-{m,y})
fi

# Test suites are included by the file that they test
mapfile -t objects < <(git -C "$src" diff --name-only --diff-filter=AM base HEAD -- \
	'drivers/**.c' 'net/**.c' | grep -v '_test\.c$' | sed 's/\.c$/.o/')

# kmake OBJ ARCH CC TARGET...
kmake()
{
	local obj=$1 arch=$2 cc=$3

	shift 3
	env -i PATH="$PATH" HOME="$HOME" LC_ALL=C CCACHE_DIR="$CACHE/ccache" \
		CCACHE_BASEDIR="$src" CCACHE_NOHASHDIR=1 CCACHE_MAXSIZE=4G \
		CCACHE_SLOPPINESS=time_macros,include_file_mtime,include_file_ctime \
		make -s -C "$src" -j "$JOBS" O="$obj" ARCH="$arch" CC="ccache $cc" \
		HOSTCC="ccache gcc" CHECK="$sparse" "$@"
}

configure()
{
	local obj=$1 arch=$2 cc=$3 option=$4 how=$5
	local parts=("$frags"/{base,drivers,drivers-qemu,qemu,matrix}.config)

	[ "$option" = off ] || parts+=("$frags"/{debug,patched}.config)
	mkdir -p "$obj"
	cat "${parts[@]}" | sed "s/=m\$/=$how/" >"$obj/wanted"
	[ "$arch" = x86_64 ] || sed -i '/CONFIG_64BIT=/d' "$obj/wanted"
	kmake "$obj" "$arch" "$cc" KCONFIG_ALLCONFIG="$obj/wanted" allnoconfig
	# What Kconfig drops is not compiled as it should be
	grep '^CONFIG_[A-Z0-9_]*=[ym]$' "$obj/wanted" | sort -u |
		grep -vxFf "$obj/.config" >"$obj/dropped" || true
	kmake "$obj" "$arch" "$cc" modules_prepare
}

warnings()
{
	grep -aE '(warning|error):' "$1" | grep -v ': error: bad constant expression$' |
		sed -E 's,^(\.\./)+,,' | sort -u || true
}

for name in "${names[@]}"; do
	IFS=- read -r cc arch option how <<<"$name"
	[[ $cc-$arch-$option-$how =~ ^(gcc|clang)-(x86_64|i386)-(on|off)-(m|y)$ ]] ||
		die "'$name' is no COMPILER-ARCH-OPTION-HOW like gcc-x86_64-on-m"
	[ "$cc" = gcc ] || cc=$clang
	obj=$src/.obj-matrix-$name
	log=$BUILD/log/matrix-$name
	mkdir -p "$BUILD/log"
	rc=0
	quietly "$log-config.log" "configuring $name" \
		configure "$obj" "$arch" "$cc" "$option" "$how" || rc=1
	if [ "$rc" = 0 ]; then
		quietly "$log.log" "compiling ${#objects[@]} files for $name" \
			kmake "$obj" "$arch" "$cc" -k W=1 C=1 "${objects[@]}" || rc=1
		warnings "$log.log" >"$log.warnings"
		[ ! -s "$log.warnings" ] || rc=1
		[ ! -s "$obj/dropped" ] || {
			sed 's/^/error: Kconfig dropped /' "$obj/dropped" >>"$log.warnings"
			rc=1
		}
	fi
	tail -n 30 "$log.log" >>"$log.warnings"
	result "$rc" "$name: ${#objects[@]} files compile without a warning" "$log.warnings"
done
finish
