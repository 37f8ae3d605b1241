#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# demo.sh: what 'make run' plays in the patched debug kernel. Devices in the
# namespaces A, B, C and D die in eight steps; for each device the kernel's own
# debug messages tell in which namespace, under whose mutex and in whose context
# that was. Fails if a device outlives the command that deletes it, or if the
# kernel's log holds a report.
#
# This very script runs as the guest's.

. "$(dirname "$0")/lib.sh"

dynamic=/sys/kernel/debug/dynamic_debug/control
tracing=/sys/kernel/tracing/instances/demo
step=0
failed=0

# One line on what the demonstration, the log and the search for leaks come to
run_host()
{
	local rc=0 verdict

	KERNEL=patched CONFIG=debug MACHINE=${MACHINE:-um} SCRIPT=$0 "$TOOLS/vm.sh" || rc=$?
	case "$rc" in
	0) verdict="clean: no warning and no lockdep report, no device or namespace left behind" ;;
	"$ST_LOG") verdict="the kernel log holds a report, see above" ;;
	"$ST_LEAK") verdict="a device or a namespace was left behind, see above" ;;
	"$ST_DEAD") verdict="the guest died or never came up, see above" ;;
	"$ST_TIME") verdict="the guest was not done in time, see above" ;;
	*) verdict="the demonstration failed, see above" ;;
	esac
	echo "verdict: $verdict"
	return "$rc"
}

if [ "${SMALL_RTNL_GUEST:-}" != 1 ]; then
	run_host
	exit
fi

declare -A name_of	# inode number of a namespace: its name

add_netns()
{
	local name

	name_of[$(stat -Lc %i /proc/self/ns/net)]=init_net
	for name; do
		ip netns add "$name"
		name_of[$(stat -Lc %i "/run/netns/$name")]=$name
	done
}

# veth NETNS DEV NETNS PEER: a pair in use, which keeps addresses and routes
veth()
{
	ip -n "$1" link add "$2" type veth peer name "$4" netns "$3"
	ip -n "$1" link set "$2" up
	ip -n "$3" link set "$4" up
}

# Each call of synchronize_rcu() and synchronize_rcu_expedited() that waits makes
# one of these events
count_grace_periods()
{
	local event

	mkdir "$tracing"
	for event in rcu/rcu_sr_normal rcu/rcu_exp_grace_period workqueue/workqueue_execute_end; do
		echo 1 >"$tracing/events/$event/enable" ||
			die "this kernel has no event $event: use CONFIG=debug"
	done
}

# hits normal|expedited|dismantled: how often that was since the step began
hits()
{
	local pattern

	case "$1" in
	normal) pattern='rcu_sr_normal: .* request' ;;
	expedited) pattern='rcu_exp_grace_period: .* snap$' ;;
	dismantled) pattern='workqueue_execute_end: .* function cleanup_net$' ;;
	esac
	grep -c "$pattern" "$tracing/trace" || true
}

# Dismantle is a work that nobody can wait for: see it return
wait_dismantled()
{
	local tries

	for ((tries = 0; tries < 300; tries++)); do
		[ "$(hits dismantled)" -eq 0 ] || return 0
		sleep 0.1
	done
	die "the dead namespace was not dismantled within 30 s"
}

# Only what the log holds after the mark of this step
log()
{
	dmesg | sed "1,/demo: step $step\$/d"
}

