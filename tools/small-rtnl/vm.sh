#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Boot a kernel under QEMU, or as User-mode Linux, on the host's own root,
# read-only. With SCRIPT= run that file as root, print what it prints, and exit
# with its status, or with one of ST_ in lib.sh; without, give a root shell.
#
# MACHINE=qemu|um  KERNEL=patched|stock|IMAGE, for um a program 'linux'
# CONFIG=debug|kasan|kcsan|off|FRAGMENT, for um only the first two and off
# POSSIBLE=64 CPUs, of which SMP are online: the kernel prepares for all of these
# SMP=2 MEM=2G TIMEOUT=600 STRICT=0|1  GUEST_ENV="A=1 B=2" for the script
# KERNEL_ARGS= more for the command line, MODULES= a folder as INSTALL_MOD_PATH
# LOG= the kernel's log  LEAK_WAIT=60 how long a namespace may take to die

. "$(dirname "$0")/lib.sh"

KERNEL=${KERNEL:-patched}
CONFIG=${CONFIG:-debug}
SCRIPT=${SCRIPT:-}
SMP=${SMP:-2}
POSSIBLE=${POSSIBLE:-}
MEM=${MEM:-2G}
MODULES=${MODULES:-}
MACHINE=${MACHINE:-qemu}

check_arguments()
{
	local tool word

	case "$MACHINE" in
	um) tool=busybox ;;
	qemu) tool=qemu-system-x86_64 ;;
	*) die "MACHINE=$MACHINE is neither 'qemu' nor 'um': name one" ;;
	esac
	for tool in "$tool" busybox cpio timeout; do
		command -v "$tool" >/dev/null || die "$tool is missing: run 'make deps'"
	done
	[[ $SMP =~ ^[1-9][0-9]*$ ]] || die "SMP=$SMP is not a number of CPUs: say SMP=2, for example"
	if [ -n "$POSSIBLE" ]; then
		[[ $POSSIBLE =~ ^[1-9][0-9]{0,3}$ ]] ||
			die "POSSIBLE=$POSSIBLE is not a number of CPUs: say POSSIBLE=64, for example"
		[ "$POSSIBLE" -ge "$SMP" ] ||
			die "POSSIBLE=$POSSIBLE CPUs are too few for SMP=$SMP that are online: say at least that many"
		[ "$MACHINE" = um ] || [ "$POSSIBLE" -le 255 ] ||
			die "POSSIBLE=$POSSIBLE CPUs are too many for QEMU's PC: it has at most 255"
	fi
	[[ $MEM =~ ^[1-9][0-9]*[MG]$ ]] || die "MEM=$MEM is not a size of memory: say MEM=2G, for example"
	if [ -z "$SCRIPT" ]; then
		# Nobody waits for the end of a shell that someone sits at
		[ -t 0 ] && TIMEOUT=${TIMEOUT:-0}
	else
		[ -f "$SCRIPT" ] || die "SCRIPT=$SCRIPT is not a file: name the script that the guest shall run"
		SCRIPT=$(realpath "$SCRIPT")
		case "$SCRIPT" in
		/proc/* | /sys/* | /dev/* | /run/*)
			die "SCRIPT=$SCRIPT is in a folder that the guest has of its own: copy it elsewhere"
			;;
		esac
	fi
	TIMEOUT=${TIMEOUT:-600}
	[[ $TIMEOUT =~ ^[0-9]+$ ]] || die "TIMEOUT=$TIMEOUT is not a number of seconds"
	for word in ${GUEST_ENV:-}; do
		[[ $word =~ ^[A-Za-z_][A-Za-z0-9_]*= ]] || die "GUEST_ENV holds '$word', which is not NAME=value"
	done
}

find_kernel()
{
	case "$KERNEL" in
	patched | stock)
		if [ "$MACHINE" = um ]; then
			case "$CONFIG" in
			um | debug) CONFIG=um ;;
			kasan | off) CONFIG=um-$CONFIG ;;
			*) die "CONFIG=$CONFIG is no kernel for User-mode Linux: it has debug, kasan and off" ;;
			esac
		fi
		image=$("$TOOLS/build.sh" "$KERNEL" "$CONFIG")
		name=$KERNEL-$(basename "$CONFIG" .config)
		;;
	*)
		[ -f "$KERNEL" ] || die "KERNEL=$KERNEL is neither 'patched' nor 'stock' nor a file: name a bzImage"
		image=$(realpath "$KERNEL")
		name=own
		;;
	esac
	if [ -z "$MODULES" ]; then
		MODULES=${image%/arch/x86/boot/bzImage}
		MODULES=${MODULES%/linux}/mods
	fi
	[ -d "$MODULES/lib/modules" ] || MODULES=
}

# What guest/init and guest/main.sh have to know, as shell assignments
params()
{
	local guest_env=() rows=24 cols=80

	read -ra guest_env <<<"${GUEST_ENV:-}"
	if [ -t 0 ]; then
		read -r rows cols < <(stty size)
	fi
	printf '%s=%q\n' TOP "$TOP" TOOLS "$TOOLS" SCRIPT "$SCRIPT" \
		MODULES "$MODULES" GUEST_NAME "$name" TERM "${TERM:-dumb}" \
		ROWS "$rows" COLS "$cols" LEAK_WAIT "${LEAK_WAIT:-60}" \
		MACHINE "$MACHINE" POSSIBLE "$POSSIBLE"
	printf 'GUEST_ENV=%q\n' "${guest_env[*]}"
}

initramfs()
{
	local root=$work/root

	mkdir -p "$root/bin"
	cp "$(command -v busybox)" "$root/bin/busybox"
	cp "$TOOLS/guest/init" "$root/init"
	chmod 755 "$root/init" "$root/bin/busybox"
	params >"$root/params"
	(cd "$root" && find . | cpio --quiet -H newc -o) >"$work/initramfs"
}

# /dev/kvm may be there and yet be of no use: only a boot tells. Asked once for
# each boot of the host.
kvm_works()
{
	local cache=$CACHE/kvm-probe boot

	[ -w /dev/kvm ] || return 1
	boot=$(cat /proc/sys/kernel/random/boot_id)
	if [ "$(cut -d ' ' -f 1 "$cache" 2>/dev/null)" != "$boot" ]; then
		say "trying KVM (20 s at most)"
		timeout -k 2 20 qemu-system-x86_64 -accel kvm -cpu max -m 512M \
			-nodefaults -no-user-config -display none -no-reboot \
			-kernel "$image" -initrd "$work/initramfs" \
			-append "small_rtnl_probe panic=-1 console=ttyS0" \
			-serial "file:$work/probe" >/dev/null 2>&1 </dev/null || true
		mkdir -p "$CACHE"
		if grep -q '^probed' "$work/probe" 2>/dev/null; then
			echo "$boot yes" >"$cache"
		else
			echo "$boot no" >"$cache"
			say "KVM does not work here: emulating (TCG)"
		fi
	fi
	[ "$(cut -d ' ' -f 2 "$cache")" = yes ]
}

# Sets command: QEMU with all but the channel of the script or of the shell
qemu_command()
{
	local accel=(-accel kvm) args

	args="console=ttyS0 earlyprintk=serial,ttyS0 ignore_loglevel oops=panic panic=-1 $common"
	# An emulated TSC is calibrated against an emulated timer: on a busy
	# machine the guest's clock ran six times too fast, and tests timed out
	kvm_works || {
		accel=(-accel 'tcg,thread=multi')
		args+=" tsc=unstable"
	}
	# One socket each: a BIOS lists only the first core of one in its MP table.
	# All are there, as Linux ignores absent ones where QEMU emulates.
	command=(qemu-system-x86_64 "${accel[@]}" -cpu max
		-smp "$cpus,sockets=$cpus,cores=1,threads=1" -m "$MEM"
		-nodefaults -no-user-config -display none -no-reboot
		-kernel "$image" -initrd "$work/initramfs" -append "$args"
		-virtfs 'local,path=/,mount_tag=host,security_model=none,readonly=on,multidevs=remap'
		-chardev "file,id=log,path=$LOG" -serial chardev:log
		-device 'virtio-serial-pci,ioeventfd=off'
		-chardev "file,id=verdict,path=$work/verdict"
		-device 'virtserialport,chardev=verdict,name=verdict')
	# A file and not a pipe: it takes all at once, so nothing can be on its
	# way when the guest ends
	if [ -n "$SCRIPT" ]; then
		command+=(-chardev "file,id=out,path=$work/out"
			-device 'virtserialport,chardev=out,name=out')
		return
	fi
	# With a monitor for Ctrl-a x; but that way QEMU loses what comes early,
	# so not for a shell fed from a pipe
	if [ -t 0 ]; then
		command+=(-chardev 'stdio,id=shell,signal=off,mux=on' -mon chardev=shell)
	else
		command+=(-chardev 'stdio,id=shell,signal=off')
	fi
	command+=(-device 'virtconsole,chardev=shell')
}

# The same for User-mode Linux: serial lines on files take the ports' place
uml_command()
{
	local shell=con1=null

	[ -n "$SCRIPT" ] || shell='con1=fd:0,fd:1'
	exec 5>"$LOG" 6>"$work/out" 7>"$work/verdict"
	# shellcheck disable=SC2206
	command=("$image" "mem=$MEM" "ncpus=$cpus" seccomp=on "initrd=$work/initramfs"
		con=null 'con0=null,fd:5' "$shell" ssl=null 'ssl0=null,fd:6' 'ssl1=null,fd:7'
		console=tty0 ignore_loglevel oops=panic $common)
}

boot()
{
	local command limit=() common rc=0 follow cpus=${POSSIBLE:-$SMP}

	# Objects counted one by one; devices only where the script makes them. KASAN has
	# red zones of its own, and takes a write to another one for an overflow.
	common="slab_nomerge slab_debug=FZU,net_namespace"
	[[ $CONFIG != *kasan ]] || common="slab_nomerge slab_debug=F,net_namespace"
	common+=" sysctl.net.core.fb_tunnels_only_for_init_net=2 bonding.max_bonds=0 ifb.numifbs=0"
	# At User-mode Linux's HZ of 100 a normal grace period takes far longer
	[ "$MACHINE" = qemu ] || common+=" rcupdate.rcu_expedited=1"
	[ "$cpus" -eq "$SMP" ] || common+=" maxcpus=$SMP"
	common+=" ${KERNEL_ARGS:-}"
	[ "$TIMEOUT" -eq 0 ] || limit=(timeout --foreground -k 5 "$TIMEOUT")
	: >"$work/out"
	if [ "$MACHINE" = um ]; then
		uml_command
	else
		qemu_command
	fi
	if [ -z "$SCRIPT" ]; then
		"${limit[@]}" "${command[@]}" || rc=$?
		return "$rc"
	fi
	"${limit[@]}" "${command[@]}" </dev/null >"$work/vmm" 2>&1 &
	vmm=$!
	tail -c +1 -s 0.1 --pid="$vmm" -f "$work/out" &
	follow=$!
	# User-mode Linux ends by SIGABRT, of which bash would tell
	{ wait "$vmm" || rc=$?; } 2>/dev/null
	vmm=
	wait "$follow" || true
	return "$rc"
}

# verdict STATUS-OF-QEMU: what all that comes to
verdict()
{
	local status gate=0

	"$TOOLS/check-log.sh" "$LOG" || gate=$?
	if ! grep -qx end "$work/verdict" 2>/dev/null; then
		if [ "$1" -eq 124 ] || [ "$1" -eq 137 ]; then
			say "fault: the guest was not done after TIMEOUT=$TIMEOUT s; its log is $LOG"
			return "$ST_TIME"
		fi
		tail -n 20 "$LOG" >&2
		tail -n 5 "$work/vmm" >&2 2>/dev/null || true
		say "fault: the guest died or never came up (it ended with $1); its whole log is $LOG"
		return "$ST_DEAD"
	fi
	status=$(sed -n 's/^status //p' "$work/verdict")
	[ "$gate" -eq 0 ] || say "fault: the kernel log holds a report, see above; the whole log is $LOG"
	sed -e '/^status /d' -e '/^end$/d' -e 's/^/fault: /' "$work/verdict" >&2
	# A status of the script's, a skip perhaps, must hide neither
	[ "$gate" -eq 0 ] && [ "$(wc -l <"$work/verdict")" -eq 2 ] && return "$status"
	[ "$status" -eq 0 ] || say "the script itself ended with $status"
	[ "$gate" -eq 0 ] || return "$gate"
	return "$ST_LEAK"
}

work=
vmm=
cleanup()
{
	[ -z "$vmm" ] || kill "$vmm" 2>/dev/null || true
	[ -z "$work" ] || rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

check_arguments
find_kernel
mkdir -p "$BUILD/log"
LOG=${LOG:-$BUILD/log/$name-console.log}
# The guest inherits the lock, and may outlive us
exec 8>>"$LOG"
flock -n 8 || die "another guest writes to $LOG: wait for it, or set LOG= to another file"
work=$(mktemp -d "${TMPDIR:-/tmp}/small-rtnl.XXXXXX")
initramfs
rc=0
boot || rc=$?
verdict "$rc"
