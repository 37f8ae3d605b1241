#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# build.sh patched|stock debug|kasan|kcsan|off|um|FRAGMENT: build a kernel and
# its modules, print the path of the image. Quick when nothing changed.
#
# prod-qemu and prod-um are what 'make bench' measures; prod-on-qemu and
# prod-on-um, of the patched tree, have our option on. FRAGMENT is a file of
# options on top of base.config and qemu.config.

. "$(dirname "$0")/lib.sh"
# shellcheck source=kbuild.sh
. "$TOOLS/kbuild.sh"

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

# All that an image depends on
state()
{
	cat "${parts[@]}" "$TOOLS/build.sh" "$TOOLS/kbuild.sh"
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
[ "$tree" = patched ] || stock_tree
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
