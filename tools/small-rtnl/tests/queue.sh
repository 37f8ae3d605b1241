#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Test queue.py on a base of a few files, so that it takes seconds.
# Each test starts from the same queue: two series, three patches, one new
# file, and a build/linux that agrees with it.

# shellcheck source=../lib.sh
. "$(dirname "$0")/../lib.sh"

TMP=$(mktemp -d)
trap 'rm -rf "$TMP"' EXIT
export GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_NOSYSTEM=1
export GIT_AUTHOR_NAME=Dev GIT_AUTHOR_EMAIL=dev@localhost
export GIT_COMMITTER_NAME=Dev GIT_COMMITTER_EMAIL=dev@localhost
export SMALL_RTNL_CACHE=$TMP/cache KERNEL_SRC=$TMP/base
REPO=$TMP/repo
# Here, or the caller's BUILD= would be used and changed
export BUILD=$REPO/build
LINUX=$BUILD/linux
unset OUT SERIES SIGNOFF

queue()
{
	"$REPO/tools/small-rtnl/queue.py" "$@" >"$TMP/out" 2>&1
}

# refuses COMMAND WORD...: it fails with one sentence that holds each word
refuses()
{
	local word

	if queue "$1"; then
		echo "# $1 succeeded"
		return 1
	fi
	shift
	[ "$(grep -c '^error: ' "$TMP/out")" -eq 1 ] || return 1
	for word in "$@"; do
		grep -qF -- "$word" "$TMP/out" || {
			echo "# no '$word' in the sentence"
			return 1
		}
	done
}

in_linux()
{
	git -C "$LINUX" "$@"
}

# change FILE TEXT: add a line in the middle of a file of build/linux
change()
{
	sed -i "10a $2" "$LINUX/$1"
}

record()
{
	in_linux add -A -f
	in_linux commit -q "$@"
}

clean()
{
	[ -z "$(git -C "$REPO" status --porcelain)" ]
}

make_base()
{
	local name

	mkdir -p "$1/net/core" "$1/drivers"
	printf 'VERSION = 7\nPATCHLEVEL = 2\nSUBLEVEL = %s\nEXTRAVERSION =\nNAME = x\n' "$2" >"$1/Makefile"
	for name in dev rtnl veth; do
		seq -f "line %g of $name" 40 >"$1/net/core/$name.c"
	done
	seq -f 'line %g' 20 >"$1/drivers/Kconfig"
	# As Debian's: it hides every new file from git status
	printf '*.o\n/*\n!/debian/\n' >"$1/.gitignore"
}

start()
{
	rm -rf "$REPO" "$TMP/base" "$TMP/cache"
	cp -r --preserve=timestamps "$TMP/start" "$REPO"
	cp -r --preserve=timestamps "$TMP/start-base" "$TMP/base"
}

# What every test starts from; it is made by export, from commits by hand
make_start()
{
	make_base "$TMP/base" 1
	cp -r --preserve=timestamps "$TMP/base" "$TMP/start-base"
	mkdir -p "$REPO/tools/small-rtnl" "$REPO/patches/01-core" "$REPO/patches/02-veth"
	cp "$TOOLS/lib.sh" "$TOOLS/base.sh" "$TOOLS/queue.py" "$REPO/tools/small-rtnl/"
	echo /build/ >"$REPO/.gitignore"
	printf 'net: The core\n\nIt comes first.\n' >"$REPO/patches/01-core/cover"
	printf 'net: A driver\n\nIt comes second.\n' >"$REPO/patches/02-veth/cover"
	printf '# The core\n' >"$REPO/patches/01-core/series"

	cp -r "$TMP/base" "$TMP/linux"
	mkdir -p "$BUILD"
	mv "$TMP/linux" "$LINUX"
	in_linux init -q -b small-rtnl
	record -m 'made by hand'
	in_linux tag base
	change net/core/dev.c 'added by one'
	record -m 'net: Add one line' -m 'It is needed.'
	echo '/* new */' >"$LINUX/net/core/new.c"
	chmod +x "$LINUX/net/core/new.c"
	change net/core/dev.c 'added by two'
	record -m 'net: Add a file' -m 'It is new.' -m 'Fixes: 123456789012 ("x")'
	change net/core/veth.c 'added by three'
	record -m 'veth: Change it' -m 'Series: 02-veth'
	queue export || return 1
	git -C "$REPO" init -q -b main
	git -C "$REPO" add -A
	git -C "$REPO" commit -q -m start
	mv "$REPO" "$TMP/start"
}

