# SPDX-License-Identifier: GPL-2.0

"""
Kinds of devices that can die because something in another network namespace
does, and how to make one of each.
"""

import collections
import functools
import socket
import struct

from lib.py import ksft_pr
from rtnl_net_lib import NetnsFd, bareudp_data, ifindex, ipvlan_data, \
    pair_data, strerror

# Its other end is in another netns; what it is looked up by, such as a socket,
# is; it is on top of a lower device that is
PAIR, TUNNEL, STACKED = "pair", "tunnel", "stacked"

# how: one of these. data: for Rtnl.add(), by a number that is unlike those of
# all others. one: whether a netns (tunnels) or a lower device has room for one
# only. follows: whether it dies when its lower only moves. fixed: whether it
# never moves itself. local: whether it is made where it is looked up, and can
# only be moved away from there.
Kind = collections.namedtuple("Kind", "how kind data one follows fixed local",
                              defaults=[False] * 4)


def _u8(value):
    return struct.pack("=B", value)


def _u16(value):
    return struct.pack("=H", value)


def _be16(value):
    return struct.pack("!H", value)


def _ip4(num):
    """ An address of a remote end """
    return bytes([10, 200 + (num >> 16), num >> 8 & 255, num & 255])


def _ip6(num):
    return socket.inet_pton(socket.AF_INET6, f"2001:db8::{num + 1:x}")


def _ipip(num, remote=_ip4):
    return [(2, remote(0)), (3, remote(num + 1))]


def _gre(num, remote=_ip4):
    # A key of its own makes it unlike all others
    return [(2, _be16(0x2000)), (3, _be16(0x2000)),
            (4, struct.pack("!I", num)), (5, struct.pack("!I", num)),
            (6, remote(0)), (7, remote(num + 1))]


def _erspan(num, remote=_ip4):
    return [(2, _be16(0x3000)), (3, _be16(0x3000)),
            (4, struct.pack("!I", num & 1023)),
            (5, struct.pack("!I", num & 1023)),
            (6, remote(0)), (7, remote(num + 1)), (21, num & 0xfffff)]


def _vti(num, remote=_ip4):
    return [(2, struct.pack("!I", num)), (3, struct.pack("!I", num)),
            (4, remote(0)), (5, remote(num + 1))]


# The same over IPv6
_ipip6, _gre6, _erspan6, _vti6 = [functools.partial(data, remote=_ip6) for data
                                  in (_ipip, _gre, _erspan, _vti)]

KINDS = {
    "veth": Kind(PAIR, "veth", 1),
    "vxcan": Kind(PAIR, "vxcan", 1),
    "netkit": Kind(PAIR, "netkit", 1),

    "bareudp": Kind(TUNNEL, "bareudp", lambda num: bareudp_data(1024 + num)),
    "pfcp": Kind(TUNNEL, "pfcp", lambda num: [], one=True),
    "geneve": Kind(TUNNEL, "geneve", lambda num: [(1, num), (2, _ip4(num))]),
    "vxlan": Kind(TUNNEL, "vxlan", lambda num: [(1, num)]),
    # With sockets that the kernel makes
    "gtp": Kind(TUNNEL, "gtp", lambda num: [(5, _u8(1))], one=True),
    "ipip": Kind(TUNNEL, "ipip", _ipip, local=True),
    "gre": Kind(TUNNEL, "gre", _gre, local=True),
    "gretap": Kind(TUNNEL, "gretap", _gre, local=True),
    "erspan": Kind(TUNNEL, "erspan", _erspan, local=True),
    "vti": Kind(TUNNEL, "vti", _vti, local=True),
    "sit": Kind(TUNNEL, "sit", _ipip, local=True),
    "ip6tnl": Kind(TUNNEL, "ip6tnl", _ipip6, local=True),
    "ip6gre": Kind(TUNNEL, "ip6gre", _gre6, local=True),
    "ip6gretap": Kind(TUNNEL, "ip6gretap", _gre6, local=True),
    "ip6erspan": Kind(TUNNEL, "ip6erspan", _erspan6, local=True),
    "vti6": Kind(TUNNEL, "vti6", _vti6, local=True),
    "xfrm": Kind(TUNNEL, "xfrm", lambda num: [(2, num + 1)], local=True),

    "ipvlan": Kind(STACKED, "ipvlan", lambda num: ipvlan_data("l2")),
    "ipvtap": Kind(STACKED, "ipvtap", lambda num: ipvlan_data("l2")),
    "macvlan": Kind(STACKED, "macvlan", lambda num: [(1, 4)]),
    "macvlan_source": Kind(STACKED, "macvlan", lambda num: [(1, 16)]),
    "macvlan_passthru": Kind(STACKED, "macvlan", lambda num: [(1, 8)],
                             one=True),
    "macvtap": Kind(STACKED, "macvtap", lambda num: [(1, 4)]),
    "vlan": Kind(STACKED, "vlan", lambda num: [(1, _u16(1 + num % 4000))]),
    "vxlan_lower": Kind(STACKED, "vxlan", lambda num: [(1, num)],
                        follows=True),
    "macsec": Kind(STACKED, "macsec",
                   lambda num: [(2, _be16(1 + num % 65000))], follows=True),
    "rmnet": Kind(STACKED, "rmnet", lambda num: [(1, _u16(1 + num % 250))],
                  follows=True),
    "virt_wifi": Kind(STACKED, "virt_wifi", lambda num: [], one=True,
                      follows=True, fixed=True),
}


def make(rtnl, key, name, netns, num=0, link=0, peer=None):
    """
    Make a device of a kind in a netns, from the netns of a socket: that has
    the tunnel's own, or the lower device. A pair's other end is a name and a
    netns. Return the error number.
    """
    kind = KINDS[key]
    data = pair_data(kind.data, *peer) if kind.how == PAIR else kind.data(num)
    # Not by IFLA_LINK, which would name the device that vxlan sends by
    if key == "vxlan_lower":
        data, link = data + [(3, link)], 0
    if kind.local:
        return rtnl.add(name, kind.kind, None, data) or rtnl.move(name, netns)
    return rtnl.add(name, kind.kind, netns, data, link)


def present(pool, keys):
    """ Those that the kernel has, found out by making one of each """
    netns, = pool.add("kinds")
    found = []
    with pool.rtnl(netns) as rtnl, NetnsFd(netns) as here:
        for num, key in enumerate(keys):
            link = 0
            if KINDS[key].how == STACKED:
                rtnl.add_veth(f"l{num}", here, f"p{num}", here)
                link = ifindex(netns, f"l{num}")
            err = make(rtnl, key, f"k{num}", here, num, link,
                       (f"o{num}", here))
            if not err:
                found.append(key)
            elif strerror(err) == "ENOTSUP":
                ksft_pr(f"the kernel has no {key}")
            else:
                raise OSError(err, f"make {key}: {strerror(err)}")
    pool.kill(netns)
    return found
