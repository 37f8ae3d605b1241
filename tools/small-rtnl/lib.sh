# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# Sourced by every script here: where things are, and how to say things.

set -euo pipefail

TOP=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
TOOLS=$TOP/tools/small-rtnl
BUILD=${BUILD:-$TOP/build}
CACHE=${SMALL_RTNL_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/small-rtnl}
BASE_SERIES=7.2
JOBS=${JOBS:-$(nproc)}
# What a guest may take; not the host's environment, which CI sets as it likes
export TOP TOOLS BUILD CACHE BASE_SERIES JOBS LC_ALL=C

die()
{
	echo "error: $*" >&2
	exit 1
}

say()
{
	printf '[%3d:%02d] %s\n' $((SECONDS / 60)) $((SECONDS % 60)) "$*" >&2
}

# need_space DIR MEGABYTES: refuse to start what would fill the disk
need_space()
{
	local have

	mkdir -p "$1"
	have=$(df --output=avail -m "$1" | tail -n 1)
	[ "$have" -ge "$2" ] ||
		die "$1 has $have MB free and this step needs $2 MB: free some space or set BUILD= or XDG_CACHE_HOME= to a larger disk"
}

lines_so_far()
{
	echo "$(wc -l <"$1") lines of output so far"
}

# quietly LOG WHAT COMMAND...: run a long stage with its output in LOG, a
# line of progress every 20 s, and the end of LOG if it fails. PROGRESS= names the
# function that says how far it is.
quietly()
{
	local log=$1 what=$2 pid ticks=0 rc=0

	shift 2
	mkdir -p "$(dirname "$log")"
	say "$what"
	"$@" >"$log" 2>&1 </dev/null &
	pid=$!
	while kill -0 "$pid" 2>/dev/null; do
		sleep 0.2
		ticks=$((ticks + 1))
		if [ $((ticks % 100)) -eq 0 ]; then
			say "$what: $("${PROGRESS:-lines_so_far}" "$log")"
		fi
	done
	wait "$pid" || rc=$?
	if [ "$rc" -ne 0 ]; then
		tail -n 25 "$log" >&2
		say "$what: failed with status $rc, the whole log is $log"
	fi
	return "$rc"
}
