#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Process 1 of the guest once it stands on the host's root: run the script, see
# what it left behind, tell the host by the port 'verdict', end the guest.
# /run/params, written by vm.sh, says what to run.

# shellcheck disable=SC1091
. /run/params
# shellcheck disable=SC2153
read -ra guest_env <<<"$GUEST_ENV"

export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export HOME=/root TERM=${TERM:-dumb} LC_ALL=C SMALL_RTNL_GUEST=1

# port NAME: the device that leads to the host's file of that name
port()
{
	local name

	if [ "$MACHINE" = um ]; then
		[ "$1" = out ] && name=ttyS0 || name=ttyS1
		stty -F "/dev/$name" raw -echo
		echo "$name"
		return
	fi
	for name in /sys/class/virtio-ports/*/name; do
		[ "$(cat "$name")" != "$1" ] || basename "$(dirname "$name")"
	done
}

setup()
{
	local release

	mkdir -p /dev/pts /dev/shm /run/lock
	mount -t devpts -o mode=620,ptmxmode=666 devpts /dev/pts
	mount -t tmpfs shm /dev/shm
	mount -t debugfs debugfs /sys/kernel/debug
	mount -t tracefs tracefs /sys/kernel/tracing
	mount -t cgroup2 cgroup2 /sys/fs/cgroup
	ln -sf /proc/self/fd /dev/fd
	ln -sf fd/0 /dev/stdin
	ln -sf fd/1 /dev/stdout
	ln -sf fd/2 /dev/stderr
	hostname "$GUEST_NAME" 2>/dev/null || echo "$GUEST_NAME" >/proc/sys/kernel/hostname
	ip link set lo up
	release=$(uname -r)
	if [ -n "$MODULES" ]; then
		mkdir -p "/lib/modules/$release"
		mount --bind "$MODULES/lib/modules/$release" "/lib/modules/$release"
	fi
}

# Everybody but us, the kernel's threads and those named in $1
kill_rest()
{
	local pid dir

	for dir in /proc/[0-9]*; do
		pid=${dir#/proc/}
		case "$pid" in 1 | "${1:-}") continue ;; esac
		# A kernel thread has no executable
		readlink "$dir/exe" >/dev/null 2>&1 && kill -9 "$pid" 2>/dev/null
	done
}

# A debug kernel tracks the references on each struct net, until it is freed. The
# slab is the next best: there KASAN keeps what was freed for a while.
netns_objects()
{
	local dirs=(/sys/kernel/debug/ref_tracker/net_notrefcnt@*)

	if [ -e "${dirs[0]}" ]; then
		echo "${#dirs[@]}"
	else
		awk '$1 == "net_namespace" { print $2; exit }' /proc/slabinfo
	fi
}

# The last round's dead namespaces are freed only by the next one: start one
flush_netns()
{
	unshare -n true
}

devices()
{
	(cd /sys/class/net && echo *)
}

# settle: wait until as many namespaces live as at the start. Each round leaves
# its own namespace for the next to free, at the start as well as now.
settle()
{
	local tries

	for ((tries = 0; tries < LEAK_WAIT * 5; tries++)); do
		[ "$(netns_objects)" -gt "$objects" ] || return 0
		[ $((tries % 10)) -ne 9 ] || flush_netns
		sleep 0.2
	done
	return 1
}

# stable: two rounds of ours are over and the count no longer moves
stable()
{
	local last now

	flush_netns
	sleep 0.3
	flush_netns
	last=
	while sleep 0.3; do
		now=$(netns_objects)
		[ "$now" != "$last" ] || break
		last=$now
	done
	echo "$now"
}

# Prints what is left over
leaks()
{
	local left

	left=$(ls /run/netns 2>/dev/null)
	# shellcheck disable=SC2086
	[ -z "$left" ] || echo "named network namespaces left:" $left
	left=$(devices)
	[ "$left" = "$before" ] ||
		echo "network devices left in init_net: $left (before: $before)"
	flush_netns
	settle ||
		echo "$(($(netns_objects) - objects)) network namespaces still live after $LEAK_WAIT s"
}

# Whether the kernel has the CPUs that it shall have. The list begins with 0.
possible()
{
	local list

	[ -n "$POSSIBLE" ] || return 0
	list=$(cat /sys/devices/system/cpu/possible)
	[ $((${list#*-} + 1)) -eq "$POSSIBLE" ] || {
		echo "error: POSSIBLE=$POSSIBLE CPUs are wanted and this kernel has $((${list#*-} + 1)): is CONFIG_NR_CPUS less, or CONFIG_ACPI missing for QEMU?"
		return 1
	}
}

run_script()
{
	local status writer

	# By way of a pipe: a port can be opened only once, and scripts open
	# /dev/stdout
	mkfifo /run/out
	cat /run/out >"/dev/$(port out)" &
	writer=$!
	cd "$TOP" || exit
	{
		possible &&
			env -i PATH="$PATH" HOME="$HOME" TERM="$TERM" LC_ALL=C TOP="$TOP" \
				SMALL_RTNL_GUEST=1 "${guest_env[@]}" setsid bash "$SCRIPT"
	} </dev/null >/run/out 2>&1
	status=$?
	kill_rest "$writer"
	wait "$writer"
	return "$status"
}

setup >/dev/kmsg 2>&1
if [ -z "$SCRIPT" ]; then
	cd "$TOP" || cd /
	[ "$MACHINE" = um ] && console=/dev/tty1 || console=/dev/hvc0
	# Opened once: a close would drop what was typed meanwhile
	exec 3<>"$console"
	stty rows "$ROWS" cols "$COLS" sane <&3
	echo "$GUEST_NAME, $(uname -r): 'exit' ends it, Ctrl-a x kills it" >&3
	# The host's own .bashrc may do anything
	PS1='\h:\w# ' setsid -c bash --norc -i <&3 >&3 2>&1
	status=$?
	leaked=
else
	objects=$(stable)
	before=$(devices)
	run_script
	status=$?
	leaked=$(leaks)
fi
{
	echo "status $status"
	[ -z "$leaked" ] || echo "$leaked"
	echo end
} >"/dev/$(port verdict)"
# Without ACPI a PC cannot be turned off; UML would start again
[ "$MACHINE" = um ] && busybox poweroff -f
echo b >/proc/sysrq-trigger
sleep 100
