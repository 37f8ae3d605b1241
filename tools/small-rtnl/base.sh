#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Provide the base kernel: any 7.2.y. Prints the folder that holds it.
#
# KERNEL_SRC= names a source tree or tarball; otherwise Debian's
# linux-source-7.2 is downloaded through a private apt configuration, or
# kernel.org's tarball if no suite has it and the file checksums knows it.
#
# base.sh offers: a line for each 7.2.y that the mirrors have: its version, the
# package's, suite and mirror. base.sh files 7.2.6 LIST: the folder of that
# version with the files that LIST names, as far as it has them.

. "$(dirname "$0")/lib.sh"

# version_of MAKEFILE: V.P.S as the kernel's own Makefile says it
version_of()
{
	awk -F' *= *' '$1 == "VERSION" { v = $2 } $1 == "PATCHLEVEL" { p = $2 }
		$1 == "SUBLEVEL" { s = $2 }
		$1 == "EXTRAVERSION" { print v "." p "." s $2; exit }' "$1"
}

check_version()
{
	local makefile=$1/Makefile found

	[ -f "$makefile" ] || die "$2 holds no kernel source (no Makefile): name a Linux $BASE_SERIES tree or tarball with KERNEL_SRC="
	found=$(version_of "$makefile")
	case "$found" in
	"$BASE_SERIES".*-rc*) ;;
	"$BASE_SERIES".*) return 0 ;;
	esac
	die "$2 is Linux ${found:-of unknown version}, wanted any $BASE_SERIES.y: name another with KERNEL_SRC="
}

# publish FOLDER NAME: a folder appears under its final name only when whole
publish()
{
	check_version "$1" "$3"
	rm -rf "${CACHE:?}/$2"
	mv "$1" "$CACHE/$2"
	echo "$CACHE/$2"
}

unpack()
{
	local tarball=$1 name=$2 tmp

	need_space "$CACHE" 2500
	rm -rf "$CACHE"/tmp.unpack.*
	tmp=$(mktemp -d "$CACHE/tmp.unpack.XXXXXX")
	quietly "$tmp.log" "unpacking $(basename "$tarball")" \
		tar -C "$tmp" --strip-components=1 -xf "$tarball" ||
		die "$tarball cannot be unpacked: delete it and run 'make base' again"
	rm -f "$tmp.log"
	publish "$tmp" "$name" "$tarball"
}

