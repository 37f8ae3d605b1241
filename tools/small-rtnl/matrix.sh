#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# matrix.sh all|COMPILER-ARCH-OPTION-HOW...: compile each C file that the series
# touches, with W=1 and sparse: by gcc or clang, for x86_64 or i386, with our
# option on or off, as module (m) or built in (y). All are sixteen.
#
# Any warning fails that the base does not have, too.
#
# Some functions are called through quietly(), which shellcheck does not see:
# shellcheck disable=SC2317

. "$(dirname "$0")/lib.sh"
# shellcheck source=kbuild.sh
. "$TOOLS/kbuild.sh"

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
[ -e "$src/.git" ] || die "there is no patched tree at $src: run 'make tree'"

[ $# -gt 0 ] || die "usage: matrix.sh all|COMPILER-ARCH-OPTION-HOW..."
names=("$@")
if [ "$1" = all ]; then
	names=({gcc,clang}-{x86_64,i386}-{on,off}-{m,y})
fi

# Test suites are included by the file that they test
mapfile -t objects < <(git -C "$src" diff --name-only --diff-filter=AM base HEAD -- \
	'drivers/**.c' 'net/**.c' | grep -v '_test\.c$' | sed 's/\.c$/.o/')

configure()
{
	local parts=("$frags"/{base,drivers,qemu,matrix}.config)

	[ "$option" = off ] || parts+=("$frags"/{debug,patched}.config)
	mkdir -p "$obj"
	cat "${parts[@]}" | sed "s/=m\$/=$how/" >"$obj/wanted"
	[ "$arch" = x86_64 ] || sed -i '/CONFIG_64BIT=/d' "$obj/wanted"
	# Nothing stops at an error in what is called as a condition
	kmake -s KCONFIG_ALLCONFIG="$obj/wanted" allnoconfig &&
		{ [ "$src" != "$BUILD/linux" ] || check_config "$obj/wanted" "$obj/.config"; } &&
		kmake -s modules_prepare
}

# compile LOG OBJECT...: what gcc or clang and sparse say about these goes to
# LOG, the lines that count to LOG.warnings
compile()
{
	local log=$1 obj=$src/.obj-matrix-$name wanted rc=0

	shift
	: >"$log"
	quietly "$log-config.log" "configuring $name in $src" configure || return
	mapfile -t wanted < <(enabled "$@")
	# An object that is there would not warn again
	(cd "$obj" && rm -f "${wanted[@]}")
	PROGRESS=objects_there quietly "$log" \
		"compiling ${#wanted[@]} of $# touched files for $name" \
		kmake -s -k W=1 C=1 CHECK="$sparse" "${wanted[@]}" || rc=$?
	grep -aE '(warning|error):' "$log" | grep -v ': error: bad constant expression$' |
		sed -E 's,^(\.\./)+,,' | sort -u >"$log.warnings" || true
	return "$rc"
}

# new_warnings LOG: those in LOG.warnings that the base does not have
new_warnings()
{
	local src=$BUILD/stock suspects

	[ -s "$1.warnings" ] || return 0
	mapfile -t suspects < <(sed -n 's/^\([^:]*\)\.c:.*/\1.o/p' "$1.warnings" | sort -u)
	stock_tree
	compile "$1-stock" "${suspects[@]}" || true
	not_known "$1-stock.warnings" "$1.warnings" | not_at_a_line_of_the_base
}

# A warning about a header does not tell which file includes it, so that stock's
# could be compiled. It is the base's if the base's header has that line.
not_at_a_line_of_the_base()
{
	local warning file number rest

	while IFS= read -r warning; do
		IFS=: read -r file number rest <<<"$warning"
		if [[ $file != *.h ]] || [ -z "$rest" ] ||
			! git -C "$BUILD/linux" show "base:$file" 2>/dev/null |
				grep -xF -- "$(sed -n "${number}p" "$BUILD/linux/$file")" >/dev/null; then
			echo "$warning"
		fi
	done
}

# not_known KNOWN WARNINGS: those that are new, wherever they stand
not_known()
{
	awk '{ text = $0; sub(/:[0-9]+:[0-9]+:/, ":", text) }
		FILENAME == ARGV[1] { known[text]; next }
		!(text in known)' "$1" "$2"
}

# Sets cc, arch, option and how
parse_name()
{
	IFS=- read -r cc arch option how <<<"$1"
	[[ $cc-$arch-$option-$how =~ ^(gcc|clang)-(x86_64|i386)-(on|off)-(m|y)$ ]] ||
		die "'$1' is no COMPILER-ARCH-OPTION-HOW like gcc-x86_64-on-m"
	[ "$cc" = gcc ] || cc=$clang
}

# bisect.sh takes the functions
[ "${BASH_SOURCE[0]}" = "$0" ] || return 0

for name in "${names[@]}"; do
	parse_name "$name"
	log=$BUILD/log/matrix-$name
	mkdir -p "$BUILD/log"
	rc=0
	if compile "$log" "${objects[@]}"; then
		new_warnings "$log" >"$log.new"
		[ ! -s "$log.new" ] || rc=1
	else
		rc=1
		tail -q -n 30 "$log-config.log" "$log" >"$log.new"
	fi
	result "$rc" "$name: the touched files that it has compile without a new warning" "$log.new"
done
finish