adopts_commits_made_by_hand()
{
	[ "$(cd "$REPO/patches" && ls -d -- */*.patch)" = "01-core/0001-net-Add-one-line.patch
01-core/0002-net-Add-a-file.patch
02-veth/0001-veth-Change-it.patch" ] || return 1
	[ -x "$REPO/net/core/new.c" ] || return 1
	grep -qx 'New-file: net/core/new.c' "$REPO"/patches/01-core/0002* || return 1
	! grep -qE '^(index|Series:|Patch-file:|diff .*new\.c)' "$REPO"/patches/*/*.patch || return 1
	grep -qx '# The core' "$REPO/patches/01-core/series" || return 1
	in_linux log --format=%B base.. | grep -x 'Patch-file: 02-veth/0001-veth-Change-it.patch' >/dev/null || return 1
	queue tree && clean
}

same_commits_every_time()
{
	local head

	rm -rf "$LINUX"
	queue tree || return 1
	head=$(in_linux rev-parse HEAD)
	rm -rf "$LINUX"
	queue tree && queue tree || return 1
	grep -q 'nothing to do' "$TMP/out" || return 1
	[ "$(in_linux rev-parse HEAD)" = "$head" ] || return 1
	[ "$(in_linux rev-list --count base..HEAD)" = 3 ] || return 1
	in_linux show -s --format=%s base | grep -x 'Linux 7.2.1' >/dev/null
}

round_trip_changes_nothing()
{
	local tree

	tree=$(in_linux rev-parse 'HEAD^{tree}')
	queue export && clean || return 1
	queue tree && clean || return 1
	rm -rf "$LINUX"
	queue tree && queue export && clean || return 1
	[ "$(in_linux rev-parse 'HEAD^{tree}')" = "$tree" ]
}

unchanged_files_keep_their_time()
{
	touch -d '2001-02-03' "$LINUX"/net/core/*.c
	in_linux status >/dev/null
	echo '/* newer */' >>"$REPO/net/core/new.c"
	sed -i 's/added by one/added by 1/' "$REPO"/patches/01-core/0001*
	sed -i 's/added by one/added by 1/' "$REPO"/patches/01-core/0002*
	queue tree || return 1
	grep -q 'added by 1' "$LINUX/net/core/dev.c" || return 1
	grep -q newer "$LINUX/net/core/new.c" || return 1
	[ "$(find "$LINUX/net" -name '*.c' -newermt 2002-01-01 | wc -l)" -eq 2 ]
}

names_the_hunk_that_fails()
{
	local head

	head=$(in_linux rev-parse HEAD)
	sed -i 's/^ line 12 of veth/ line 12 of Veth/' "$REPO"/patches/02-veth/0001*
	refuses tree patches/02-veth/0001-veth-Change-it.patch net/core/veth.c 'hunk 1 of 1' \
		'@@ -8,6 +8,7 @@' 'Linux 7.2.1 ' KERNEL_SRC= || return 1
	[ "$(in_linux rev-parse HEAD)" = "$head" ] && [ -z "$(in_linux status --porcelain)" ]
}

names_a_file_that_the_base_lacks()
{
	sed -i 's,net/core/veth.c,net/core/gone.c,' "$REPO"/patches/02-veth/0001*
	refuses tree patches/02-veth/0001 net/core/gone.c 'Linux 7.2.1'
}

another_base_shifts_but_rewrites_nothing()
{
	rm -rf "$TMP/base"
	make_base "$TMP/base" 2
	sed -i '1i a line on top\nand one more' "$TMP"/base/net/core/*.c
	queue tree || return 1
	in_linux show -s --format=%s base | grep -x 'Linux 7.2.2' >/dev/null || return 1
	[ "$(in_linux rev-list --count base..HEAD)" = 3 ] || return 1
	queue export && clean && queue tree && clean
}

never_any_fuzz()
{
	rm -rf "$TMP/base"
	make_base "$TMP/base" 2
	sed -i 's/^line 8 of veth/line 8 of VETH/' "$TMP/base/net/core/veth.c"
	refuses tree 0001-veth-Change-it.patch net/core/veth.c 'Linux 7.2.2'
}

keeps_commits_that_are_not_exported()
{
	change net/core/rtnl.c more
	record -m 'rtnl: More'
	refuses tree build/linux 'not exported' 'make export' || return 1
	in_linux log -1 --format=%s | grep -x 'rtnl: More' >/dev/null || return 1
	queue export && queue tree || return 1
	[ -f "$REPO/patches/02-veth/0002-rtnl-More.patch" ]
}

keeps_work_that_is_not_committed()
{
	change net/core/rtnl.c more
	refuses tree build/linux net/core/rtnl.c 'make export' || return 1
	refuses export build/linux net/core/rtnl.c 'commit' || return 1
	grep -q more "$LINUX/net/core/rtnl.c" || return 1
	in_linux checkout -q net/core/rtnl.c
	echo >"$LINUX/net/core/other.c"
	refuses export net/core/other.c 'git add -f' && clean || return 1
	mv "$LINUX/net/core/other.c" "$LINUX/net/core/other.o"
	queue export && clean
}

keeps_an_edit_of_the_repository()
{
	echo '/* mine */' >>"$REPO/net/core/new.c"
	refuses export net/core/new.c 'make tree' || return 1
	grep -q mine "$REPO/net/core/new.c" || return 1
	git -C "$REPO" checkout -q .
	sed -i 's/needed/wanted/' "$REPO"/patches/01-core/0001*
	refuses export patches/01-core/0001 'make tree' || return 1
	queue tree && queue export && grep -q wanted "$REPO"/patches/01-core/0001*
}

refuses_a_rebase_under_way()
{
	in_linux checkout -q --detach
	refuses tree build/linux small-rtnl && refuses export build/linux small-rtnl
}

# grow: the second series changes the first one's new file, twice
grow()
{
	seq -f 'line %g of new' 40 >"$LINUX/net/core/new.c"
	in_linux commit -q -a --fixup 'HEAD~1'
	GIT_SEQUENCE_EDITOR=true in_linux rebase -q -i --autosquash base || return 1
	change net/core/new.c 'added by four'
	sed -i '/^line 40 /d' "$LINUX/net/core/new.c"
	chmod -x "$LINUX/net/core/new.c"
	record -m 'veth: Grow it'
	change net/core/new.c 'added by five'
	sed -i 's/added by four/changed by five/' "$LINUX/net/core/new.c"
	record -m 'veth: Grow it again'
	queue export || return 1
	git -C "$REPO" commit -qam grown
	git -C "$REPO" add -A
	git -C "$REPO" commit -qm grown || true
}

a_new_file_grows()
{
	local trees

	grow || return 1
	trees=$(in_linux log --format=%T base..)
	[ "$(grep -l '^New-file: net/core/new.c' "$REPO"/patches/*/*.patch)" = "$REPO/patches/01-core/0002-net-Add-a-file.patch" ] ||
		return 1
	[ "$(grep -c '^diff --git a/net/core/new.c ' "$REPO"/patches/*/*.patch | grep -c ':1$')" -eq 2 ] || return 1
	cmp "$REPO/net/core/new.c" "$LINUX/net/core/new.c" && [ ! -x "$REPO/net/core/new.c" ] || return 1
	queue tree && queue export && clean || return 1
	rm -rf "$LINUX"
	queue tree && [ "$(in_linux log --format=%T base..)" = "$trees" ] || return 1
	queue export && clean || return 1
	queue tree && grep -q 'nothing to do' "$TMP/out"
}

a_grown_file_is_edited()
{
	grow || return 1
	sed -i '1i on top, by hand' "$REPO/net/core/new.c"
	sed -i 's/line 25 .*/by hand/' "$REPO/net/core/new.c"
	git -C "$REPO" commit -qam 'by hand'
	queue tree || return 1
	in_linux show HEAD~3:net/core/new.c >"$TMP/first"
	[ "$(sed -n 1p "$TMP/first")" = 'on top, by hand' ] || return 1
	grep -q 'line 40 of new' "$TMP/first" && ! grep -q 'by five' "$TMP/first" || return 1
	queue export && clean || return 1
	rm -rf "$LINUX"
	queue tree && queue export && clean
}

a_later_hunk_must_come_off()
{
	local head five=patches/02-veth/0003-veth-Grow-it-again.patch

	grow || return 1
	head=$(in_linux rev-parse HEAD)
	sed -i 's/added by five/ADDED by five/' "$REPO/net/core/new.c"
	refuses tree "$five" net/core/new.c 'hunk 1 of 1' 01-core/0002-net-Add-a-file.patch \
		"no line 'added by five' that it adds" 'edited there by hand' 'make export' || return 1
	git -C "$REPO" checkout -q .
	sed -i 's/line 9 of new/line nine/' "$REPO/net/core/new.c"
	refuses tree "$five" net/core/new.c "no line 'line 9 of new' around it" || return 1
	git -C "$REPO" checkout -q .
	sed -i '/added by five/d' "$REPO/net/core/new.c"
	sed -i '1i added by five' "$REPO/net/core/new.c"
	refuses tree "$five" net/core/new.c 'in another order' || return 1
	git -C "$REPO" checkout -q .
	echo 'more after the last line' >>"$REPO/net/core/new.c"
	refuses tree 02-veth/0002-veth-Grow-it.patch net/core/new.c 'hunk 2 of 2' 'after them' || return 1
	git -C "$REPO" checkout -q .
	chmod +x "$REPO/net/core/new.c"
	refuses tree net/core/new.c 'mode 100755' || return 1
	git -C "$REPO" checkout -q .
	[ "$(in_linux rev-parse HEAD)" = "$head" ] && queue tree
}

hunks_for_a_new_file_come_after_it()
{
	local series=$REPO/patches/02-veth/series

	grow || return 1
	sed -i '/^New-file: /d' "$REPO"/patches/01-core/0002*
	sed -i 's,^---$,&\nNew-file: net/core/new.c,' "$REPO"/patches/02-veth/0002*
	refuses tree 02-veth/0002 net/core/new.c 'brings itself' || return 1
	sed -i '/^New-file: /d' "$REPO"/patches/02-veth/0002*
	sed -i 's,^---$,&\nNew-file: net/core/new.c,' "$REPO"/patches/02-veth/0003*
	sed -i '/^diff --git a.net.core.new.c/,$d' "$REPO"/patches/02-veth/0003*
	refuses tree 02-veth/0002 02-veth/0003 net/core/new.c 'only a later patch' || return 1
	git -C "$REPO" checkout -q .
	printf '0001-veth-Change-it.patch\n0003-veth-Grow-it-again.patch\n0002-veth-Grow-it.patch\n' >"$series"
	refuses tree 02-veth/0002 net/core/new.c 'taken back' || return 1
	git -C "$REPO" checkout -q .
	printf 'deleted file mode 100755\n' | sed -i '/^diff --git a.net.core.new.c/r /dev/stdin' "$REPO"/patches/02-veth/0003*
	refuses tree 02-veth/0003 deletes net/core/new.c 01-core/0002 || return 1
	git -C "$REPO" checkout -q .
	rm "$REPO/net/core/new.c"
	refuses tree 01-core/0002 net/core/new.c 'no such' || return 1
	git -C "$REPO" checkout -q .
	queue tree
}

a_new_file_is_not_deleted()
{
	in_linux rm -q net/core/new.c
	record -m 'net: Delete the new file'
	refuses export net/core/new.c 'net: Delete the new file' 'net: Add a file' rebase && clean
}

a_hunk_that_fits_twice()
{
	seq 40 | sed 's/.*/same/' >"$LINUX/net/core/new.c"
	in_linux commit -q -a --fixup 'HEAD~1'
	GIT_SEQUENCE_EDITOR=true in_linux rebase -q -i --autosquash base || return 1
	sed -i '20i same\nsame' "$LINUX/net/core/new.c"
	record -m 'veth: Grow it'
	sed -i '1i top' "$LINUX/net/core/new.c"
	record -m 'veth: Grow it again'
	queue export || return 1
	git -C "$REPO" add -A
	git -C "$REPO" commit -qm grown
	queue tree && queue export && clean || return 1
	rm -rf "$LINUX"
	queue tree && queue export && clean
}

mails_a_new_file_that_grows()
{
	local dir

	grow || return 1
	OUT=$TMP/mbox queue mbox || return 1
	in_linux worktree add -q --detach "$TMP/am" base
	for dir in "$TMP"/mbox/*/; do
		git -C "$TMP/am" am -q "$dir"/000[1-9]*.patch || return 1
	done
	[ "$(git -C "$TMP/am" rev-parse 'HEAD^{tree}')" = "$(in_linux rev-parse 'HEAD^{tree}')" ] || return 1
	[ "$(cat "$TMP"/mbox/*/* | grep -c '^new file mode')" -eq 1 ] || return 1
	in_linux worktree remove --force "$TMP/am"
	rm -rf "$TMP/mbox"
}