# A row for each device, from "rtnl_net: DEV (KIND) dies in netns INUM under
# MUTEX, in COMM[PID]"
deaths()
{
	local dev kind inum mutex by row='   %-7s %-7s %-8s %-16s %s\n'

	# shellcheck disable=SC2059 # one format for the head and the rows
	printf "$row" device kind netns under by
	log | sed -nE 's/.*rtnl_net: (\S+) \((\S+)\) dies in netns ([0-9]+) under (.*), in (.*)/\1 \2 \3 \5|\4/p' |
	while read -r dev kind inum by; do
		mutex=${by#*|}
		[ "$mutex" != "its mutex" ] || mutex="${name_of[$inum]}'s mutex"
		# shellcheck disable=SC2059
		printf "$row" "$dev" "$kind" "${name_of[$inum]}" "$mutex" "${by%|*}"
	done
}

# The kernel's own report, which comes once for each kind of device
foreign()
{
	local names=() inum report

	for inum in "${!name_of[@]}"; do
		names+=(-e "s/netns $inum/& (${name_of[$inum]})/")
	done
	report=$(log | sed -n 's/^.*\(rtnl_net: foreign unregistration: .*\)/\1/p' |
		sed "${names[@]}")
	[ -z "$report" ] || {
		echo "   FAILED: $report"
		failed=1
	}
}

# kill_devices TITLE "NETNS/DEV..." COMMAND: the command must take these along
kill_devices()
{
	local title=$1 doomed=$2 command=$3 normal expedited left="" dev
	local when="the command returned"

	step=$((step + 1))
	echo
	echo "$step. $title"
	echo "   \$ $command"
	echo "demo: step $step" >/dev/kmsg
	echo >"$tracing/trace"
	eval "$command" 2>&1 | sed 's/^/   /'
	if [[ $command = "ip netns del"* ]]; then
		when="the namespace's dismantle was over"
		wait_dismantled
	fi
	normal=$(hits normal)
	expedited=$(hits expedited)

	for dev in $doomed; do
		if [ -e "/run/netns/${dev%/*}" ] &&
		   ip -n "${dev%/*}" link show "${dev#*/}" >/dev/null 2>&1; then
			left+=" $dev"
		fi
	done
	deaths >/run/deaths
	cat /run/deaths
	for dev in $doomed; do
		grep -qE "^   ${dev#*/} +\S+ +${dev%/*} " /run/deaths || {
			echo "   FAILED: the kernel did not say that $dev died"
			failed=1
		}
	done
	foreign
	echo "   grace periods waited for: $((normal + expedited)) ($normal calls of synchronize_rcu(), $expedited of synchronize_rcu_expedited(), by anybody)"
	if [ -z "$left" ]; then
		echo "   all gone when $when: yes"
	else
		echo "   all gone when $when: NO, there is still$left"
		failed=1
	fi
}

[ -w "$dynamic" ] || die "this kernel has no dynamic debug: use CONFIG=debug"
echo 'format "rtnl_net:" +p' >"$dynamic"
count_grace_periods
add_netns A B C D
echo "Linux $(uname -r), network namespaces A, B, C and D"

veth A a0 B b0
kill_devices "A pair across two namespaces: a0 in A, its peer b0 in B" \
	"A/a0 B/b0" "ip -n A link del a0"

veth A a0 B b0
ip -n B link add link b0 name i0 netns C type ipvlan
ip -n C link set i0 up
kill_devices "A chain over three: a0 in A, its peer b0 in B, i0 in C on top of b0" \
	"A/a0 B/b0 C/i0" "ip -n A link del a0"

veth A a0 D d0
ip -n A link add link a0 name i1 netns B type ipvlan
ip -n A link add link a0 name i2 netns C type ipvlan
ip -n A link add link a0 name i3 netns D type ipvlan
ip -n A link add link a0 name t4 netns D type ipvtap
ip -n B link set i1 up
ip -n C link set i2 up
ip -n D link set i3 up
ip -n D link set t4 up
kill_devices "A stack over all four: a0 in A, on top of it i1 in B, i2 in C, i3 and t4 in D" \
	"A/a0 D/d0 B/i1 C/i2 D/i3 D/t4" "ip -n A link del a0"

veth A a8 D d8
ip -n A link add link a8 name v8 netns B type vlan id 8
ip -n A link add link a8 name s8 netns C type macsec
ip -n B link add link v8 name m8 netns D type macvlan
ip -n B link set v8 up
ip -n D link set m8 up
kill_devices "Other kinds: vlan v8 in B and macsec s8 in C on top of a8, macvlan m8 in D on top of v8" \
	"A/a8 D/d8 B/v8 C/s8 D/m8" "ip -n D link del d8"

veth A a1 B b1
veth A a2 C c2
veth A a3 D d3
ip -n A link set a1 group 7
ip -n A link set a2 group 7
ip -n A link set a3 group 7
kill_devices "A group: a1, a2 and a3 in A, their peers in B, C and D" \
	"A/a1 B/b1 A/a2 C/c2 A/a3 D/d3" "ip -n A link del group 7"

veth C c4 D d4
kill_devices "Both ends at once, c4 in C and d4 in D: who is late finds nothing" \
	"C/c4 D/d4" "ip -n C link del c4 & ip -n D link del d4 & wait"

ip -n A link add u5 netns B type bareudp dstport 6635 ethertype ipv4
ip -n B link set u5 up
kill_devices "A namespace dies: A, with the socket of the tunnel u5 in B" \
	"B/u5" "ip netns del A"

veth B b6 C c6
veth B b7 D d7
kill_devices "A namespace dies: B, with b6 and b7, whose peers live in C and D" \
	"B/b6 C/c6 B/b7 D/d7" "ip netns del B"

echo
rmdir "$tracing"
ip netns del C
ip netns del D
grep -qE 'debug_locks: *1$' /proc/lockdep_stats ||
	die "lockdep is off: its report is in the kernel log"
exit "$failed"
