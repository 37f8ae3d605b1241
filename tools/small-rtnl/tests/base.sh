#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Test base.sh and 'queue.py bases' against a mirror of our own: an apt-get and
# an apt-cache that answer from a folder, and a kernel.org that is one.

# shellcheck source=../lib.sh
. "$(dirname "$0")/../lib.sh"
# shellcheck source=says.sh
. "$TOOLS/tests/says.sh"

TMP=$(mktemp -d)
trap 'rm -rf "$TMP"' EXIT
REPO=$TMP/repo
export SMALL_RTNL_CACHE=$TMP/cache BUILD=$REPO/build KERNEL_ORG=file://$TMP/org
export GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_NOSYSTEM=1 MIRROR=$TMP/mirror
unset KERNEL_SRC SERIES

# source_of VERSION TEXT: a kernel of two files
source_of()
{
	local dir=$TMP/src/linux-source-7.2

	rm -rf "$TMP/src"
	mkdir -p "$dir/net"
	printf 'VERSION = 7\nPATCHLEVEL = 2\nSUBLEVEL = %s\nEXTRAVERSION =\n' "${1##*.}" >"$dir/Makefile"
	seq -f "line %g $2" 20 >"$dir/net/dev.c"
	seq 9 >"$dir/net/other.c"
}

# offer PACKAGE-VERSION SUITE TEXT: put a package on our mirror
offer()
{
	local root=$TMP/root deb=$MIRROR/linux-source-7.2_$1_all.deb

	source_of "${1%%-*}" "$3"
	rm -rf "$root"
	mkdir -p "$root/usr/src" "$root/DEBIAN" "$MIRROR"
	tar -C "$TMP/src" -cJf "$root/usr/src/linux-source-7.2.tar.xz" linux-source-7.2
	printf 'Package: linux-source-7.2\nVersion: %s\nArchitecture: all\nMaintainer: x <x@localhost>\nDescription: x\n' \
		"$1" >"$root/DEBIAN/control"
	dpkg-deb -b "$root" "$deb" >/dev/null
	echo " linux-source-7.2 | $1 | http://localhost/debian $2/main amd64 Packages" >>"$MIRROR/$2"
}

tarball()
{
	source_of "$1" same
	mkdir -p "$TMP/org/v7.x"
	mv "$TMP/src/linux-source-7.2" "$TMP/src/linux-$1"
	tar -C "$TMP/src" -cJf "$TMP/org/v7.x/linux-$1.tar.xz" "linux-$1"
}

mkdir -p "$REPO/tools/small-rtnl" "$REPO/patches/01-one" "$MIRROR" "$TMP/bin"
cp "$TOOLS"/{lib.sh,base.sh,queue.py} "$REPO/tools/small-rtnl/"
BASE=$REPO/tools/small-rtnl/base.sh
QUEUE=$REPO/tools/small-rtnl/queue.py
# The suite is the last word but one of the sources.list that -o names
cat >"$TMP/bin/apt-get" <<'EOS'
#!/bin/bash
list=$(printf '%s\n' "$@" | sed -n 's/^Dir::Etc::sourcelist=//p')
case "$*" in
*indextargets*) echo http://localhost/debian ;;
*update*) [ -f "$MIRROR/$(awk '{ print $(NF - 1) }' "$list")" ] ;;
*download*)
	version=${*: -1}
	echo download >>"$MIRROR/log"
	[ "$version" != "${version#*=}" ] ||
		version=x=$(sed -n '1s/^[^|]*| *\([^ ]*\).*/\1/p' "$MIRROR/$(awk '{ print $(NF - 1) }' "$list")")
	cp "$MIRROR/linux-source-7.2_${version#*=}_all.deb" .
	;;
esac
EOS
cat >"$TMP/bin/apt-cache" <<'EOS'
#!/bin/bash
list=$(printf '%s\n' "$@" | sed -n 's/^Dir::Etc::sourcelist=//p')
cat "$MIRROR/$(awk '{ print $(NF - 1) }' "$list")"
EOS
chmod +x "$TMP"/bin/*
PATH=$TMP/bin:$PATH
sed -i "s,^KEYRING=.*,KEYRING=$TMP/bin/apt-get," "$BASE"
# Its files are small
sed -i 's/^\(\t*\)need_space .*/\1:/' "$BASE"
printf '# none\n' >"$REPO/tools/small-rtnl/checksums"

