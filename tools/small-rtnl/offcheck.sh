#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# offcheck.sh: with the option off, what does the series change? No structure,
# and only the functions that the file off-differences lists and explains: one
# that is not listed fails, and so does a listed one that does not differ.
# Built-in code and modules are compared alike; bloat-o-meter has the last word
# on the linked kernel.

. "$(dirname "$0")/lib.sh"
# shellcheck source=tap.sh
. "$TOOLS/tap.sh"

listed=$TOOLS/off-differences
struct_of=(net:vmlinux net_device:vmlinux bareudp_dev:drivers/net/bareudp.ko
	ip_tunnel:net/ipv4/ip_tunnel.ko ip6_tnl:net/ipv6/ip6_tunnel.ko
	vxlan_dev:drivers/net/vxlan/vxlan.ko xfrm_if:net/xfrm/xfrm_interface.ko)
# Have members without a size, or flags in what was padding
size_of=(veth_priv:drivers/net/veth.ko vxcan_priv:drivers/net/can/vxcan.ko
	netkit:vmlinux bareudp_net:drivers/net/bareudp.ko
	pfcp_net:drivers/net/pfcp.ko geneve_net:drivers/net/geneve.ko
	gtp_net:drivers/net/gtp.ko vxlan_net:drivers/net/vxlan/vxlan.ko
	ip_tunnel_net:net/ipv4/ip_tunnel.ko ip6_tnl_net:net/ipv6/ip6_tunnel.ko
	ip6gre_net:net/ipv6/ip6_gre.ko sit_net:net/ipv6/sit.ko
	vti6_net:net/ipv6/ip6_vti.ko xfrmi_net:net/xfrm/xfrm_interface.ko
	macvlan_dev:drivers/net/macvlan.ko macvlan_port:drivers/net/macvlan.ko
	ipvl_dev:drivers/net/ipvlan/ipvlan.ko ipvl_port:drivers/net/ipvlan/ipvlan.ko
	ipvlan_netns:drivers/net/ipvlan/ipvlan.ko
	vlan_info:net/8021q/8021q.ko vlan_dev_priv:net/8021q/8021q.ko
	macsec_dev:drivers/net/macsec.ko rmnet_priv:drivers/net/ethernet/qualcomm/rmnet/rmnet.ko
	virt_wifi_netdev_priv:drivers/net/wireless/virtual/virt_wifi.ko)

for tool in pahole objdump objcopy python3; do
	command -v "$tool" >/dev/null || die "$tool is missing: run 'make deps'"
done
stock=$("$TOOLS/build.sh" stock off)
patched=$("$TOOLS/build.sh" patched off)
stock=${stock%/arch/*}
patched=${patched%/arch/*}
work=$(mktemp -d "${TMPDIR:-/tmp}/small-rtnl-off.XXXXXX")
trap 'rm -rf "$work"' EXIT

# Members, offsets and size of a structure
layout()
{
	pahole -C "$1" "$2" | sed '/^$/d'
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
"$TOOLS/objdiff.py" "$stock" "$patched" >"$work/found" ||
	die "objdiff.py failed, see above"
awk '
function flag(text) {
	print text
	bad = 1
}
{ sub(/[ \t]*#.*/, "") }
FILENAME == ARGV[1] {
	if (NF == 0)
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
}' "$listed" "$work/found" >"$work/out" && rc=0 || rc=1
result "$rc" "each function that differs is explained in off-differences" "$work/out"
awk '{ print "# " $0 }' "$work/found"

# By size only, but nothing of the build escapes it
python3 "$patched/../scripts/bloat-o-meter" "$stock/vmlinux" "$patched/vmlinux" >"$work/bloat"
awk 'FILENAME == ARGV[1] { found[$2] = 1; next }
	NF == 4 && $4 ~ /^[-+][0-9]+$/ && !($1 in found) { print $0; bad = 1 }
	END { exit bad }' "$work/found" "$work/bloat" >"$work/out" && rc=0 || rc=1
result "$rc" "bloat-o-meter finds nothing else in vmlinux" "$work/out"
sed 's/^/# /' "$work/bloat"
exit $((failed > 0))
