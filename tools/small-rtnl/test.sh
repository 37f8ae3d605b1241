#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# test.sh [NAME...]: all tests, or those named here or in TESTS, whatever fails;
# each as a line "ok N NAME" or "not ok N NAME", with what its log says about a
# failure. Ends with the three sums, and with status 1 if one failed or none ran.
#
# The names are those of the functions test_NAME below, called through run():
# shellcheck disable=SC2317

. "$(dirname "$0")/lib.sh"

# What builds least comes first. Only by name, as they take long: stress_long,
# stress_kcsan, kunit_um and matrix_all.
ALL_TESTS=(check matrix kunit_qemu stress vm_harness bench selftests grace_periods
	regress stress_kasan selftests_off off)

# guest_selftests KERNEL CONFIG TEST...: a boot that runs some of our selftests
guest_selftests()
{
	local kernel=$1 config=$2

	shift 2
	printf 'exec %q/guest-selftest.sh %s\n' "$TOOLS" "$*" >"$work/script-$kernel"
	KERNEL=$kernel CONFIG=$config SCRIPT=$work/script-$kernel \
		TIMEOUT=${TIMEOUT:-2400} "$TOOLS/vm.sh"
}

# selftests [all]: those that are not left to a test of their own; without "all",
# not the one of all kinds either, which takes long and is not about the option
selftests()
{
	local file name

	for file in "$TOP"/tools/testing/selftests/net/*; do
		name=$(basename "$file")
		case "$name" in
		rtnl_net_stress.py | rtnl_net_dismantle.py) continue ;;
		rtnl_net_kinds.py) [ "${1:-}" = all ] || continue ;;
		esac
		[ ! -x "$file" ] || echo "$name"
	done
}

test_check()
{
	"$TOOLS/check.sh"
}

# The kernels of the other tests are gcc's, 64 bit, with modules; matrix_all has
# all combinations
test_matrix()
{
	"$TOOLS/matrix.sh" clang-i386-on-y
}

test_matrix_all()
{
	"$TOOLS/matrix.sh" all
}

test_vm_harness()
{
	"$TOOLS/test-vm.sh"
}

# That it measures; 'make bench' says what
test_bench()
{
	"$TOOLS/test-bench.sh"
}

test_kunit_um()
{
	"$TOOLS/kunit.sh" um
}

test_kunit_qemu()
{
	"$TOOLS/kunit.sh" qemu
}

# They tell nothing about us unless the base passes them. Both boots at once, as
# a guest keeps one CPU busy.
test_selftests()
{
	local kernel rc=0 rc_stock=0

	# A third of the races that are the default
	export GUEST_ENV="RACES=2 KINDS=all"
	for kernel in stock patched; do
		"$TOOLS/build.sh" "$kernel" debug >/dev/null
	done
	# shellcheck disable=SC2046 # a list
	guest_selftests stock debug $(selftests all) >"$work/stock" 2>&1 &
	# shellcheck disable=SC2046
	guest_selftests patched debug $(selftests all) || rc=$?
	wait "$!" || rc_stock=$?
	sed 's/ selftests: net: / on stock: /' "$work/stock"
	[ "$rc" -ne 0 ] || rc=$rc_stock
	return "$rc"
}

test_selftests_off()
{
	export GUEST_ENV="RACES=1 ROUNDS=20"
	# shellcheck disable=SC2046
	guest_selftests patched off $(selftests)
}

test_stress()
{
	guest_selftests patched debug rtnl_net_stress.py
}

test_stress_kasan()
{
	guest_selftests patched kasan rtnl_net_stress.py
}

test_stress_kcsan()
{
	guest_selftests patched kcsan rtnl_net_stress.py
}

# What 'make stress' is: 10,000 operations unless the caller says otherwise
test_stress_long()
{
	local name

	GUEST_ENV="WORKERS=${WORKERS:-4} ROUNDS=${ROUNDS:-2500}"
	for name in SLOTS SEED KINDS; do
		[ -z "${!name:-}" ] || GUEST_ENV+=" $name=${!name// /,}"
	done
	export GUEST_ENV
	TIMEOUT=${caller[2]:-7200} \
		guest_selftests "${caller[0]}" "${caller[1]}" rtnl_net_stress.py
}

# The selftest sees that the number does not grow with the batch; here, that it
# is at most twice what the base needs
test_grace_periods()
{
	local kernel rc=0

	for kernel in stock patched; do
		guest_selftests "$kernel" debug rtnl_net_dismantle.py | tee "$work/gp-$kernel" || rc=1
	done
	awk '
	!/gp N=[0-9]+ / { next }
	{
		sum = 0
		for (i = 1; i <= NF; i++) {
			split($i, word, "=")
			if (word[1] == "N")
				size = word[2]
			else if (i > 1 && word[2] != "")
				sum += word[2]
		}
		if (FILENAME == ARGV[1]) {
			stock[size] = sum
		} else if (size in stock) {
			seen++
			ok = sum <= 2 * stock[size]
			bad += !ok
			printf "%sok %d a batch of %d: %d waits, %d on stock\n",
				ok ? "" : "not ", seen, size, sum, stock[size]
		}
	}
	END { exit bad || !seen }' "$work/gp-stock" "$work/gp-patched" || rc=1
	return "$rc"
}

test_off()
{
	"$TOOLS/offcheck.sh"
}

test_regress()
{
	"$TOOLS/regress.sh"
}

# results NAME STATUS: number the results in the log of a test. What stands
# around a failure is shown: TAP has its messages before it, KTAP behind.
results()
{
	awk -v name="$1" -v status="$2" -v passed="$passed" -v failed="$failed" \
		-v skipped="$skipped" -v totals="$work/totals" '
	function result(ok, text) {
		print (ok ? "ok " : "not ok ") passed + failed + skipped + 1 " " name text
		if (!ok)
			failed++
		else if (text ~ /# SKIP/)
			skipped++
		else
			passed++
		seen++
	}
	function comment(text) {
		sub(/^(# )?/, "# ", text)
		print text
	}
	function before(max,   i) {
		for (i = lines > max ? lines - max : 0; i < lines; i++)
			comment(said[i])
	}
	{ gsub(/[^[:print:]\t]/, "") }
	/^(not )?ok [0-9]+ / {
		ok = $1 == "ok"
		bad += !ok
		text = $0
		sub(/^(not )?ok [0-9]+ (- |selftests: net: )?/, "", text)
		if (!ok)
			before(40)
		result(ok, ": " text)
		after = ok ? 0 : 40
		lines = 0
		next
	}
	after && /^#/ { comment($0); after--; next }
	{ said[lines++] = $0 }
	END {
		# 4 is what a selftest says when it skipped all
		if (status && (!bad || status >= 200) && !(status == 4 && seen)) {
			before(60)
			result(0, " (exit status " status ")")
		} else if (!seen) {
			result(1, "")
		}
		print passed, failed, skipped >totals
	}'
}

run()
{
	local log=$BUILD/log/test-$1.log start=$SECONDS rc=0

	quietly "$log" "test $1" "test_$1" || rc=$?
	results "$1" "$rc" <"$log"
	# What is needed to do it again
	sed -n 's/^# # \(stress: .*\)/# \1/p' "$log"
	read -r passed failed skipped <"$work/totals"
	say "test $1: took $((SECONDS - start)) s, its log is $log"
}

[ -d "$BUILD/linux/.git" ] || die "there is no patched tree at $BUILD/linux: run 'make tree'"
names=("$@")
[ $# -gt 0 ] || read -ra names <<<"${TESTS:-${ALL_TESTS[*]}}"
for name in "${names[@]}"; do
	declare -F "test_$name" >/dev/null ||
		die "there is no test '$name', only: ${ALL_TESTS[*]} stress_long stress_kcsan kunit_um matrix_all"
done
caller=("${KERNEL:-patched}" "${CONFIG:-debug}" "${TIMEOUT:-}")
unset TESTS KERNEL CONFIG SCRIPT LOG MODULES KERNEL_ARGS GUEST_ENV TIMEOUT

mkdir -p "$BUILD/log"
work=$(mktemp -d "${TMPDIR:-/tmp}/small-rtnl-test.XXXXXX")
trap 'rm -rf "$work"' EXIT
passed=0 failed=0 skipped=0
for name in "${names[@]}"; do
	run "$name"
done
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
