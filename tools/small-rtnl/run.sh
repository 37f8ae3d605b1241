#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# make run: play demo.sh in the patched debug kernel, then say in one line what
# the demonstration, the kernel log and the search for leaks come to.

. "$(dirname "$0")/lib.sh"
# shellcheck source=status.sh
. "$TOOLS/status.sh"

rc=0
KERNEL=patched CONFIG=debug SCRIPT=$TOOLS/demo.sh "$TOOLS/vm.sh" || rc=$?
case "$rc" in
0) verdict="clean: no warning and no lockdep report, no device or namespace left behind" ;;
"$ST_LOG") verdict="the kernel log holds a report, see above" ;;
"$ST_LEAK") verdict="a device or a namespace was left behind, see above" ;;
"$ST_DEAD") verdict="the guest died or never came up, see above" ;;
"$ST_TIME") verdict="the guest was not done in time, see above" ;;
*) verdict="the demonstration failed, see above" ;;
esac
echo "verdict: $verdict"
exit "$rc"
