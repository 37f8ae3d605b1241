#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# test.sh [all|NAME...]: the tests of 'make test', those of 'make test-all', or
# those named here or in TESTS, whatever fails; each as a line "ok N NAME" or "not
# ok N NAME", with what its log says about a failure. Ends with the three sums, and
# with status 1 if one failed or none ran.
#
# test.sh plan [all|NAME...]: only say what there is to build, and how long it takes.
# test.sh names: of all tests.
#
# The names are those of the functions test_NAME below, called through run():
# shellcheck disable=SC2317

. "$(dirname "$0")/lib.sh"

# 'make test': what User-mode Linux can tell, as it runs ten times as fast as QEMU
# emulates. What builds least comes first.
SHORT=(check model matrix off kunit demo selftests stress cni vm_harness bench)
# 'make test-all' has these in addition, and all forms of matrix and off
ALL=(matrix_all off_whole selftests_stock selftests_off kunit_tree stress_long
	grace_periods regress bases kunit_qemu vm_harness_qemu bench_qemu stress_qemu
	selftests_qemu stress_kasan stress_kcsan deb bisect mutants)
# Only by name: a User-mode Linux with KASAN, which nobody has built yet
EXTRA=(stress_kasan_um selftests_kasan_um)

# Minutes on 2 quiet cores, without the kernels, and which these are: of PATCHED
# and STOCK, to be built by build.sh
declare -A COSTS=(
	[check]=8 [model]=2 [matrix]=4 [off]=3 [kunit]="1 patched-um" [demo]="1 patched-um"
	[selftests]="25 patched-um" [stress]="1 patched-um" [cni]="2 patched-um" [vm_harness]="2 patched-um"
	[bench]="2 patched-um" [stress_kasan]="8 patched-kasan"
	[matrix_all]=50 [off_whole]="3 stock-off patched-off"
	[selftests_stock]="25 stock-um" [selftests_off]="4 patched-um-off"
	[kunit_tree]=4 [stress_long]="3 patched-um" [kunit_qemu]="3 patched-debug"
	[vm_harness_qemu]="8 patched-debug" [bench_qemu]="4 patched-debug"
	[stress_qemu]="4 patched-debug" [selftests_qemu]="15 patched-debug"
	[grace_periods]="6 stock-debug patched-debug" [regress]="5 stock-um patched-um"
	[selftests_kasan_um]="8 patched-um-kasan" [stress_kasan_um]="2 patched-um-kasan" [stress_kcsan]="8 patched-kcsan" [bases]=10 [deb]=15 [bisect]=60 [mutants]="20 patched-um"
)

# guest_selftests MACHINE KERNEL CONFIG TEST...: a boot that runs some of our
# selftests
guest_selftests()
{
	local machine=$1 kernel=$2 config=$3

	shift 3
	printf 'exec %q/guest/selftests.sh %s\n' "$TOOLS" "$*" >"$work/script-$kernel"
	MACHINE=$machine KERNEL=$kernel CONFIG=$config SCRIPT=$work/script-$kernel \
		TIMEOUT=${TIMEOUT:-3000} "$TOOLS/vm.sh"
}

# needs_kprobes TEST: User-mode Linux has none
needs_kprobes()
{
	grep -q kprobe_events "$TOP/tools/testing/selftests/net/$1"
}

# selftests [all]: those that are not left to a test of their own; without "all",
# not the one of all kinds either, which takes long and is not about the option
selftests()
{
	local file name

	for file in "$TOP"/tools/testing/selftests/net/*; do
		name=$(basename "$file")
		case "$name" in
		rtnl_net_stress.py) continue ;;
		rtnl_net_dismantle.py) ! needs_kprobes "$name" || continue ;;
		rtnl_net_kinds.py) [ "${1:-}" = all ] || continue ;;
		esac
		[ ! -x "$file" ] || echo "$name"
	done
}

test_check()
{
	"$TOOLS/check.sh"
}

test_model()
{
	"$TOOLS/model.sh"
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

test_off()
{
	"$TOOLS/off/compare.sh"
}

test_off_whole()
{
	"$TOOLS/off/compare.sh" whole
}

test_demo()
{
	"$TOOLS/demo.sh"
}

test_vm_harness()
{
	MACHINE=um "$TOOLS/tests/vm.sh"
}

test_vm_harness_qemu()
{
	MACHINE=qemu "$TOOLS/tests/vm.sh"
}

# That it measures; 'make bench' says what
test_bench()
{
	MACHINE=um "$TOOLS/tests/bench.sh"
}

test_bench_qemu()
{
	MACHINE=qemu "$TOOLS/tests/bench.sh"
}

test_kunit()
{
	"$TOOLS/kunit.sh" um
}

test_kunit_qemu()
{
	"$TOOLS/kunit.sh" qemu
}

test_kunit_tree()
{
	"$TOOLS/kunit.sh" tree
}

# A selftest tells nothing about us unless the base passes it, too. That is found
# out once, by selftests_stock: stock-results has a line for each base, test and
# configuration. 'make test' skips what is not recorded, and says so.
# A sixth of the races, a twentieth of the rounds that are the default
STOCK_ENV="KINDS=all RACES=1 ROUNDS=20"
RECORD=$TOOLS/stock-results

# key TEST: what its result on stock depends on
key()
{
	local ours=$TOP/tools/testing/selftests/net file frags=$TOOLS/kernel-config

	echo "$(git -C "$BUILD/linux" show base:Makefile | awk '/^(VERSION|PATCHLEVEL|SUBLEVEL) = / { v = v "." $3 }
		/^EXTRAVERSION/ { print substr(v, 2) }')-$(git -C "$BUILD/linux" rev-parse --short=12 'base^{tree}')"
	{
		echo "$STOCK_ENV"
		sed '/^# CONFIG_/!{/^#/d;/^$/d}' "$frags"/{base,drivers,debug,um}.config
	} | sha256sum | cut -c 1-12
	{
		# A module is not executable: all tests may use it
		for file in "$ours"/*.py; do
			[ -x "$file" ] || cat "$file"
		done
		cat "$ours/$1"
	} | sha256sum | cut -c 1-12
}

# recorded TEST: print its line without the key
recorded()
{
	local key

	key=$(key "$1" | tr '\n' ' ')
	awk -v key="$key" -v name="$1" 'index($0, key) == 1 && $4 == name {
		$1 = $2 = $3 = ""; sub(/^ */, ""); print; found = 1; exit }
		END { exit !found }' "$RECORD" 2>/dev/null
}

