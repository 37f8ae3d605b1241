# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash disable=SC2154 # variables of the scripts that source this
# Sourced by who compiles kernels: the base's tree, how make is called, and what
# Kconfig did with our options.

# base_tree NAME [PATCH]: the base without our series, in $BUILD/NAME; made from the
# tag, so that a rebuilt patched tree leaves it, and its objects, alone
base_tree()
(
	name=$1
	stock=$BUILD/$name

	[ -e "$BUILD/linux/.git" ] || die "there is no patched tree at $BUILD/linux: run 'make tree'"
	want=$(git -C "$BUILD/linux" rev-parse 'base^{tree}')
	[ -z "${2:-}" ] || want+=" $(sha256sum <"$2")"
	exec 8>"$BUILD/.lock-$name"
	flock 8
	[ "$(cat "$stock/.base-tree" 2>/dev/null)" != "$want" ] || return 0
	say "making the stock tree $stock"
	need_space "$BUILD" 3000
	rm -rf "$stock" "$stock.tmp"
	mkdir "$stock.tmp"
	git -C "$BUILD/linux" archive base | tar -C "$stock.tmp" -xf -
	if [ -n "${2:-}" ]; then
		patch -s -d "$stock.tmp" -p1 --no-backup-if-mismatch -i "$2" >&2 ||
			die "$2 does not apply to the base"
	fi
	echo "$want" >"$stock.tmp/.base-tree"
	mv "$stock.tmp" "$stock"
)

stock_tree()
{
	base_tree stock
}

# kmake ARGUMENT...: make in $src, for $arch, with $cc, and with $kconfig in place of
# the tree's own Kconfig. Nothing of the caller's environment or of an outer make may
# change a kernel. The objects, $obj, are a child of the tree: that makes kbuild name
# the sources "../", so that ccache finds an object of the other tree again.
kmake()
{
	env -i PATH="$PATH" HOME="$HOME" LC_ALL=C \
		CCACHE_DIR="$CACHE/ccache" CCACHE_BASEDIR="$src" \
		LOCALVERSION= CCACHE_NOHASHDIR=1 CCACHE_MAXSIZE=4G \
		CCACHE_SLOPPINESS=time_macros,include_file_mtime,include_file_ctime \
		make -C "$src" -j "$JOBS" O="$obj" ARCH="$arch" \
		CC="ccache ${cc:-gcc}" HOSTCC="ccache gcc" KBUILD_BUILD_VERSION=1 \
		KBUILD_BUILD_TIMESTAMP="Thu Jan  1 00:00:00 UTC 2026" \
		KBUILD_BUILD_USER=small-rtnl KBUILD_BUILD_HOST=small-rtnl \
		${kconfig:+"KBUILD_KCONFIG=$kconfig"} "$@"
}

# A function for PROGRESS=: how many objects of $wanted are in $obj
objects_there()
{
	local have

	have=$(cd "$obj" && find "${wanted[@]}" -newer .config 2>/dev/null | wc -l)
	echo "$have objects compiled of ${#wanted[@]}"
}

# check_config FRAGMENT... CONFIG: Kconfig drops what it cannot have without a
# word. A later fragment overrides an earlier one.
check_config()
{
	awk '
	function said(line) {
		if (line ~ /^CONFIG_[A-Za-z0-9_]+=/)
			return substr(line, 1, index(line, "=") - 1)
		if (line ~ /^# CONFIG_[A-Za-z0-9_]+ is not set$/)
			return substr(line, 3, length(line) - 13)
	}
	(name = said($0)) == "" { next }
	FILENAME == ARGV[ARGC - 1] { have[name] = $0; next }
	{ want[name] = $0; from[name] = FILENAME }
	END {
		for (name in want) {
			unset = "# " name " is not set"
			got = name in have ? have[name] : unset
			if (got == want[name])
				continue
			printf "error: Kconfig dropped %s, asked for in %s (it became: %s): add what it depends on there, or remove it\n",
				want[name], from[name], got
			bad = 1
		}
		exit bad
	}' "$@" >&2
}

# names DIR NAME: whether the Makefile of DIR, with the configuration in $obj, names
# this object, or this folder
names()
{
	# shellcheck disable=SC2016 # make's, not the shell's
	printf '%s\n' "include $obj/include/config/auto.conf" "srctree := $src" \
		"src := $src/$1" "obj := $1" "include $src/$1/Makefile" \
		'all-of = $(1) $($(1:.o=-objs)) $($(1:.o=-y)) $($(1:.o=-m))' \
		'small-rtnl-print:' \
		'	@echo $(foreach o,$(obj-y) $(obj-m),$(call all-of,$(o)))' |
		make -s -f - small-rtnl-print 2>/dev/null | tr ' ' '\n' |
		grep -xF -- "$2" >/dev/null
}

# entered DIR: whether kbuild enters it
declare -A is_entered
entered()
{
	local parent

	parent=$(dirname "$1")
	[ "$parent" != . ] || return 0
	if [ -z "${is_entered[$1]:-}" ]; then
		is_entered[$1]=no
		if entered "$parent" && names "$parent" "$(basename "$1")/"; then
			is_entered[$1]=yes
		fi
	fi
	[ "${is_entered[$1]}" = yes ]
}

# enabled OBJECT...: those that the configuration in $obj has. kbuild would compile
# the others, too, if it is asked to.
enabled()
{
	local name dir

	for name; do
		dir=$(dirname "$name")
		if entered "$dir" && names "$dir" "$(basename "$name")"; then
			echo "$name"
		fi
	done
	return 0
}