removes_what_was_dropped()
{
	in_linux reset -q --hard base
	change net/core/dev.c 'added by one'
	record -m 'net: Only one'
	queue export || return 1
	[ "$(cd "$REPO" && find patches net -type f | sort | tr '\n' ' ')" = "patches/01-core/0001-net-Only-one.patch patches/01-core/cover patches/01-core/series patches/02-veth/cover patches/02-veth/series " ] ||
		return 1
	queue tree
}

comments_follow_their_patch()
{
	printf '# Top\n\n# One\n# is first\n0001-net-Add-one-line.patch\n\n# Two\n0002-net-Add-a-file.patch\n# End\n' \
		>"$REPO/patches/01-core/series"
	git -C "$REPO" commit -qam comments
	queue tree && queue export && clean || return 1
	in_linux reset -q --hard base
	change net/core/rtnl.c first
	record -m 'rtnl: First'
	in_linux cherry-pick refs/small-rtnl/exported~2 refs/small-rtnl/exported~1 >/dev/null || return 1
	in_linux commit -q --amend -m "net: Renamed

$(in_linux log -1 --format=%b)"
	queue export || return 1
	[ "$(cat "$REPO/patches/01-core/series")" = "# Top

0001-rtnl-First.patch
# One
# is first
0002-net-Add-one-line.patch

# Two
0003-net-Renamed.patch
# End" ]
}

series_must_stand_in_order()
{
	change net/core/rtnl.c more
	record -m 'rtnl: More' -m 'Series: 01-core'
	refuses export 'rtnl: More' 01-core 02-veth Series && clean
}

a_new_series_by_trailer()
{
	change net/core/rtnl.c more
	record -m 'rtnl: More' -m 'Series: 03-rest'
	queue export && queue tree && [ -f "$REPO/patches/03-rest/0001-rtnl-More.patch" ]
}

a_message_that_mail_would_cut()
{
	change net/core/rtnl.c more
	record -m 'rtnl: More' -m '---' -m 'Lost?'
	refuses export 'rtnl: More' "'---'"
}

deletions_and_modes_survive()
{
	in_linux rm -q net/core/rtnl.c
	chmod +x "$LINUX/net/core/dev.c"
	record -m 'net: Delete and chmod'
	queue export || return 1
	rm -rf "$LINUX"
	queue tree || return 1
	[ ! -e "$LINUX/net/core/rtnl.c" ] && [ -x "$LINUX/net/core/dev.c" ]
}

bad_patches_are_named()
{
	local one=$REPO/patches/01-core/0001-net-Add-one-line.patch
	local two=$REPO/patches/01-core/0002-net-Add-a-file.patch

	sed -i '/^---$/d' "$one"
	refuses tree 01-core/0001 "no line '---'" || return 1
	git -C "$REPO" checkout -q .
	sed -i 's/^---$/&\nNewfile: x/' "$one"
	refuses tree 01-core/0001 'Newfile: x' || return 1
	git -C "$REPO" checkout -q .
	sed -i 's,^---$,&\nNew-file: net/none.c,' "$one"
	refuses tree 01-core/0001 net/none.c || return 1
	git -C "$REPO" checkout -q .
	sed -i 's,^---$,&\nNew-file: net/core/new.c,' "$one"
	refuses tree 01-core/0001 01-core/0002 net/core/new.c || return 1
	git -C "$REPO" checkout -q .
	printf 'diff --git a/x.c b/x.c\nnew file mode 100644\n--- /dev/null\n+++ b/x.c\n@@ -0,0 +1 @@\n+x\n' >>"$two"
	refuses tree 01-core/0002 x.c New-file || return 1
	git -C "$REPO" checkout -q .
	cp "$one" "$REPO/patches/01-core/0009-x.patch"
	refuses tree 0009-x.patch series || return 1
	rm "$REPO/patches/01-core/0009-x.patch" "$two"
	refuses tree 0002-net-Add-a-file.patch 'does not exist' || return 1
	git -C "$REPO" checkout -q .
	touch "$TMP/base/net/core/new.c"
	refuses tree net/core/new.c 'Linux 7.2.1 has already'
}

killed_steps_are_redone()
{
	local old

	# Killed after the checkout and before the record of it
	sed -i 's/needed/wanted/' "$REPO"/patches/01-core/0001*
	old=$(in_linux rev-parse refs/small-rtnl/exported)
	queue tree || return 1
	in_linux update-ref refs/small-rtnl/next HEAD
	in_linux update-ref refs/small-rtnl/exported "$old"
	queue tree || return 1
	# Killed while the base was imported
	mv "$LINUX" "$LINUX.tmp"
	rm -rf "$LINUX.tmp/.git/refs"
	queue tree && [ ! -e "$LINUX.tmp" ]
}

mails_apply_in_order()
{
	local dir

	SIGNOFF='A B <a@localhost>' OUT=$TMP/mbox queue mbox || return 1
	in_linux worktree add -q --detach "$TMP/am" base
	for dir in "$TMP"/mbox/*/; do
		git -C "$TMP/am" am -q "$dir"/000[1-9]*.patch || return 1
	done
	[ "$(git -C "$TMP/am" rev-parse 'HEAD^{tree}')" = "$(in_linux rev-parse 'HEAD^{tree}')" ] || return 1
	[ "$(grep -lx 'Signed-off-by: A B <a@localhost>' "$TMP"/mbox/*/000[1-9]* | wc -l)" -eq 3 ] || return 1
	grep -q '^From: A B <a@localhost>' "$TMP/mbox/01-core/0001"* || return 1
	grep -qx 'Subject: \[PATCH net-next 1/2\] net: Add one line' "$TMP/mbox/01-core/0001"* || return 1
	grep -qx 'Subject: \[PATCH net-next 0/2\] net: The core' "$TMP/mbox/01-core/0000"* || return 1
	grep -qx 'It comes first.' "$TMP/mbox/01-core/0000"* || return 1
	grep -q '^new file mode 100755' "$TMP/mbox/01-core/0002"* || return 1
	! grep -rqE '^Patch-file:|base-commit|\*\*\*' "$TMP/mbox" || return 1
	in_linux worktree remove --force "$TMP/am"
	rm -rf "$TMP/mbox"
	clean
}