# run_stock TEST...: on the stock kernel, and keep what it says
run_stock()
{
	local name rc=0 line

	"$TOOLS/build.sh" stock um >/dev/null
	GUEST_ENV=$STOCK_ENV guest_selftests um stock debug "$@" >"$work/stock" 2>&1 || rc=$?
	for name; do
		# One that fails is run again the next time
		line=$(sed -nE "s/^(ok) [0-9]+ selftests: net: $name # (SKIP)?.*/\1 \2/p" "$work/stock")
		[ -n "$line" ] || continue
		# A new line takes the place of one for the same base and test
		key "$name" | tr '\n' ' ' >"$work/key"
		echo "$name $line" | sed 's/ *$//' >>"$work/key"
		awk -v base="$(cut -d ' ' -f 1 "$work/key")" -v name="$name" \
			'!($1 == base && $4 == name)' "$RECORD" >"$work/record" 2>/dev/null || true
		sort -k 1,1 -k 4,4 "$work/record" "$work/key" >"$work/record.new"
		cat "$work/record.new" >"$RECORD"
	done
	sed 's/ selftests: net: / on stock: /' "$work/stock"
	return "$rc"
}

test_selftests()
{
	local name line num=0

	"$TOOLS/build.sh" patched um >/dev/null
	for name in $(selftests all); do
		num=$((num + 1))
		line=$(recorded "$name") ||
			line="ok # SKIP no record, make test TESTS=selftests_stock makes one"
		echo "ok $num on stock: $name${line#ok}"
	done
	export GUEST_ENV=$STOCK_ENV
	# shellcheck disable=SC2046 # a list
	guest_selftests um patched debug $(selftests all)
}

# Whatever is recorded
test_selftests_stock()
{
	# shellcheck disable=SC2046 # a list
	run_stock $(selftests all)
}

test_selftests_off()
{
	export GUEST_ENV="RACES=2 ROUNDS=20"
	# shellcheck disable=SC2046
	guest_selftests um patched off $(selftests)
}

test_selftests_kasan_um()
{
	export GUEST_ENV="RACES=2 ROUNDS=20 KINDS=all"
	# shellcheck disable=SC2046
	guest_selftests um patched kasan $(selftests all)
}

test_selftests_qemu()
{
	# A third of the races that are the default
	export GUEST_ENV="RACES=2 KINDS=all"
	# shellcheck disable=SC2046
	guest_selftests qemu patched debug $(selftests all)
}

test_stress()
{
	GUEST_ENV="ROUNDS=500" guest_selftests um patched debug rtnl_net_stress.py
}

# Networks of containers, by the plug-ins that runtimes call
test_cni()
{
	"$TOOLS/deps.sh" cni || return
	printf 'exec %q/guest/cni.py\n' "$TOOLS" >"$work/script-cni"
	MACHINE=um KERNEL=patched CONFIG=debug SCRIPT=$work/script-cni \
		TIMEOUT=${TIMEOUT:-1200} "$TOOLS/vm.sh"
}

test_stress_qemu()
{
	guest_selftests qemu patched debug rtnl_net_stress.py
}

test_stress_kasan()
{
	guest_selftests qemu patched kasan rtnl_net_stress.py
}

test_stress_kasan_um()
{
	GUEST_ENV="ROUNDS=500" guest_selftests um patched kasan rtnl_net_stress.py
}

test_stress_kcsan()
{
	guest_selftests qemu patched kcsan rtnl_net_stress.py
}

