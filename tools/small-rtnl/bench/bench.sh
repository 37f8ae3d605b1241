#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# make bench: compile the load generator, choose the machine, build the kernels,
# and let bench.py boot and compare them.
#
# SCENARIOS="setup churn ..."  only these; cni installs Debian's plug-ins
# REPEAT=5     boots of each kernel
# N="100 500 2000"  namespaces of setup; the first is dismantle's, too
# KERNELS="stock off on"  stock first, to which the others are compared: the
#              patched tree with our option off and on. 'debug' is the one that
#              the tests boot, to try the tools; its times mean nothing
# BUDGET=1500  seconds for the boots: beyond, fewer repeats
# SCALE=100    percent of devices, cycles and seconds of all but setup
# TRACE=0      no further boots with events on, for which stock is built with
#              stock-events.patch   TIMEOUT=1200 for one boot
# MACHINE=qemu|um  instead of looking whether KVM works
# SMP=2 MEM=4G of the guest   RESULTS=bench/results
# POSSIBLE="2 64 256"  CPUs of possible's guests, of which SMP= are online; QEMU's
#              PC has at most 255

# shellcheck source=../lib.sh
. "$(dirname "$0")/../lib.sh"

MEM=${MEM:-4G}
SMP=${SMP:-2}
KERNELS=${KERNELS:-stock off on}
MACHINE=${MACHINE:-}
TRACE=${TRACE:-1}
RESULTS=${RESULTS:-$TOP/bench/results}
bench=$BUILD/bench
export MEM SMP TRACE RESULTS

# The same answer as vm.sh's probe, which needs a kernel, where one answer does
# for both: no. A boot sector is enough to see that KVM runs no guest.
kvm_runs()
{
	local tries pid

	[ -w /dev/kvm ] || return 1
	command -v qemu-system-x86_64 >/dev/null || return 1
	# mov al, 'P'; out 0xe9, al; hlt; jmp -3
	{
		printf '\xb0P\xe6\xe9\xf4\xeb\xfd'
		head -c 503 /dev/zero
		printf '\x55\xaa'
	} >"$bench/sector"
	rm -f "$bench/probe"
	timeout -k 1 10 qemu-system-x86_64 -accel kvm -cpu max -m 64M -nodefaults \
		-no-user-config -display none -debugcon "file:$bench/probe" \
		-drive "file=$bench/sector,format=raw,if=floppy,readonly=on" -boot a \
		>/dev/null 2>&1 </dev/null &
	pid=$!
	for ((tries = 0; tries < 50; tries++)); do
		sleep 0.2
		if grep -qs P "$bench/probe"; then
			kill "$pid"
			return 0
		fi
		kill -0 "$pid" 2>/dev/null || return 1
	done
	kill "$pid"
	return 1
}

# vm.sh asks once for each boot of the host, and remembers
kvm_remembered()
{
	[ "$(cat "$CACHE/kvm-probe" 2>/dev/null)" = "$(cat /proc/sys/kernel/random/boot_id) $1" ]
}

choose_machine()
{
	case "$MACHINE" in
	qemu | um)
		say "the machine is $MACHINE, as MACHINE= asks for"
		return
		;;
	'') ;;
	*) die "MACHINE=$MACHINE is neither 'qemu' nor 'um': name one, or none to let the tools choose" ;;
	esac
	if ! kvm_remembered no && kvm_runs 2>/dev/null; then
		probe_kernel
		if kvm_remembered yes; then
			MACHINE=qemu
			say "the machine is QEMU: KVM works here"
			return
		fi
	fi
	MACHINE=um
	say "the machine is User-mode Linux with $SMP CPUs: KVM does not work here"
}

# The whole of that probe boots the kernel that is to be measured
probe_kernel()
{
	local image

	kvm_remembered yes && return
	image=$("$TOOLS/build.sh" stock prod-qemu)
	echo true >"$bench/true.sh"
	POSSIBLE='' MACHINE=qemu KERNEL=$image SCRIPT=$bench/true.sh LOG=$bench/probe.log TIMEOUT=120 \
		"$TOOLS/vm.sh" || true
}

build_kernel()
{
	local image traced

	case "$1" in
	stock)
		image=$("$TOOLS/build.sh" stock "prod-$MACHINE")
		# The same with lock events, for the boots that are traced
		if [ "$TRACE" != 0 ]; then
			traced=$("$TOOLS/build.sh" stock-events "prod-$MACHINE")
			images+=("traced:stock=$traced")
		fi
		;;
	off) image=$("$TOOLS/build.sh" patched "prod-$MACHINE") ;;
	on) image=$("$TOOLS/build.sh" patched "prod-on-$MACHINE") ;;
	debug) image=$("$TOOLS/build.sh" patched "${MACHINE/qemu/debug}") ;;
	*) die "KERNELS holds '$1', which is none of stock, off and on" ;;
	esac
	images+=("$1=$image")
}

for tool in gcc python3 gnuplot; do
	command -v "$tool" >/dev/null || die "$tool is missing: run 'make deps'"
done
mkdir -p "$bench"
# Before any kernel is built
"$TOOLS/bench/bench.py" check
[[ " ${SCENARIOS:-cni} " != *" cni "* ]] || "$TOOLS/deps.sh" cni
generator=$TOP/tools/testing/selftests/net/rtnl_net_bench.c
gcc -O2 -Wall -o "$bench/rtnl_net_bench" "$generator" -lmnl ||
	die "the load generator does not compile: is libmnl-dev there? Run 'make deps'"
choose_machine
export MACHINE
# QEMU has fewer possible CPUs, which is known only now
"$TOOLS/bench/bench.py" check
images=()
for kernel in $KERNELS; do
	build_kernel "$kernel"
done
exec "$TOOLS/bench/bench.py" run "${images[@]}"
