#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# make check: style of the patches, of the new files and of our own scripts,
# that the queue survives its round trips, and that every caller which
# unregisters a device is known. All checks run, whatever fails.
#
# The checks are called through check(), which shellcheck does not see:
# shellcheck disable=SC2317

. "$(dirname "$0")/lib.sh"

TMP=$(mktemp -d)
trap 'rm -rf "$TMP"' EXIT
LINUX=$BUILD/linux
export GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_NOSYSTEM=1
export GIT_COMMITTER_NAME=Check GIT_COMMITTER_EMAIL=check@localhost
# kernel-doc must leave no traces in build/linux
export PYTHONDONTWRITEBYTECODE=1

# check NAME COMMAND...: one line of result; what the command says if it fails
check()
{
	local name=$1 rc=0

	shift
	"$@" >"$TMP/log" 2>&1 </dev/null || rc=$?
	result "$rc" "$name" "$TMP/log"
}

in_linux()
{
	git -C "$LINUX" "$@"
}

# is_shell FILE, is_python FILE: by name or by first line
is_shell()
{
	case "$1" in
	*.sh) return 0 ;;
	esac
	head -n 1 "$1" | tr -d '\0' | grep -E '^#!.*\b(ba|da)?sh\b' >/dev/null
}

is_python()
{
	case "$1" in
	*.py) return 0 ;;
	esac
	head -n 1 "$1" | tr -d '\0' | grep -E '^#!.*\bpython3?\b' >/dev/null
}

mail()
{
	SERIES='' SIGNOFF='Check <check@localhost>' OUT=$TMP/mbox "$TOOLS/queue.py" mbox
}

series_format()
{
	local count

	count=$(find "$1" -name '*.patch' | wc -l)
	[ "$count" -gt 0 ] || {
		echo "$1 has no patch: delete the folder"
		return 1
	}
	[ "$count" -le 15 ] || {
		echo "$1 has $count patches and netdev takes at most 15: split it"
		return 1
	}
}

subject()
{
	local subject

	subject=$(head -n 1 "$1")
	[ "${#subject}" -le 75 ] || {
		echo "the subject has ${#subject} characters: make it at most 75"
		return 1
	}
	[[ $subject =~ ^[A-Za-z0-9_./-]+(,\ [A-Za-z0-9_./-]+)*:\ [^\ ] ]] || {
		echo "the subject has no prefix like 'net: ': add one"
		return 1
	}
}

checkpatch()
{
	# - FILE_PATH_CHANGES asks whether MAINTAINERS needs an update; the
	#   checks of new files below answer that.
	# - MACRO_ARG_REUSE: a macro that walks along a list names its variable more
	#   than once.
	# - MACRO_ARG_PRECEDENCE: an argument that is the name of a member cannot
	#   stand in parentheses.
	# GIT_DIR: our base has no history, where it would look up commit ids.
	(cd "$LINUX" && GIT_DIR=/nonexistent perl scripts/checkpatch.pl --strict \
		--show-types --ignore FILE_PATH_CHANGES,MACRO_ARG_REUSE,MACRO_ARG_PRECEDENCE \
		"$1")
}

# kernel_doc_warnings FOLDER FILE: without line numbers, which patches shift
kernel_doc_warnings()
{
	(cd "$1" && "$LINUX/scripts/kernel-doc" -none -Wall "$2" 2>&1) |
		sed -E "s,($2):[0-9]+,\1," | sort
}

kernel_doc_new()
{
	kernel_doc_warnings "$LINUX" "$1" >"$TMP/after"
	cat "$TMP/after"
	[ ! -s "$TMP/after" ]
}

kernel_doc_patched()
{
	mkdir -p "$TMP/base/$(dirname "$1")"
	in_linux show "base:$1" >"$TMP/base/$1"
	kernel_doc_warnings "$TMP/base" "$1" >"$TMP/before"
	kernel_doc_warnings "$LINUX" "$1" >"$TMP/after"
	comm -13 "$TMP/before" "$TMP/after" >"$TMP/more"
	cat "$TMP/more"
	[ ! -s "$TMP/more" ]
}

shell_style()
{
	# -x: what a script sources (our lib.sh, the selftests' lib.sh) is read
	# for the names it defines, but not judged itself
	(cd "$1" && shellcheck -x -P SCRIPTDIR "$2")
}

python_syntax()
{
	python3 -c 'import sys; compile(open(sys.argv[1]).read(), sys.argv[1], "exec")' "$1"
}

has_spdx()
{
	head -n 3 "$TOP/$1" | grep 'SPDX-License-Identifier: ' >/dev/null || {
		echo "$1 has no SPDX-License-Identifier in its first lines: add it"
		return 1
	}
}

