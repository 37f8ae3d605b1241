#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# build.sh patched|stock debug|kasan|kcsan|off|um|FRAGMENT: build a kernel and
# its modules, print the path of the image. Quick when nothing changed.
#
# prod-qemu and prod-um are what 'make bench' measures; prod-on-qemu and
# prod-on-um, of the patched tree, have our option on. FRAGMENT is a file of
# options on top of base.config and qemu.config.

. "$(dirname "$0")/lib.sh"

[ $# -eq 2 ] || die "usage: build.sh patched|stock debug|kasan|kcsan|off|um|FRAGMENT"
tree=$1
config=$2
frags=$TOOLS/kernel-config
arch=x86_64
image=arch/x86/boot/bzImage

case "$config" in
debug | kasan | kcsan)
	parts=("$frags"/{base,drivers,drivers-qemu,qemu,debug}.config)
	[ "$config" = debug ] || parts+=("$frags/$config.config")
	;;
off)
	parts=("$frags"/{base,drivers,drivers-qemu,qemu,off}.config)
	;;
um)
	parts=("$frags"/{base,drivers,debug,um}.config)
	arch=um
	image=linux
	;;
prod-qemu | prod-on-qemu)
	parts=("$frags"/{base,qemu,prod,prod-qemu}.config)
	;;
prod-um | prod-on-um)
	parts=("$frags"/{base,um,prod,prod-um}.config)
	arch=um
	image=linux
	;;
*)
	[ -f "$config" ] ||
		die "CONFIG=$config is none of debug, kasan, kcsan, off, um and no file either: name one of them"
	parts=("$frags"/{base,qemu}.config "$config")
	config=own-$(basename "$config" .config)
	;;
esac

case "$tree" in
patched)
	src=$BUILD/linux
	[ -d "$src/.git" ] || die "there is no patched tree at $src: run 'make tree'"
	case "$config" in
	prod-on-*) parts+=("$frags/prod-on.config") ;;
	off | prod-*) ;;
	*) parts+=("$frags/patched.config") ;;
	esac
	;;
stock)
	src=$BUILD/stock
	;;
*)
	die "a kernel is 'patched' or 'stock', not '$tree'"
	;;
esac
obj=$src/.obj-$config

# The base without our series; made from the tag, so that a rebuilt patched
# tree leaves it, and its objects, alone
stock_tree()
{
	local want tmp=$BUILD/stock.tmp

	[ -d "$BUILD/linux/.git" ] || die "there is no patched tree at $BUILD/linux: run 'make tree'"
	want=$(git -C "$BUILD/linux" rev-parse 'base^{tree}')
	[ "$(cat "$src/.base-tree" 2>/dev/null)" != "$want" ] || return 0
	say "making the stock tree $src"
	need_space "$BUILD" 3000
	rm -rf "$src" "$tmp"
	mkdir "$tmp"
	git -C "$BUILD/linux" archive base | tar -C "$tmp" -xf -
	echo "$want" >"$tmp/.base-tree"
	mv "$tmp" "$src"
}

# All that an image depends on
state()
{
	cat "${parts[@]}" "$TOOLS/build.sh"
	gcc --version
	if [ "$tree" = stock ]; then
		cat "$src/.base-tree"
		return
	fi
	cd "$src"
	git rev-parse 'HEAD^{tree}'
	git diff HEAD
	git ls-files -z --others --exclude-standard | xargs -0r sha256sum
}

# kmake TARGET...: nothing of the caller's environment or of an outer make may
# change a kernel. The objects are a child of the tree: that makes kbuild name
# the sources "../", so that ccache finds an object of the other tree again.
kmake()
{
	env -i PATH="$PATH" HOME="$HOME" LC_ALL=C \
		CCACHE_DIR="$CACHE/ccache" CCACHE_BASEDIR="$src" \
		LOCALVERSION= CCACHE_NOHASHDIR=1 CCACHE_MAXSIZE=4G \
		CCACHE_SLOPPINESS=time_macros,include_file_mtime,include_file_ctime \
		make -C "$src" -j "$JOBS" O="$obj" ARCH="$arch" \
		CC="ccache gcc" HOSTCC="ccache gcc" KBUILD_BUILD_VERSION=1 \
		KBUILD_BUILD_TIMESTAMP="Thu Jan  1 00:00:00 UTC 2026" \
		KBUILD_BUILD_USER=small-rtnl KBUILD_BUILD_HOST=small-rtnl "$@"
}

# Kconfig drops what it cannot have without a word. A later fragment overrides
# an earlier one.
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

configure()
{
	local tmp=$obj/.config-wanted

	cat "${parts[@]}" >"$tmp.new"
	if [ -f "$obj/.config" ] && cmp -s "$tmp.new" "$tmp"; then
		quietly "$log-config.log" "checking the options" kmake olddefconfig
	else
		quietly "$log-config.log" "choosing the options" \
			kmake KCONFIG_ALLCONFIG="$tmp.new" allnoconfig
	fi || die "Kconfig failed for $config: see $log-config.log"
	if ! check_config "${parts[@]}" "$obj/.config"; then
		rm -f "$obj/.config"
		exit 1
	fi
	mv "$tmp.new" "$tmp"
}

build()
{
	local targets=(modules)

	[ "$arch" = um ] && targets+=(linux) || targets+=(bzImage)
	quietly "$log.log" "building the $tree $config kernel" kmake "${targets[@]}" ||
		die "the $tree $config kernel does not build: see $log.log"
	rm -rf "$obj/mods"
	quietly "$log-modules.log" "installing its modules" \
		kmake INSTALL_MOD_PATH="$obj/mods" INSTALL_MOD_STRIP=1 modules_install ||
		die "the modules of the $tree $config kernel do not install: see $log-modules.log"
}

for tool in gcc make flex bison bc ccache depmod; do
	command -v "$tool" >/dev/null || die "$tool is missing: run 'make deps'"
done
mkdir -p "$BUILD/log"
log=$BUILD/log/build-$tree-$config
exec 9>"$BUILD/.lock-$tree-$config"
flock -n 9 || { say "waiting for another build of $tree $config"; flock 9; }
if [ "$tree" = stock ]; then
	exec 8>"$BUILD/.lock-stock"
	flock 8
	stock_tree
	exec 8>&-
fi
mkdir -p "$obj"
now=$(state | sha256sum)
if [ "$(cat "$obj/.built" 2>/dev/null)" != "$now" ]; then
	need_space "$obj" 1500
	rm -f "$obj/.built"
	configure
	build
	echo "$now" >"$obj/.built"
	say "built $obj/$image"
fi
echo "$obj/$image"