# What 'make stress' is: 10,000 operations unless the caller says otherwise
test_stress_long()
{
	local name machine=${caller[3]}

	GUEST_ENV="WORKERS=${WORKERS:-4} ROUNDS=${ROUNDS:-2500}"
	for name in SLOTS SEED KINDS; do
		[ -z "${!name:-}" ] || GUEST_ENV+=" $name=${!name// /,}"
	done
	export GUEST_ENV
	TIMEOUT=${caller[2]:-7200} \
		guest_selftests "$machine" "${caller[0]}" "${caller[1]}" rtnl_net_stress.py
}

# The selftest sees that the number does not grow with the batch; here, that it
# is at most twice what the base needs.
test_grace_periods()
{
	local kernel machine=um rc=0

	! needs_kprobes rtnl_net_dismantle.py || machine=qemu

	for kernel in stock patched; do
		guest_selftests "$machine" "$kernel" debug rtnl_net_dismantle.py | tee "$work/gp-$kernel" || rc=1
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

test_regress()
{
	"$TOOLS/regress.sh"
}

test_bases()
{
	"$TOOLS/queue.py" bases
}

test_deb()
{
	"$TOOLS/tests/deb.sh"
}

test_bisect()
{
	"$TOOLS/bisect.sh"
}

test_mutants()
{
	"$TOOLS/mutants.py"
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

# What the log of a test says last, without what is part of a result
test_progress()
{
	local said

	said=$(tail -n 1 "$1" | tr -dc '[:print:]' | sed -E 's/^\[ *[0-9]+:[0-9]+\] //' | cut -c 1-100)
	echo "$(grep -acE '^(not )?ok [0-9]+ ' "$1") results so far${said:+; $said}"
}

run()
{
	local log=$BUILD/log/test-$1.log start=$SECONDS rc=0

	PROGRESS=test_progress quietly "$log" "test $1 ($((++count)) of ${#names[@]})" "test_$1" || rc=$?
	results "$1" "$rc" <"$log"
	# What is needed to do it again
	sed -n 's/^# # \(stress: .*\)/# \1/p' "$log"
	read -r passed failed skipped <"$work/totals"
	say "test $1 ($count of ${#names[@]}): took $((SECONDS - start)) s, its log is $log"
}

# plan: what has to be built for these tests, and what all takes. The times are
# those of earlier runs.
plan()
{
	local name kernel src config objects minutes total=0 known=()

	row()
	{
		printf '  %-44s %4d\n' "$1" "$2"
		total=$((total + $2))
	}

	echo "Minutes on 2 quiet cores, about:"
	[ -d "$CACHE/linux-$BASE_SERIES" ] || [ -n "${KERNEL_SRC:-}" ] || row "download and unpack the base kernel" 2
	[ -e "$BUILD/linux/.git" ] || row "put the patches on it" 2
	for name; do
		read -ra known <<<"${COSTS[$name]:-0}"
		for kernel in "${known[@]:1}"; do
			[ -z "${seen[$kernel]:-}" ] || continue
			seen[$kernel]=1
			config=${kernel#*-}
			src=$BUILD/linux
			[ "${kernel%%-*}" = patched ] || src=$BUILD/stock
			read -r objects minutes < <(awk -v config="$config" \
				'$1 == config { print $2, $3 }' "$TOOLS/kernel-config/sizes") || true
			if [ -e "$src/.obj-$config/.built" ]; then
				echo "  the ${kernel/-/ } kernel is built: what changed since is compiled again"
			else
				row "compile the ${kernel/-/ } kernel, ${objects:-?} objects" "${minutes:-15}"
			fi
		done
	done
	for name; do
		row "test $name" "${COSTS[$name]%% *}"
	done
	printf '  %-44s %4d\n' "all" "$total"
}

declare -A seen=()
mode=run
if [ "${1:-}" = names ]; then
	echo "${SHORT[*]} | ${ALL[*]} | ${EXTRA[*]}"
	exit
fi
if [ "${1:-}" = plan ]; then
	mode=plan
	shift
fi
names=("$@")
[ $# -gt 0 ] || read -ra names <<<"${TESTS:-${SHORT[*]}}"
[ "${names[*]}" != all ] || names=("${SHORT[@]}" "${ALL[@]}")
for name in "${names[@]}"; do
	declare -F "test_$name" >/dev/null ||
		die "there is no test '$name', only: ${SHORT[*]} ${ALL[*]} ${EXTRA[*]}"
done
if [ "$mode" = plan ]; then
	plan "${names[@]}"
	exit
fi
[ -e "$BUILD/linux/.git" ] || die "there is no patched tree at $BUILD/linux: run 'make tree'"
caller=("${KERNEL:-patched}" "${CONFIG:-debug}" "${TIMEOUT:-}" "${MACHINE:-}")
if [ -z "${caller[3]}" ]; then
	case "${caller[1]}" in
	debug | off) caller[3]=um ;;
	*) caller[3]=qemu ;;
	esac
fi
unset TESTS KERNEL CONFIG SCRIPT LOG MODULES KERNEL_ARGS GUEST_ENV TIMEOUT MACHINE

mkdir -p "$BUILD/log"
work=$(mktemp -d "${TMPDIR:-/tmp}/small-rtnl-test.XXXXXX")
trap 'rm -rf "$work"' EXIT
passed=0 failed=0 skipped=0 count=0
for name in "${names[@]}"; do
	run "$name"
done
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
