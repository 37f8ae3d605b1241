#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# deps.sh [cni|deb]: make sure that all programs and headers needed are there, or
# those that only this test or command needs. Installs Debian packages if root may and
# something is missing, else says what to install.

. "$(dirname "$0")/lib.sh"

packages=(gcc make libc6-dev flex bison bc libelf-dev libssl-dev zlib1g-dev cpio
	kmod rsync xz-utils ccache dwarves sparse shellcheck git patch perl jq
	python3 python3-yaml qemu-system-x86 seabios busybox-static iproute2
	iputils-ping ethtool libmnl-dev gnuplot-nox libcap2-bin procps util-linux
	debian-archive-keyring clang-19 spin)
commands=(gcc make flex bison bc cpio depmod rsync xz ccache pahole sparse
	shellcheck git patch perl jq python3 gnuplot qemu-system-x86_64 busybox ip
	ping ethtool setsid unshare flock spin)
headers="(and the headers of libelf, openssl and libmnl)"

case "${1:-}" in
'')
	;;
cni)
	packages=(containernetworking-plugins)
	headers=
	# The guest runs them from where Debian has them
	commands=(/usr/lib/cni/{bridge,ptp,macvlan,ipvlan,vlan,host-local})
	;;
deb)
	# What a distribution's configuration needs, too
	packages=(dpkg-dev debhelper rsync openssl libelf-dev libssl-dev libdw-dev)
	commands=(dpkg-buildpackage dh rsync openssl)
	headers="(packages are made on Debian and the like only)"
	;;
*)
	die "usage: deps.sh [cni|deb]"
	;;
esac

missing_commands()
{
	local tool

	for tool in "${commands[@]}"; do
		command -v "$tool" >/dev/null || printf '%s ' "$tool"
	done
}

missing_packages()
{
	local package

	for package in "${packages[@]}"; do
		dpkg-query -W -f '${Status}' "$package" 2>/dev/null |
			grep -q 'ok installed' || printf '%s ' "$package"
	done
}

# ip and others are not in the PATH of everybody
PATH=$PATH:/usr/sbin:/sbin

if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
	missing=$(missing_commands)
	[ -z "$missing" ] ||
		die "this is not Debian, so install by hand what provides: $missing$headers"
	exit 0
fi

missing=$(missing_packages)
[ -n "$missing" ] || exit 0
[ "$(id -u)" -eq 0 ] ||
	die "packages are missing; as root, run: apt-get install --no-install-recommends $missing"
read -ra list <<<"$missing"
export DEBIAN_FRONTEND=noninteractive
install=(apt-get install -y --no-install-recommends "${list[@]}")
log=$BUILD/log/deps.log
need_space /var/cache/apt 1000
quietly "$log" "updating the list of packages" apt-get update ||
	die "apt-get update failed: see $log"
quietly "$log" "installing $missing" "${install[@]}" ||
	die "installing failed, see $log; then run: ${install[*]}"