# has_maintainer FILE: by the rules of get_maintainer.pl: a pattern that ends
# in / holds all below, any other holds files at its own depth
has_maintainer()
{
	local pattern depth=${1//[^\/]/}

	while read -r pattern; do
		case "$pattern" in
		*/)	[[ $1 != "$pattern"* ]] || return 0 ;;
		*)	# shellcheck disable=SC2053 # a glob
			[[ $1 != $pattern || ${pattern//[^\/]/} != "$depth" ]] || return 0 ;;
		esac
	done < <(sed -n 's/^F:[[:space:]]*//p' "$TOP/MAINTAINERS")
	echo "no F: line in MAINTAINERS covers $1: add one"
	return 1
}

# sparse_clone FOLDER REV: a work tree with only the files of our patches, as
# 95,000 others would take a minute to write
sparse_clone()
{
	git clone -q --shared --no-checkout "$LINUX" "$1" || return 1
	in_linux log --no-renames --name-only --format= base..HEAD | sort -u | sed 's,^,/,' |
		git -C "$1" sparse-checkout set --no-cone --stdin || return 1
	git -C "$1" checkout -q "$2"
}

mails_apply()
{
	local dir tree

	sparse_clone "$TMP/am" refs/tags/base || return 1
	for dir in "$TMP"/mbox/*/; do
		find "$dir" -name '*.patch' ! -name '0000-*' -print0 | sort -z |
			xargs -0 git -C "$TMP/am" am -q || return 1
	done
	tree=$(git -C "$TMP/am" rev-parse 'HEAD^{tree}')
	[ "$tree" = "$(in_linux rev-parse 'HEAD^{tree}')" ] || {
		echo "git am of all mails does not give the tree of $LINUX"
		return 1
	}
}

# In a copy: neither the repository nor build/linux is written to
round_trip()
{
	mkdir -p "$TMP/repo" "$TMP/build"
	(cd "$TOP" && git ls-files -z --cached --others --exclude-standard |
		tar --null --ignore-failed-read -T - -cf - 2>/dev/null) | tar -C "$TMP/repo" -xf - || return 1
	cp -r "$TMP/repo" "$TMP/repo.before"
	sparse_clone "$TMP/build/linux" small-rtnl || return 1
	BUILD=$TMP/build "$TMP/repo/tools/small-rtnl/queue.py" export || return 1
	diff -r "$TMP/repo.before" "$TMP/repo"
}

# A file that no patch names is in no kernel and in no mail
all_brought()
{
	local name

	in_linux diff --no-renames --diff-filter=A --name-only base HEAD | sort >"$TMP/brought"
	git -C "$TOP" ls-files --cached --others --exclude-standard -- include net drivers tools \
		Documentation ':!tools/small-rtnl' | sort -u | comm -23 - "$TMP/brought" >"$TMP/stray"
	while read -r name; do
		echo "no patch brings $name: add a line 'New-file: $name' to one, or delete the file"
	done <"$TMP/stray"
	[ ! -s "$TMP/stray" ]
}

# A handler that nobody looked at, in a tree of its own
unknown_caller()
{
	mkdir -p "$TMP/callers/net/core" "$TMP/callers/drivers/net"
	printf '%s\n' 'static int foo_event(struct notifier_block *nb)' '{' \
		'	unregister_netdevice(foo->dev);' '}' >"$TMP/callers/drivers/net/foo.c"
	"$TOOLS/callers/callers.py" "$TMP/callers" >"$TMP/callers.out" && return 1
	grep 'foo.c foo_event unregister_netdevice unknown line 3' "$TMP/callers.out"
}

no_registry_hosts()
{
	! git -C "$TOP" grep -nIE --untracked \
		'(https?|ftp)://(deb|ftp|archive|security|snapshot|mirrors?|pypi|registry|proxy|index|files)\.'
}

if ! command -v shellcheck >/dev/null; then
	shell_style()
	{
		echo "shellcheck is missing: apt-get install shellcheck"
		return 1
	}
fi

check "queue.py on a small base" "$TOOLS/tests/queue.sh"
check "base.sh on a mirror of our own" "$TOOLS/tests/base.sh"
check "mutants.py and bisect.sh on a small tree" "$TOOLS/tests/mutants.sh"
check "no package registry is named" no_registry_hosts
check "callers.py: it is known under which mutex each device dies" "$TOOLS/callers/callers.py" "$LINUX"
check "callers.py finds a caller that nobody listed" unknown_caller
for file in "$TOOLS"/* "$TOOLS"/*/* "$TOP/.ci/run"; do
	[ -f "$file" ] || continue
	name=${file#"$TOP"/}
	if is_shell "$file"; then
		check "shellcheck $name" shell_style "$TOP" "$name"
	elif is_python "$file"; then
		check "python syntax $name" python_syntax "$file"
	fi
done

check "mbox" mail
if [ ! -d "$TMP/mbox" ]; then
	skip "checks of patches and new files" "there is no mbox"
	finish
fi

check "git am of the mails gives the tree" mails_apply
check "export after tree changes nothing" round_trip
check "a patch brings each new file" all_brought
for dir in "$TOP"/patches/*/; do
	check "series format $(basename "$dir")" series_format "$dir"
done
for patch in "$TOP"/patches/*/*.patch; do
	check "subject ${patch#"$TOP"/patches/}" subject "$patch"
done
for patch in "$TMP"/mbox/*/*.patch; do
	case "$patch" in
	*/0000-cover-letter.patch) continue ;;
	esac
	check "checkpatch ${patch#"$TMP"/mbox/}" checkpatch "$patch"
done
while read -r name; do
	check "SPDX $name" has_spdx "$name"
	check "MAINTAINERS $name" has_maintainer "$name"
	case "$name" in
	*.[ch]) check "kernel-doc $name" kernel_doc_new "$name" ;;
	esac
	if is_shell "$LINUX/$name"; then
		check "shellcheck $name" shell_style "$LINUX" "$name"
	elif is_python "$LINUX/$name"; then
		check "python syntax $name" python_syntax "$LINUX/$name"
	fi
done < <(in_linux diff --no-renames --diff-filter=A --name-only base HEAD)
while read -r name; do
	case "$name" in
	*.[ch]) check "kernel-doc $name has nothing new" kernel_doc_patched "$name" ;;
	esac
done < <(in_linux diff --no-renames --diff-filter=M --name-only base HEAD)
finish
