# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash disable=SC2154 # TMP, of the scripts that source this
# Sourced by tests of our commands: what a command prints, and its status.


# says STATUS WORD... -- COMMAND...: its status, and a line that holds the words
says()
{
	local want=$1 words=() word rc=0

	shift
	while [ "$1" != -- ]; do
		words+=("$1")
		shift
	done
	shift
	"$@" >"$TMP/out" 2>&1 || rc=$?
	[ "$rc" -eq "$want" ] || {
		echo "status $rc" >>"$TMP/out"
		return 1
	}
	for word in "${words[@]}"; do
		grep -qF -- "$word" "$TMP/out" || {
			echo "nowhere: $word" >>"$TMP/out"
			return 1
		}
	done
}

# check NAME COMMAND...
check()
{
	local name=$1 rc=0

	shift
	"$@" || rc=$?
	result "$rc" "$name" "$TMP/out"
}