check "no suite and no checksum: it says how to add one" \
	says 1 'error: linux-source-7.2 was found in no Debian suite' 'tools/small-rtnl/checksums has no' \
	'v7.x/sha256sums.asc' KERNEL_SRC= -- "$BASE"
tarball 7.2.4
tarball 7.2.30
echo "$(printf '%064d' 0)  linux-7.2.30.tar.xz" >>"$REPO/tools/small-rtnl/checksums"
check "a tarball with another checksum is refused" \
	says 1 'linux-7.2.30.tar.xz is not the file' KERNEL_SRC= -- "$BASE"
check "and nothing of it is kept" test ! -e "$TMP/cache/linux-source-7.2.part"
(cd "$TMP/org/v7.x" && sha256sum ./*.xz | sed 's,\./,,') >"$REPO/tools/small-rtnl/checksums"
mv "$TMP/org" "$TMP/away"
check "no access to kernel.org: what it said before there was a tarball" \
	says 1 'found in no Debian suite that this machine reaches: name a Linux 7.2.y tree' -- "$BASE"
mv "$TMP/away" "$TMP/org"
check "the newest tarball with its checksum becomes the base" says 0 "$TMP/cache/linux-7.2" -- "$BASE"
check "of that version" grep -qx 'SUBLEVEL = 30' "$TMP/cache/linux-7.2/Makefile"
rm -rf "$TMP/cache"

check "offers of no mirror" says 1 'error: linux-source-7.2 was found in no' -- "$BASE" offers
check "an argument that it does not know" says 1 'error: usage: base.sh' -- "$BASE" offer
check "a list that is not there" says 1 'error: usage: base.sh' -- "$BASE" files 7.2.1 "$TMP/none"
offer 7.2.9-1~bpo13+1 trixie-backports same
offer 7.2.6-1~bpo13+1 trixie-backports other
offer 7.2.9-1 sid same
offer 7.2.10-1 sid same
offer 7.3~rc2-1~exp1 sid other
check "offers" says 0 7.2.6-1~bpo13+1 -- "$BASE" offers
cut -d ' ' -f 1-3 "$TMP/cache/bases/offers" >"$TMP/out"
check "each version once, in order, none of another series" cmp "$TMP/out" - <<'EOF2'
7.2.6 7.2.6-1~bpo13+1 trixie-backports
7.2.9 7.2.9-1~bpo13+1 trixie-backports
7.2.10 7.2.10-1 sid
EOF2
echo net/dev.c >"$TMP/list"
check "files of a version that nobody offers" says 1 'error: no mirror offers Linux 7.2.1:' -- "$BASE" files 7.2.1 "$TMP/list"

source_of 7.2.9 same
cp -r "$TMP/src/linux-source-7.2" "$TMP/given"
sed 's/^line 10 .*/changed/' "$TMP/given/net/dev.c" >"$TMP/dev.c"
{
	printf 'net: Change it\n\nIt is needed.\n---\n\ndiff --git a/net/dev.c b/net/dev.c\n'
	diff -U3 --label a/net/dev.c --label b/net/dev.c "$TMP/given/net/dev.c" "$TMP/dev.c" || true
} >"$REPO/patches/01-one/0001-x.patch"
echo 0001-x.patch >"$REPO/patches/01-one/series"
check "bases without a tree" says 1 "error: build/linux is not a tree that 'make tree' made" -- "$QUEUE" bases
KERNEL_SRC=$TMP/given "$QUEUE" tree >"$TMP/out" 2>&1
check "bases: what fits, and the hunk that does not" says 1 'ok 7.2.9 (' 'ok 7.2.10 (sid, 7.2.10-1)' \
	'not ok 7.2.6: patches/01-one/0001-x.patch: net/dev.c, hunk 1 of 1 (@@' '2 passed, 1 failed, 0 skipped' \
	-- "$QUEUE" bases
: >"$MIRROR/log"
sed -i '/7.2.6/d' "$MIRROR/trixie-backports"
check "again, with what is cached" says 0 '2 passed, 0 failed, 0 skipped' -- "$QUEUE" bases
check "nothing was downloaded" test ! -s "$MIRROR/log"
check "the tree is what it was" git -C "$BUILD/linux" diff --quiet small-rtnl
finish
