#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# regress.sh: run the base's own tests of what we touch on the stock and on the
# patched kernel. Each of their steps must end the same way on both; whether it
# passes is not our matter, some need more than the userland here has. MACHINE=um
# or qemu.

. "$(dirname "$0")/lib.sh"

export MACHINE=${MACHINE:-um}
tests=(rtnetlink.sh link_netns.py netns-name.sh veth.sh netdevice.sh
	bareudp.sh ipvtap_test.sh macvlan_mcast_shared_mac.sh vlan_hw_filter.sh
	test_vxlan_fdb_changelink.sh test_vxlan_nh.sh ip6_tunnel.sh
	gre_ipv6_lladdr.sh nk_qlease.py)

# In the guest, which may write to the tree: all output of one test after the
# other, and its status
run_guest()
{
	local name rc

	cd "$BUILD/linux/tools/testing/selftests/net"
	# veth.sh asks for these. Without BPF in the kernel its steps with XDP
	# fail anyway, but it shall take the others.
	for name in udpgso_bench_rx udpgso_bench_tx; do
		gcc -o "$name" "$name.c" >/dev/null 2>&1 || true
	done
	touch lib/xdp_dummy.bpf.o
	for name in "${tests[@]}"; do
		echo "=== $name"
		rc=0
		setsid timeout -k 5 600 "./$name" 2>&1 || rc=$?
		echo "=== status $rc"
	done
}

if [ "${SMALL_RTNL_GUEST:-}" = 1 ]; then
	run_guest
	exit
fi

# boot stock|patched: all output of the tests goes to a log. One CPU each, as
# both run at the same time.
boot()
{
	KERNEL=$1 CONFIG=debug SMP=1 SCRIPT=$0 TIMEOUT=1500 \
		LOG=$BUILD/log/regress-$1-console.log "$TOOLS/vm.sh" \
		>"$BUILD/log/regress-$1.log" 2>"$work/$1.err"
}

# judge KERNEL STATUS: what a test leaves behind is its own fault, and the same
# on both
judge()
{
	count=$((count + 1))
	case "$2" in
	0 | "$ST_LEAK")
		echo "ok $count the $1 kernel's log is clean"
		;;
	*)
		echo "not ok $count the $1 kernel (vm.sh ended with $2)"
		tail -n 50 "$work/$1.err" | sed 's/^/# /'
		failed=1
		;;
	esac
}

# results NAME KERNEL: one line for each step and how it ended, without what
# differs from run to run: times, process ids, random names
results()
{
	awk -v name="=== $1" '$0 ~ /^=== / && $0 !~ /^=== status/ { in_it = $0 == name; next } in_it' \
		"$BUILD/log/regress-$2.log" | tr -d '\r' |
		grep -aE '\<(PASS|FAIL|SKIP|XFAIL|OK|ERROR|ok|fail|status)\>' |
		sed -E 's/\x1b\[[0-9;]*m//g
			s/\<[0-9]+([.][0-9]+)? ?m?s\>/TIME/g
			s/-[A-Za-z0-9]{6}\>/-RANDOM/g
			s/:[0-9]+:/:/
			s/[[:space:]]+$//'
}

work=$(mktemp -d "${TMPDIR:-/tmp}/small-rtnl-regress.XXXXXX")
trap 'rm -rf "$work"' EXIT
mkdir -p "$BUILD/log"
count=0
failed=0
[ "$MACHINE" = um ] && config=um || config=debug
"$TOOLS/build.sh" stock "$config" >/dev/null
"$TOOLS/build.sh" patched "$config" >/dev/null
say "running the base's tests on the stock and the patched kernel"
boot stock &
stock=$!
rc=0
boot patched || rc=$?
rc_stock=0
wait "$stock" || rc_stock=$?
judge stock "$rc_stock"
judge patched "$rc"
for name in "${tests[@]}"; do
	results "$name" stock >"$work/a"
	results "$name" patched >"$work/b"
	steps=$(grep -vc '^=== status' "$work/a" || true)
	good=$(grep -cE '\<(PASS|OK|ok)\>' "$work/a" || true)
	rc=$(sed -n 's/^=== status //p' "$work/a")
	if ! diff -U 0 "$work/a" "$work/b" >"$work/diff"; then
		echo "not ok $((++count)) $name: stock (-) and patched (+) differ"
		sed 's/^/# /' "$work/diff"
		failed=1
	elif [[ $rc = @(|4|124|126|127|137) ]]; then
		echo "ok $((++count)) $name # SKIP it does not run here (status ${rc:-unknown})"
	else
		echo "ok $((++count)) $name: as on stock, $good of $steps messages say that a step passed"
	fi
done
exit "$failed"
