#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# selftests.sh [TEST...]: in the guest, put our selftests on top of the
# base's and run these of tools/testing/selftests/net (or those in TESTS), one
# TAP line for each. Exits with 0, with 1 if one failed, or with 4 if all were
# skipped. The guest's root is a layer in memory, so the tree stays as it is.

cd "$(dirname "$0")/../../.." || exit 1
ours=$PWD/tools/testing/selftests/net
net=${SELFTESTS_NET:-$PWD/build/linux/tools/testing/selftests/net}

if [ $# -eq 0 ]; then
	read -ra tests <<<"${TESTS:-}"
	set -- "${tests[@]}"
fi
if [ $# -eq 0 ]; then
	echo "usage: selftests.sh TEST..., or TESTS=\"TEST...\""
	exit 1
fi
if [ "${SMALL_RTNL_GUEST:-}" != 1 ] && [ "$ours" != "$net" ]; then
	echo "selftests.sh writes to $net: run it in the guest"
	exit 1
fi

[ "$ours" = "$net" ] || cp -r "$ours/." "$net/" || exit 1
cd "$net" || exit 1

# A kernel with KCSAN watches from here on
[ ! -e /sys/kernel/debug/kcsan ] || echo on >/sys/kernel/debug/kcsan

echo "TAP version 13"
echo "1..$#"
num=0
failed=0
passed=0
for test; do
	num=$((num + 1))
	start=$SECONDS
	if [ -x "./$test" ]; then
		"./$test" 2>&1 | sed -u 's/^/# /'
		status=${PIPESTATUS[0]}
	else
		status="not there or not executable"
	fi
	took="$((SECONDS - start)) s"
	case "$status" in
	0)
		echo "ok $num selftests: net: $test # $took"
		passed=$((passed + 1))
		;;
	4)
		echo "ok $num selftests: net: $test # SKIP"
		;;
	*)
		echo "not ok $num selftests: net: $test # exit=$status, $took"
		failed=$((failed + 1))
		;;
	esac
done
[ "$failed" -eq 0 ] || exit 1
[ "$passed" -gt 0 ] || exit 4
