#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# compare.sh [whole]: with the option off, what does the series change? No
# structure, and only the functions that the file off/differences lists and
# explains: one that is not listed fails, and so does a listed one that does not
# differ.
#
# Compared are the objects of the C files that a patch touches. With "whole" it is
# all objects of two kernels, built in or module, as a header reaches further;
# bloat-o-meter has the last word on the linked kernel.
#
# Some functions are called through quietly(), which shellcheck does not see:
# shellcheck disable=SC2317

# shellcheck source=../lib.sh
. "$(dirname "$0")/../lib.sh"
# shellcheck source=../kbuild.sh
. "$TOOLS/kbuild.sh"

listed=$TOOLS/off/differences
struct_of=(net:net/core/net_namespace.o net_device:net/core/dev.o
	bareudp_dev:drivers/net/bareudp.o ip_tunnel:net/ipv4/ip_tunnel.o
	ip6_tnl:net/ipv6/ip6_tunnel.o vxlan_dev:drivers/net/vxlan/vxlan_core.o
	xfrm_if:net/xfrm/xfrm_interface_core.o)
# Have members without a size, or flags in what was padding
size_of=(veth_priv:drivers/net/veth.o vxcan_priv:drivers/net/can/vxcan.o
	netkit:drivers/net/netkit.o bareudp_net:drivers/net/bareudp.o
	pfcp_net:drivers/net/pfcp.o geneve_net:drivers/net/geneve.o
	gtp_net:drivers/net/gtp.o vxlan_net:drivers/net/vxlan/vxlan_core.o
	ip_tunnel_net:net/ipv4/ip_tunnel.o ip6_tnl_net:net/ipv6/ip6_tunnel.o
	ip6gre_net:net/ipv6/ip6_gre.o sit_net:net/ipv6/sit.o
	vti6_net:net/ipv6/ip6_vti.o xfrmi_net:net/xfrm/xfrm_interface_core.o
	macvlan_dev:drivers/net/macvlan.o macvlan_port:drivers/net/macvlan.o
	ipvl_dev:drivers/net/ipvlan/ipvlan_main.o ipvl_port:drivers/net/ipvlan/ipvlan_main.o
	ipvlan_netns:drivers/net/ipvlan/ipvlan_l3s.o
	vlan_info:net/8021q/vlan.o vlan_dev_priv:net/8021q/vlan.o
	macsec_dev:drivers/net/macsec.o
	rmnet_priv:drivers/net/ethernet/qualcomm/rmnet/rmnet_vnd.o
	virt_wifi_netdev_priv:drivers/net/wireless/virtual/virt_wifi.o)

for tool in pahole objdump objcopy python3; do
	command -v "$tool" >/dev/null || die "$tool is missing: run 'make deps'"
done
work=$(mktemp -d "${TMPDIR:-/tmp}/small-rtnl-off.XXXXXX")
trap 'rm -rf "$work"' EXIT

configure()
{
	mkdir -p "$obj"
	cat "$TOOLS"/kernel-config/{base,drivers,qemu,off}.config >"$obj/wanted"
	kmake -s KCONFIG_ALLCONFIG="$obj/wanted" allnoconfig &&
		check_config "$obj/wanted" "$obj/.config" &&
		kmake -s modules_prepare
}

# compile TREE: these objects, in $src/.obj-off-touched
compile()
{
	local src=$BUILD/${1/patched/linux} obj arch=x86_64 log=$BUILD/log/off-$1
	local wanted

	obj=$src/.obj-off-touched
	quietly "$log-config.log" "configuring the $1 tree with the option off" configure ||
		die "the configuration of the $1 tree failed: see $log-config.log"
	mapfile -t wanted < <(enabled "${touched[@]}")
	[ "${#wanted[@]}" -ge 20 ] || die "only ${#wanted[@]} of ${#touched[@]} objects are in the configuration"
	(cd "$obj" && rm -f "${touched[@]}")
	PROGRESS=objects_there quietly "$log.log" \
		"compiling ${#wanted[@]} of ${#touched[@]} touched objects of the $1 tree" kmake -s "${wanted[@]}" ||
		die "the $1 tree does not compile: see $log.log"
}