mails_of_one_series()
{
	SERIES=02-veth queue mbox || return 1
	grep -q SIGNOFF= "$TMP/out" || return 1
	[ "$(ls "$BUILD/mbox")" = 02-veth ] || return 1
	[ "$(find "$BUILD/mbox/02-veth" -type f | wc -l)" -eq 2 ] || return 1
	SERIES=09-none refuses mbox 09-none 01-core || return 1
	SIGNOFF=me refuses mbox SIGNOFF=me mail || return 1
	rm "$REPO/patches/01-core/cover"
	refuses mbox patches/01-core/cover
}

TESTS="adopts_commits_made_by_hand same_commits_every_time
	round_trip_changes_nothing unchanged_files_keep_their_time
	names_the_hunk_that_fails names_a_file_that_the_base_lacks
	another_base_shifts_but_rewrites_nothing never_any_fuzz
	keeps_commits_that_are_not_exported keeps_work_that_is_not_committed
	keeps_an_edit_of_the_repository refuses_a_rebase_under_way
	a_new_file_grows a_grown_file_is_edited a_later_hunk_must_come_off
	hunks_for_a_new_file_come_after_it a_new_file_is_not_deleted
	a_hunk_that_fits_twice mails_a_new_file_that_grows
	removes_what_was_dropped
	comments_follow_their_patch series_must_stand_in_order
	a_new_series_by_trailer a_message_that_mail_would_cut
	deletions_and_modes_survive bad_patches_are_named
	killed_steps_are_redone mails_apply_in_order mails_of_one_series"
# shellcheck disable=SC2086 # a list
set -- $TESTS

echo "1..$#"
make_start || {
	cat "$TMP/out"
	echo "Bail out! the first export failed"
	exit 1
}
number=0 failed=0
for name in "$@"; do
	number=$((number + 1))
	start
	if "$name"; then
		echo "ok $number $name"
	else
		sed 's/^/# /' "$TMP/out"
		echo "not ok $number $name"
		failed=$((failed + 1))
	fi
done
[ "$failed" -eq 0 ]
