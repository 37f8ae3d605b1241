#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# build.sh patched|stock|stock-events CONFIG: build a kernel and its modules, print the path of
# the image. Quick when nothing changed. stock-events is stock with bench's lock
# events. CONFIG is
#
# debug kasan kcsan off      for QEMU
# um um-kasan um-off         for User-mode Linux; um is debug there
# prod-qemu prod-um          what 'make bench' measures
# prod-on-qemu prod-on-um    the same with our option on, of the patched tree
# a file of options on top of base.config and qemu.config

. "$(dirname "$0")/lib.sh"
# shellcheck source=kbuild.sh
. "$TOOLS/kbuild.sh"

[ $# -eq 2 ] || die "usage: build.sh patched|stock|stock-events debug|kasan|kcsan|off|um|um-kasan|um-off|FRAGMENT"
tree=$1
config=$2
frags=$TOOLS/kernel-config
arch=x86_64
image=arch/x86/boot/bzImage

case "$config" in
debug | kasan)
	parts=("$frags"/{base,drivers,qemu,debug}.config)
	[ "$config" = debug ] || parts+=("$frags/$config.config")
	;;
kcsan)
	parts=("$frags"/{base,drivers,qemu,kcsan}.config)
	;;
off)
	parts=("$frags"/{base,drivers,qemu,off}.config)
	;;
um | um-kasan)
	parts=("$frags"/{base,drivers,debug,um}.config)
	[ "$config" = um ] || parts+=("$frags/kasan.config")
	arch=um
	image=linux
	;;
um-off)
	parts=("$frags"/{base,drivers,um,um-off}.config)
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
		die "CONFIG=$config is none of debug, kasan, kcsan, off, um, um-kasan, um-off and no file either: name one of them"
	parts=("$frags"/{base,qemu}.config "$config")
	config=own-$(basename "$config" .config)
	;;
esac

case "$tree" in
patched)
	src=$BUILD/linux
	[ -e "$src/.git" ] || die "there is no patched tree at $src: run 'make tree'"
	case "$config" in
	prod-on-* | kcsan) parts+=("$frags/prod-on.config") ;;
	off | um-off | prod-*) ;;
	*) parts+=("$frags/patched.config") ;;
	esac
	;;
stock | stock-events)
	src=$BUILD/$tree
	;;
*)
	die "a kernel is 'patched', 'stock' or 'stock-events', not '$tree'"
	;;
esac
obj=$src/.obj-$config
# User-mode Linux allows no more than 64 CPUs, but nothing there depends on that
kconfig=
[[ $config != prod*-um ]] || kconfig=$obj/Kconfig

# All that an image depends on
state()
{
	cat "${parts[@]}" "$TOOLS/build.sh" "$TOOLS/kbuild.sh"
	gcc --version
	if [ "$tree" != patched ]; then
		cat "$src/.base-tree"
		return
	fi
	cd "$src"
	git rev-parse 'HEAD^{tree}'
	git diff HEAD
	git ls-files -z --others --exclude-standard | xargs -0r sha256sum
}

configure()
{
	local tmp=$obj/.config-wanted

	# Of two defaults the first one counts
	[ -z "$kconfig" ] ||
		sed '/^mainmenu /a config NR_CPUS_RANGE_END\n\tint\n\tdefault 256' "$src/Kconfig" >"$kconfig"
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

objects()
{
	find "$obj" -name '*.o' "$@" | wc -l
}

# Of how many objects a kernel consists is known only when it is built. The last
# build here tells, or the one that kernel-config/sizes was made from.
expected()
{
	cat "$obj/.objects" 2>/dev/null ||
		awk -v config="$config" '$1 == config { print $2 }' "$frags/sizes"
}

objects_done()
{
	local all

	all=$(expected)
	echo "$(objects -newer "$obj/.started") objects compiled of $about ${all:-an unknown number}"
}

build()
{
	local targets=(modules) about=about

	touch "$obj/.started"
	# What is not compiled again does not count
	[ ! -s "$obj/.objects" ] || about="at most"

	[ "$arch" = um ] && targets+=(linux) || targets+=(bzImage)
	PROGRESS=objects_done quietly "$log.log" "building the $tree $config kernel" kmake "${targets[@]}" ||
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
case "$tree" in
stock) stock_tree ;;
stock-events) base_tree "$tree" "$TOOLS/bench/stock-events.patch" ;;
esac
mkdir -p "$obj"
now=$(state | sha256sum)
if [ "$(cat "$obj/.built" 2>/dev/null)" != "$now" ]; then
	need_space "$obj" 1500
	rm -f "$obj/.built"
	configure
	build
	objects >"$obj/.objects"
	echo "$now" >"$obj/.built"
	say "built $obj/$image, $(cat "$obj/.objects") objects, $(objects -newer "$obj/.started") of them compiled now"
fi
echo "$obj/$image"