KEYRING=/usr/share/keyrings/debian-archive-keyring.gpg
KERNEL_ORG=${KERNEL_ORG:-https://cdn.kernel.org/pub/linux/kernel}
PACKAGE=linux-source-$BASE_SERIES
INSTEAD="name a Linux $BASE_SERIES.y tree or tarball with KERNEL_SRC="

# The mirrors that this machine already trusts, from its own configuration
mirrors()
{
	# shellcheck disable=SC2016 # the format is apt's
	apt-get indextargets --format '$(SITE)' 'Created-By: Packages' |
		sort -u | grep -E '/debian/?$' || true
}

# apt_private DIR PROGRAM ARGUMENT...
apt_private()
{
	local dir=$1 program=$2

	shift 2
	"$program" -o Dir::Etc::sourcelist="$dir/sources.list" \
		-o Dir::Etc::sourceparts=/dev/null \
		-o Dir::Etc::preferencesparts=/dev/null \
		-o Dir::State::Lists="$dir/lists" -o Dir::Cache="$dir/cache" \
		-o APT::Get::List-Cleanup=0 -o APT::Sandbox::User=root \
		-o Acquire::Retries=3 "$@"
}

require_apt()
{
	command -v apt-get >/dev/null ||
		die "this is not Debian (no apt-get): unpack a Linux $BASE_SERIES.y source and name it with KERNEL_SRC="
	[ -f "$KEYRING" ] ||
		die "$KEYRING is missing: install debian-archive-keyring or use KERNEL_SRC="
}

# use_suite DIR SITE SUITE: read the index of one suite
use_suite()
{
	mkdir -p "$1/lists/partial" "$1/cache/archives/partial"
	echo "deb [signed-by=$KEYRING] $2 $3 main" >"$1/sources.list"
	quietly "$1/update.log" "looking for $PACKAGE in $3" apt_private "$1" apt-get update
}

download()
{
	local dir=$CACHE/apt site suite deb

	require_apt
	need_space "$CACHE" 3000
	for site in $(mirrors); do
		for suite in trixie-backports sid; do
			use_suite "$dir" "$site" "$suite" || continue
			(cd "$dir" && rm -f ./*.deb &&
			 quietly "$dir/download.log" "downloading $PACKAGE" \
				apt_private "$dir" apt-get download "$PACKAGE") ||
				continue
			deb=$(echo "$dir"/linux-source-*.deb)
			rm -rf "$dir/root"
			quietly "$dir/deb.log" "unpacking the package" \
				dpkg-deb -x "$deb" "$dir/root" || continue
			mv "$dir/root/usr/src/$PACKAGE.tar.xz" "$CACHE/"
			basename "$deb" >"$CACHE/$PACKAGE.origin"
			rm -rf "$dir"
			return 0
		done
	done
	download_tarball
}

# fetch URL FILE: python is there in any case, curl may not be
fetch()
{
	python3 -c 'import shutil, sys, urllib.request
with urllib.request.urlopen(sys.argv[1], timeout=60) as page, open(sys.argv[2], "wb") as file:
    shutil.copyfileobj(page, file)' "$1" "$2"
}

# Only a tarball whose checksum this repository keeps
download_tarball()
{
	local none="$PACKAGE was found in no Debian suite that this machine reaches" name sum
	local part=$CACHE/$PACKAGE.part page=$KERNEL_ORG/v${BASE_SERIES%%.*}.x

	name=$(sed -n "s/^[0-9a-f]\{64\}  \(linux-$BASE_SERIES\.[0-9]*\.tar\.xz\)\$/\1/p" \
		"$TOOLS/checksums" | sort -V | tail -n 1)
	[ -n "$name" ] ||
		die "$none, and tools/small-rtnl/checksums has no linux-$BASE_SERIES.y.tar.xz: add its line of $page/sha256sums.asc there once you have verified the signature of that file, or $INSTEAD"
	sum=$(sed -n "s/  $name\$//p" "$TOOLS/checksums" | tail -n 1)
	quietly "$CACHE/tarball.log" "downloading $name" fetch "$page/$name" "$part" || {
		rm -f "$part"
		die "$none: $INSTEAD"
	}
	echo "$sum  $part" | sha256sum --status -c || {
		rm -f "$part"
		die "$page/$name is not the file that tools/small-rtnl/checksums knows (its sha256 differs), so it was deleted: try again, or $INSTEAD"
	}
	mv "$part" "$CACHE/$PACKAGE.tar.xz"
	echo "$name" >"$CACHE/$PACKAGE.origin"
}

# Of packages of one version, the first suite's
offers()
{
	local dir=$CACHE/bases site suite

	require_apt
	mkdir -p "$dir"
	say "asking the mirrors which Linux $BASE_SERIES.y they offer"
	for site in $(mirrors); do
		for suite in trixie-backports trixie-backports-sloppy forky-backports \
			trixie forky sid experimental; do
			use_suite "$dir" "$site" "$suite" 2>/dev/null || continue
			apt_private "$dir" apt-cache madison "$PACKAGE" |
				sed -nE "s,^[^|]*\| *(($BASE_SERIES\.[0-9]+)-[^ ]*) .*,\2 \1 $suite $site,p"
		done
	done | awk '!seen[$1]++' | sort -V >"$dir/offers.new"
	[ -s "$dir/offers.new" ] ||
		die "$PACKAGE was found in no Debian suite that this machine reaches: there is no base to try"
	mv "$dir/offers.new" "$dir/offers"
	cat "$dir/offers"
}

# package_of VERSION: its file, from the cache or the mirror
package_of()
{
	local dir=$CACHE/bases package suite site name

	read -r _ package suite site < <(grep -F "$1 " "$dir/offers") ||
		die "no mirror offers Linux $1: run 'make bases'"
	name=${PACKAGE}_${package/:/%3a}_all.deb
	if [ ! -f "$dir/$name" ]; then
		need_space "$dir" 500
		mkdir -p "$dir/part"
		cd "$dir/part"
		if ! use_suite "$dir" "$site" "$suite" ||
			! quietly "$dir/download.log" "downloading $PACKAGE $package" \
				apt_private "$dir" apt-get download "$PACKAGE=$package" ||
			! mv "$name" "$dir/"; then
			die "$PACKAGE $package of $suite cannot be downloaded: see $dir/download.log"
		fi
	fi
	echo "$dir/$name"
}

# A list names files of every version: what this one lacks is no fault
files_of()
{
	local version=$1 list=$2 out=$CACHE/bases/$1 deb have=

	if cmp -s "$list" "$out/.list"; then
		echo "$out"
		return
	fi
	rm -rf "$out" "$out.tmp"
	mkdir -p "$out.tmp"
	[ ! -f "$CACHE/linux-$BASE_SERIES/Makefile" ] || have=$(version_of "$CACHE/linux-$BASE_SERIES/Makefile")
	if [ "$have" = "$version" ]; then
		tar -C "$CACHE/linux-$BASE_SERIES" -cf - --ignore-failed-read -T "$list" 2>/dev/null |
			tar -C "$out.tmp" -xf - || true
	else
		deb=$(package_of "$version")
		say "unpacking files of $(basename "$deb")"
		sed "s,^,$PACKAGE/," "$list" >"$out.tmp/.members"
		# It ends with 2 for a name that it does not find
		dpkg-deb --fsys-tarfile "$deb" | tar -xO "./usr/src/$PACKAGE.tar.xz" |
			tar -C "$out.tmp" --strip-components=1 -xJ -T "$out.tmp/.members" 2>/dev/null || true
		rm "$out.tmp/.members"
	fi
	check_version "$out.tmp" "${deb:-$CACHE/linux-$BASE_SERIES}"
	cp "$list" "$out.tmp/.list"
	mv "$out.tmp" "$out"
	echo "$out"
}

mkdir -p "$CACHE"
exec 9>"$CACHE/lock"
flock 9

case "${1:-}" in
'')
	;;
offers)
	offers
	exit
	;;
files)
	{ [ $# -eq 3 ] && [ -f "$3" ]; } || die "usage: base.sh files VERSION LIST"
	files_of "$2" "$3"
	exit
	;;
*)
	die "usage: base.sh [offers | files VERSION LIST]"
	;;
esac

if [ -n "${KERNEL_SRC:-}" ]; then
	if [ -d "$KERNEL_SRC" ]; then
		check_version "$KERNEL_SRC" "$KERNEL_SRC"
		(cd "$KERNEL_SRC" && pwd)
	elif [ -f "$KERNEL_SRC" ]; then
		tarball=$(cd "$(dirname "$KERNEL_SRC")" && pwd)/$(basename "$KERNEL_SRC")
		name=given-$(stat -c '%n %s %Y' "$tarball" | sha256sum | cut -c1-16)
		if [ -d "$CACHE/$name" ]; then
			echo "$CACHE/$name"
		else
			unpack "$tarball" "$name"
		fi
	else
		die "KERNEL_SRC=$KERNEL_SRC is neither a folder nor a file: name a Linux $BASE_SERIES tree or tarball"
	fi
	exit 0
fi

if [ -d "$CACHE/linux-$BASE_SERIES" ]; then
	check_version "$CACHE/linux-$BASE_SERIES" "$CACHE/linux-$BASE_SERIES"
	echo "$CACHE/linux-$BASE_SERIES"
	exit 0
fi
[ -f "$CACHE/linux-source-$BASE_SERIES.tar.xz" ] || download
unpack "$CACHE/linux-source-$BASE_SERIES.tar.xz" "linux-$BASE_SERIES"
rm -f "$CACHE/linux-source-$BASE_SERIES.tar.xz"
