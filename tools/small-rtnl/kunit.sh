#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# kunit.sh um|qemu|tree: run our KUnit suites and print one KTAP line for each case
# and each parameter of one. Fails if a case fails, is missing, or if the kernel
# log holds a report.
#
# KUNIT_SUITE= only that suite, in a guest.
#
# um, qemu: in that machine's patched kernel of CONFIG=debug, where this very
# script runs as the guest's. tree: built and run by the tree's own kunit.py.

. "$(dirname "$0")/lib.sh"

# All that we bring
suites()
{
	find "$TOP"/{net,drivers} -name '*_test.c' -print0 |
		xargs -0 sed -n '/^static struct kunit_suite /,/^}/s/.*\.name[ \t]*= "\(.*\)".*/\1/p'
}

src=$BUILD/linux
obj=$src/.obj-kunit

# ktap: one line for each result on standard input, which is a kernel log or
# KUnit's own file. A plan that was not kept, or no result at all, is a failure.
ktap()
{
	awk '
	function result(ok, name) {
		print (ok ? "ok " : "not ok ") ++count " " name
		bad += !ok
	}
	# What a level below announced must all have come
	function close_level(level, name) {
		if (level in plan && plan[level] != seen[level])
			result(0, name ": " plan[level] " results announced, " \
			       seen[level] + 0 " seen")
		delete plan[level]
	}
	{
		sub(/\r$/, "")
		sub(/^\[ *[0-9.]+\] /, "")
		match($0, /^ */)
		level = RLENGTH / 4
		$0 = substr($0, RLENGTH + 1)
	}
	/^# Subtest: / { sub(/^# Subtest: /, ""); subtest[level] = $0 "." }
	/^1\.\.[0-9]+$/ { plan[level] = substr($0, 4); seen[level] = 0 }
	/^(not )?ok [0-9]+ / {
		ok = $1 == "ok"
		sub(/^(not )?ok [0-9]+ /, "")
		seen[level]++
		close_level(level + 1, $0)
		result(ok, level ? subtest[level] $0 : "suite " $0)
	}
	END {
		for (level = 0; level < 4; level++)
			close_level(level, "level " level)
		if (!count)
			result(0, "no result of any case")
		print "1.." count
		exit bad > 0
	}'
}

run_tree()
{
	local log=$BUILD/log/kunit-tree.log rc=0 name configs=()

	[ -e "$src/.git" ] || die "there is no patched tree at $src: run 'make tree'"
	mkdir -p "$BUILD/log"
	exec 9>"$BUILD/.lock-kunit"
	flock 9
	cd "$src"
	rm -f "$obj/test.log"
	for name in $(git diff --name-only --diff-filter=A base HEAD -- '**/.kunitconfig'); do
		configs+=(--kunitconfig="$name")
	done
	# As in build.sh: nothing of the environment, and ccache sees the same
	# paths in every tree
	quietly "$log" "building and running KUnit on UML" \
		env -i PATH="$PATH" HOME="$HOME" LC_ALL=C PYTHONDONTWRITEBYTECODE=1 \
		CCACHE_DIR="$CACHE/ccache" CCACHE_BASEDIR="$src" CCACHE_NOHASHDIR=1 \
		CCACHE_MAXSIZE=4G \
		CCACHE_SLOPPINESS=time_macros,include_file_mtime,include_file_ctime \
		./tools/testing/kunit/kunit.py run --build_dir=.obj-kunit \
		"${configs[@]}" --jobs="$JOBS" \
		--make_options="CC=ccache gcc" --make_options="HOSTCC=ccache gcc" ||
		rc=$?
	[ -f "$obj/test.log" ] || die "KUnit did not run on UML: see $log"
	ktap <"$obj/test.log" || rc=1
	"$TOOLS/check-log.sh" "$obj/test.log" || rc=1
	return "$rc"
}

run_guest()
{
	local dir suite rc=0

	for suite in ${KUNIT_SUITE:-$(suites)}; do
		dir=/sys/kernel/debug/kunit/$suite
		# It may be part of the module of that name
		[ -w "$dir/run" ] || modprobe -q "$suite" || true
		[ -w "$dir/run" ] || die "this kernel has no KUnit suite $suite: use KERNEL=patched CONFIG=debug"
		echo 1 >"$dir/run"
		ktap <"$dir/results" || rc=1
	done
	return "$rc"
}

if [ "${SMALL_RTNL_GUEST:-}" = 1 ]; then
	run_guest
	exit
fi
case "${1:-}" in
tree)
	run_tree
	;;
um | qemu)
	MACHINE=$1 KERNEL=${KERNEL:-patched} CONFIG=${CONFIG:-debug} SCRIPT=$0 \
		KERNEL_ARGS=kunit.enable=1 "$TOOLS/vm.sh"
	;;
*)
	die "usage: kunit.sh um|qemu|tree"
	;;
esac
