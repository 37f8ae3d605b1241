#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Does vm.sh tell a good run from each kind of bad one? Prints KTAP, fails if
# one case does. MACHINE=, KERNEL= and MODULES= as for vm.sh.

# shellcheck source=../lib.sh
. "$(dirname "$0")/../lib.sh"

export CONFIG=debug MACHINE=${MACHINE:-um}
KERNEL=${KERNEL:-patched}
case "$KERNEL" in
patched | stock)
	# Once, and not before each case
	[ "$MACHINE" = um ] && config=um || config=debug
	KERNEL=$("$TOOLS/build.sh" "$KERNEL" "$config")
	;;
esac
export KERNEL

work=$(mktemp -d "${TMPDIR:-/tmp}/small-rtnl-test.XXXXXX")
trap 'rm -rf "$work"' EXIT

# guest NAME WANTED-STATUS: run standard input as the guest's script; its output
# is left in $work/out
guest()
{
	local status=0

	cat >"$work/script"
	SCRIPT=$work/script LOG=$work/console "$TOOLS/vm.sh" \
		>"$work/out" 2>"$work/err" || status=$?
	[ "$status" -eq "$2" ] || echo "status $status, wanted $2" >>"$work/err"
	result $((status != $2)) "$1" "$work/err"
}

# has NAME FILE PATTERN
has()
{
	local rc=0

	grep -qE "$3" "$2" || rc=1
	result "$rc" "$1" "$work/err"
}

echo "KTAP version 1"

guest "a script that succeeds" 0 <<'EOF'
echo hello
EOF
has "its output comes out" "$work/out" '^hello$'

guest "a script's own status" 3 <<'EOF'
exit 3
EOF

head -c 3000000 /dev/urandom >"$work/random"
guest "a binary output" 0 <<EOF
cat $work/random
EOF
cmp -s "$work/random" "$work/out" && same=0 || same=1
result "$same" "it is unadulterated" "$work/err"

GUEST_ENV="A=1 B=x" SMP=1 guest "environment and number of CPUs" 0 <<'EOF'
echo "standard error" >/dev/stderr
[ "$A$B" = 1x ] && [ "$(nproc)" = 1 ] && [ "$(id -u)" = 0 ]
EOF
has "standard error comes out" "$work/out" '^standard error$'

POSSIBLE=8 guest "more CPUs than are online" 0 <<'EOF'
[ "$(nproc)" = 2 ] && [ "$(cat /sys/devices/system/cpu/possible)" = 0-7 ]
EOF
POSSIBLE=20 guest "more CPUs than the kernel has room for" 1 <<<true
has "it says so" "$work/out" '^error: POSSIBLE=20 CPUs are wanted and this kernel has'
POSSIBLE=1 guest "fewer CPUs than are online" 1 <<<true
has "it says so, too" "$work/err" '^error: POSSIBLE=1 CPUs are too few'
POSSIBLE=many guest "a number of CPUs that is none" 1 <<<true
has "and it says so" "$work/err" '^error: POSSIBLE=many is not a number'

guest "the guest cannot write to the host" 0 <<EOF
echo changed >$work/random && grep -q changed $work/random
EOF
grep -q changed "$work/random" && rc=1 || rc=0
result "$rc" "the host's file is as before" "$work/err"

guest "a module and two namespaces, cleaned up" 0 <<'EOF'
set -e
ip netns add a
ip netns add b
ip -n a link add v0 type veth peer name v1 netns b
ip -n a link del v0
ip netns del a
ip netns del b
EOF

guest "a warning in the kernel log" "$ST_LOG" <<'EOF'
echo WARNING >/sys/kernel/debug/provoke-crash/DIRECT
EOF
has "its excerpt is shown" "$work/err" 'WARNING: .*lkdtm'

guest "a warning hides behind no other status" "$ST_LOG" <<'EOF'
echo WARNING >/sys/kernel/debug/provoke-crash/DIRECT
exit 4
EOF

guest "a lockdep report" "$ST_LOG" <<'EOF'
echo SPINLOCKUP >/sys/kernel/debug/provoke-crash/DIRECT
EOF

foreign='echo "rtnl_net: foreign unregistration: x0 (nosuchkind) of netns 2 by a thread holding netns 1" >/dev/kmsg'
guest "a foreign unregistration" "$ST_LOG" <<<"$foreign"
STRICT=0 guest "the same with STRICT=0" 0 <<<"$foreign"
has "it is noted" "$work/err" '^note: .*nosuchkind'

guest "a named namespace left behind" "$ST_LEAK" <<'EOF'
ip netns add forgotten
EOF
has "it is named" "$work/err" 'left: forgotten'

guest "a device left behind" "$ST_LEAK" <<'EOF'
ip link add forgotten type dummy
EOF
has "it is named, too" "$work/err" 'forgotten'

LEAK_WAIT=3 guest "a nameless namespace left behind" "$ST_LEAK" <<'EOF'
ip netns add hidden
mkdir /run/elsewhere
touch /run/elsewhere/ns
mount --bind /run/netns/hidden /run/elsewhere/ns
ip netns del hidden
EOF

guest "processes left behind are ended, with their namespace" 0 <<'EOF'
unshare -n sleep 1000 &
unshare -n setsid sleep 1000 >/dev/null 2>&1 &
sleep 1
EOF

guest "a panic" "$ST_DEAD" <<'EOF'
echo PANIC >/sys/kernel/debug/provoke-crash/DIRECT
EOF

TIMEOUT=60 guest "a script without end" "$ST_TIME" <<'EOF'
echo before
sleep 1000
EOF
has "what it said is there" "$work/out" '^before$'

exec 8>>"$work/console"
flock 8
guest "a log that another guest writes to" 1 <<<true
has "it says so" "$work/err" '^error: another guest writes to '
exec 8>&-

head -c 100000 /dev/urandom >"$work/image"
KERNEL=$work/image guest "an image that is no kernel" "$ST_DEAD" <<<true

if [ "$MACHINE" = um ]; then
	skip "an interactive shell" "the base's User-mode Linux crashes when its console is a pipe that ends"
else
	# shellcheck disable=SC2016
	printf 'echo sum $((40 + 2))\nexit 7\n' |
		LOG=$work/console TIMEOUT=120 "$TOOLS/vm.sh" >"$work/out" 2>"$work/err" && rc=0 || rc=$?
	result $((rc != 7)) "an interactive shell" "$work/err"
	has "it answers" "$work/out" 'sum 42'
fi

echo "1..$((passed + failed + skipped))"
[ "$failed" -eq 0 ]
