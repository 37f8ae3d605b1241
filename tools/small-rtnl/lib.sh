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

# What vm.sh exits with, other than the script's own status; 'make help' and
# README.md name them
ST_LOG=200	# the kernel log holds a warning or another report
ST_LEAK=201	# the script left a net device or a namespace behind
ST_DEAD=202	# the guest panicked, or never came up
ST_TIME=203	# TIMEOUT is over
export ST_LOG ST_LEAK ST_DEAD ST_TIME

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

# What a test prints: a line of TAP for each result, and the sums
passed=0 failed=0 skipped=0

# result STATUS NAME LOG: with what LOG holds if it failed
result()
{
	if [ "$1" -eq 0 ]; then
		passed=$((passed + 1))
		echo "ok $((passed + failed + skipped)) $2"
	else
		failed=$((failed + 1))
		echo "not ok $((passed + failed + skipped)) $2"
		sed 's/^/# /' "$3"
	fi
}

# skip NAME REASON
skip()
{
	skipped=$((skipped + 1))
	echo "ok $((passed + failed + skipped)) $1 # SKIP $2"
}

# The last line, and the status to exit with
finish()
{
	echo "$passed passed, $failed failed, $skipped skipped"
	exit $((failed > 0))
}
