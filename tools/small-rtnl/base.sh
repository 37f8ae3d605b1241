#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Provide the base kernel: any 7.2.y. Prints the folder that holds it.
#
# KERNEL_SRC= names a source tree or tarball; otherwise Debian's
# linux-source-7.2 is downloaded through a private apt configuration.

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

# The mirrors that this machine already trusts, from its own configuration
mirrors()
{
	# shellcheck disable=SC2016 # the format is apt's
	apt-get indextargets --format '$(SITE)' 'Created-By: Packages' |
		sort -u | grep -E '/debian/?$' || true
}

apt_private()
{
	local dir=$1

	shift
	apt-get -o Dir::Etc::sourcelist="$dir/sources.list" \
		-o Dir::Etc::sourceparts=/dev/null \
		-o Dir::Etc::preferencesparts=/dev/null \
		-o Dir::State::Lists="$dir/lists" -o Dir::Cache="$dir/cache" \
		-o APT::Get::List-Cleanup=0 -o APT::Sandbox::User=root \
		-o Acquire::Retries=3 "$@"
}

download()
{
	local keyring=/usr/share/keyrings/debian-archive-keyring.gpg
	local dir=$CACHE/apt site suite deb

	command -v apt-get >/dev/null ||
		die "this is not Debian (no apt-get): unpack a Linux $BASE_SERIES.y source and name it with KERNEL_SRC="
	[ -f "$keyring" ] ||
		die "$keyring is missing: install debian-archive-keyring or use KERNEL_SRC="
	need_space "$CACHE" 3000
	for site in $(mirrors); do
		for suite in trixie-backports sid; do
			mkdir -p "$dir/lists/partial" "$dir/cache/archives/partial"
			echo "deb [signed-by=$keyring] $site $suite main" >"$dir/sources.list"
			quietly "$dir/update.log" "looking for linux-source-$BASE_SERIES in $suite" \
				apt_private "$dir" update || continue
			(cd "$dir" && rm -f ./*.deb &&
			 quietly "$dir/download.log" "downloading linux-source-$BASE_SERIES" \
				apt_private "$dir" download "linux-source-$BASE_SERIES") ||
				continue
			deb=$(echo "$dir"/linux-source-*.deb)
			rm -rf "$dir/root"
			quietly "$dir/deb.log" "unpacking the package" \
				dpkg-deb -x "$deb" "$dir/root" || continue
			mv "$dir/root/usr/src/linux-source-$BASE_SERIES.tar.xz" "$CACHE/"
			basename "$deb" >"$CACHE/linux-source-$BASE_SERIES.origin"
			rm -rf "$dir"
			return 0
		done
	done
	die "linux-source-$BASE_SERIES was found in no Debian suite that this machine reaches: name a Linux $BASE_SERIES.y tree or tarball with KERNEL_SRC="
}

mkdir -p "$CACHE"
exec 9>"$CACHE/lock"
flock 9

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
