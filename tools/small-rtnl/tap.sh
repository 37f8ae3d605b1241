# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# Sourced by scripts that test: a line of TAP for each result, and the sums.

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
