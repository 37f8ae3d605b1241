#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# bisect.sh [COMPILER-ARCH-OPTION-HOW...]: each patch of the queue compiles by
# itself, without a warning (W=1) that the base does not have. By default with
# gcc for x86_64, our option on and off, as modules and built in.
#
# What is compiled after a patch: of all C files that the queue touches and the
# configuration has, those that it changes, and those that include a header, or
# depend on an option, that it changes. kbuild knows which. Users of a header that
# no patch touches are left to the whole build.
#
# PATCHES=N..M or the folder of a series: only these. Again, the compiler's
# cache answers for what was compiled before.
#
# matrix.sh, which shellcheck would take for the end, sets some variables:
# shellcheck disable=SC2154

. "$(dirname "$0")/lib.sh"

[ $# -gt 0 ] || set -- gcc-x86_64-{on,off}-{m,y}
# It takes the names for its own, and gives configure(), parse_name(), not_known()
# shellcheck source=/dev/null
. "$TOOLS/matrix.sh" "$@"

linux=$src
mapfile -t ids < <(git -C "$linux" rev-list --reverse base..HEAD)
mapfile -t titles < <(git -C "$linux" log --reverse --date-order --format='%(trailers:key=Patch-file,valueonly,separator=)%x09%s' base..HEAD |
	awk -F'\t' '{ print $1 != "" ? $1 : $2 }')

# Sets first and last
parse_range()
{
	local number=0 title folder=

	first=1 last=${#ids[@]}
	[ "$last" -gt 0 ] || die "there is no patch in $linux"
	[ -n "${PATCHES:-}" ] || return 0
	if [[ $PATCHES =~ ^([0-9]+)(\.\.([0-9]+))?$ ]]; then
		first=$((10#${BASH_REMATCH[1]}))
		last=$((10#${BASH_REMATCH[3]:-${BASH_REMATCH[1]}}))
		if [ "$first" -lt 1 ] || [ "$first" -gt "$last" ] || [ "$last" -gt "${#ids[@]}" ]; then
			die "PATCHES=$PATCHES is no range of the ${#ids[@]} patches: say 1..${#ids[@]}, for example"
		fi
		return
	fi
	first=0
	for title in "${titles[@]}"; do
		number=$((number + 1))
		folder=${title%%/*}
		[ "$folder" = "$PATCHES" ] || continue
		[ "$first" -ne 0 ] || first=$number
		last=$number
	done
	[ "$first" -ne 0 ] || die "PATCHES=$PATCHES is neither N..M nor a series: say 1..${#ids[@]} or a folder of patches/"
}

# go COMMIT: check it out, and choose options again if it may have others. What the
# configuration has of the objects is then in $there.
go()
{
	local old changed object files=()

	old=$(git -C "$src" rev-parse HEAD)
	git -C "$src" checkout -q -f --detach "$1"
	changed=$(git -C "$src" diff --name-only "$old" "$1")
	if [ ! -f "$obj/.config" ] || [ ! -f "$obj/.bisect-ready" ] ||
		grep -q Kconfig <<<"$changed"; then
		rm -f "$obj/.bisect-ready"
		quietly "$log-config.log" "$name: choosing options" configure ||
			die "$name cannot be configured: see $log-config.log"
		touch "$obj/.bisect-ready"
		there=()
	fi
	if [ ${#there[@]} -eq 0 ] || grep -q Makefile <<<"$changed"; then
		for object in "${all[@]}"; do
			[ ! -f "$src/${object%.o}.c" ] || files+=("$object")
		done
		mapfile -t there < <(enabled "${files[@]}")
	fi
}

# step WHAT: compile what has changed; the compiler's warnings go to
# $log.warnings and the number of files to $count
step()
{
	local rc=0

	quietly "$log" "$name: $1" kmake -k W=1 "${there[@]}" || rc=$?
	count=$(grep -cE '^ +CC ' "$log" || true)
	grep -aE '(warning|error):' "$log" | sed -E 's,^(\.\./)+,,' | sort -u >"$log.warnings" || true
	return "$rc"
}

# The base's warnings, in $known; kept until something changes that makes them
baseline()
{
	local key

	known=$BUILD/scratch/known-$name
	key=$({
		git -C "$src" rev-parse 'base^{tree}'
		printf '%s\n' "${all[@]}"
		cat "$frags"/*.config "$TOOLS/matrix.sh"
		"$cc" --version
	} | sha256sum)
	[ "$(cat "$known.key" 2>/dev/null)" != "$key" ] || return 0
	go base
	# An object that is there would not warn again
	(cd "$obj" && rm -f "${all[@]}")
	step "compiling the base" || {
		tail -n 30 "$log" >&2
		die "the base does not compile for $name: see $log"
	}
	cp "$log.warnings" "$known"
	echo "$key" >"$known.key"
}

for name in "${names[@]}"; do
	parse_name "$name"
done
parse_range
mkdir -p "$BUILD/scratch" "$BUILD/log"
exec 7>"$BUILD/scratch/lock"
flock -n 7 || die "another make bisect or make mutants uses $BUILD/scratch: wait for it"
src=$("$TOOLS/scratch.sh")
mapfile -t all < <(git -C "$linux" log --no-renames --diff-filter=AM --name-only --format= base..HEAD -- \
	'drivers/**.c' 'net/**.c' | sort -u | grep -v '_test\.c$' | sed 's/\.c$/.o/')

for name in "${names[@]}"; do
	parse_name "$name"
	obj=$src/.obj-matrix-$name
	log=$BUILD/log/bisect-$name
	there=()
	baseline
	if [ "$first" -eq 1 ]; then
		go base
	else
		go "${ids[first - 2]}"
	fi
	# What fails here is a fault of a patch before the range
	step "compiling what patches $first..$last start from" || say "that does not compile: see $log"
	for ((number = first; number <= last; number++)); do
		rc=0
		go "${ids[number - 1]}"
		step "patch $number of ${#ids[@]}" 2>/dev/null || rc=1
		not_known "$known" "$log.warnings" >"$log.new"
		if [ "$rc" -ne 0 ]; then
			tail -n 30 "$log" >>"$log.new"
		elif [ -s "$log.new" ]; then
			rc=1
		fi
		result "$rc" "$name $number ${titles[number - 1]}: $count files compile" "$log.new"
	done
done
finish