if [ "${1:-}" = whole ]; then
	stock=$("$TOOLS/build.sh" stock off)
	patched=$("$TOOLS/build.sh" patched off)
	stock=${stock%/arch/*}
	patched=${patched%/arch/*}
else
	[ $# -eq 0 ] || die "usage: compare.sh [whole]"
	[ -e "$BUILD/linux/.git" ] || die "there is no patched tree at $BUILD/linux: run 'make tree'"
	mapfile -t touched < <(git -C "$BUILD/linux" diff --name-only base HEAD -- \
		'drivers/**.c' 'net/**.c' | grep -v '_test\.c$' | sed 's/\.c$/.o/')
	stock_tree
	compile stock
	compile patched
	stock=$BUILD/stock/.obj-off-touched
	patched=$BUILD/linux/.obj-off-touched
fi

# Members, offsets and size of a structure. An empty structure of ours, which the
# option fills, takes no room: not a member.
layout()
{
	pahole -C "$1" "$2" |
		sed -E '/^$/d; /struct rtnl_[a-z_]+ .* 0 \*\/$/d; s/, members: [0-9]+//'
}

size()
{
	layout "$1" "$2" | sed -n 's,.*/\* size: \([0-9]*\).*,\1,p' | tail -n 1
}

for struct in "${struct_of[@]}" "${size_of[@]}"; do
	kept=layout
	[[ " ${size_of[*]} " != *" $struct "* ]] || kept=size
	file=${struct#*:}
	struct=${struct%:*}
	"$kept" "$struct" "$stock/$file" >"$work/a"
	"$kept" "$struct" "$patched/$file" >"$work/b"
	size=$(size "$struct" "$stock/$file")
	rc=0
	diff -U 0 "$work/a" "$work/b" >"$work/out" || rc=1
	[ -n "$size" ] || { echo "pahole finds no struct $struct in $file" >>"$work/out"; rc=1; }
	result "$rc" "struct $struct: the same $kept, $size bytes" "$work/out"
done

say "comparing objects"
if [ "${1:-}" = whole ]; then
	"$TOOLS/off/objdiff.py" "$stock" "$patched" >"$work/found"
else
	printf '%s\n' "${touched[@]}" >"$work/touched"
	"$TOOLS/off/objdiff.py" "$stock" "$patched" - <"$work/touched" >"$work/found"
fi || die "objdiff.py failed, see above"
touch "$work/touched"
awk -v whole="$([ "${1:-}" != whole ] || echo 1)" '
function flag(text) {
	print text
	bad = 1
}
{ sub(/[ \t]*#.*/, "") }
FILENAME == ARGV[1] {
	touched[$1]
	next
}
FILENAME == ARGV[2] {
	if (NF == 0)
		next
	# A header may change an object that no patch touches: not looked at here
	if (!whole && !($1 in touched) && $1 != "*")
		next
	if (NF < 4)
		flag("line " FNR " explains nothing: " $0)
	want[$1 " " $2] = $3
	next
}
{
	key = $1 " " $2
	if (key in want && want[key] == $3)
		used[key] = 1
	else if ("* *" in want && want["* *"] == $3)
		used["* *"] = 1
	else
		flag("not explained: " $0)
}
END {
	for (key in want)
		if (!(key in used))
			flag("explained, but there is no such difference: " key " " want[key])
	exit bad
}' "$work/touched" "$listed" "$work/found" >"$work/out" && rc=0 || rc=1
result "$rc" "each function that differs is explained in off/differences" "$work/out"
awk '{ print "# " $0 }' "$work/found"

if [ "${1:-}" != whole ]; then
	exit $((failed > 0))
fi

# By size only, but nothing of the build escapes it
python3 "$patched/../scripts/bloat-o-meter" "$stock/vmlinux" "$patched/vmlinux" >"$work/bloat"
awk 'FILENAME == ARGV[1] { found[$2] = 1; next }
	NF == 4 && $4 ~ /^[-+][0-9]+$/ && !($1 in found) { print $0; bad = 1 }
	END { exit bad }' "$work/found" "$work/bloat" >"$work/out" && rc=0 || rc=1
result "$rc" "bloat-o-meter finds nothing else in vmlinux" "$work/out"
sed 's/^/# /' "$work/bloat"
exit $((failed > 0))
