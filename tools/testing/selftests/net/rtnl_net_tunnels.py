#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0

"""
Test that tunnels are made, changed and deleted with RTNL held shared.

         A              B
   +----------+   +----------+
   | x0       |   | z0       |
   | of A     |   | of A     |
   +----------+   +----------+

A tunnel belongs to the namespace whose routes its packets take, and is in lists
of that one, wherever its device is. As long as the device is there, too, one
mutex guards both. For a tunnel that is elsewhere, or ever was, RTNL is held
exclusively, also when the namespace dies that it belongs to.

How RTNL is held is told by trace events, request by request.

Environment: RACES scales the numbers of rounds
"""

import errno
import socket
import struct

from lib.py import KsftNamedVariant, KsftSkipEx, ksft_eq, ksft_exit, ksft_ge, \
    ksft_pr, ksft_run, ksft_true, ksft_variants
from rtnl_net_lib import IFLA_IFNAME, IFLA_LINKINFO, IFLA_LINK_NETNSID, \
    IFLA_MTU, LockTrace, NetnsFd, Nets, Pool, RTM_SETLINK, Rtnl, \
    bareudp_data, devices, ifindex, inum, strerror, stretched, tell_handlers
from rtnl_net_links_lib import Crew, Kind, OwnTrace, RACES, REPEAT, counters, \
    die, fallback_tunnels, first_error, in_new_namespaces, live_and_die, \
    names, nets_for, no_fallback_tunnels, pass_each_other, reaped_by, \
    require_kind, sections, told

# IPv4 tunnels, and the device of each kind that a new namespace gets
IPV4_TUNNELS = {"erspan": "erspan0", "gre": "gre0", "gretap": "gretap0",
                "ipip": "tunl0", "sit": "sit0", "vti": "ip_vti0"}
FALLBACK_KINDS = list(IPV4_TUNNELS)
FALLBACK_DEVICES = set(IPV4_TUNNELS.values())
# Attributes of their ends, and what else they need
IPV4_ENDS = dict.fromkeys(("erspan", "gre", "gretap"), (6, 7)) | \
    dict.fromkeys(("ipip", "sit"), (2, 3)) | {"vti": (4, 5)}
IFLA_GRE_LINK = 1
ERSPAN = [(attr, struct.pack("!H", 0x3000)) for attr in (2, 3)] + \
    [(attr, struct.pack("!I", 100)) for attr in (4, 5)]

# IPv6 tunnels with the attributes of their ends, and XFRM interfaces
IPV6_TUNNELS = {"ip6tnl": (2, 3), "ip6gre": (6, 7), "ip6gretap": (6, 7),
                "ip6erspan": (6, 7), "vti6": (4, 5), "xfrm": None}
FALLBACK_KINDS += ["ip6tnl", "ip6gre", "vti6"]
FALLBACK_DEVICES |= {"ip6tnl0", "ip6gre0", "ip6_vti0"}
# Of all these kinds
IFLA_TUNNEL_LINK = 1
IFLA_XFRM_IF_ID = 2
# Flags, keys and index
IPV6_ERSPAN = [(2, b"\x30\0"), (3, b"\x30\0"), (4, b"\0\0\0\7"),
               (5, b"\0\0\0\7"), (21, 7)]


def ipv4_tunnel(kind, end, start="127.0.0.1"):
    """ What Rtnl.add() and Rtnl.change() have to say for an IPv4 tunnel """
    return [*zip(IPV4_ENDS[kind], map(socket.inet_aton, (start, end))),
            *(ERSPAN if kind == "erspan" else [])]


def ipv6_tunnel(kind, num):
    """ What Rtnl.add() and Rtnl.change() have to say, for a tunnel via lo """
    # ip6gretap does not change into what an ip6gre has
    net = list(IPV6_TUNNELS).index(kind)
    ends = [(attr, socket.inet_pton(socket.AF_INET6, f"2001:db8:{net}::{end}"))
            for attr, end in zip(IPV6_TUNNELS[kind] or (), (1, num))]
    return [(IFLA_TUNNEL_LINK, 1), *ends,
            *(IPV6_ERSPAN if kind == "ip6erspan" else []),
            *([] if ends else [(IFLA_XFRM_IF_ID, num)])]


# By kind, what a case needs to know
MORE = {kind: Kind(data=ipv4_tunnel(kind, "127.0.0.2"),
                   change=ipv4_tunnel(kind, "127.0.0.3"), moves=False)
        for kind in IPV4_TUNNELS}
MORE |= {kind: Kind(data=ipv6_tunnel(kind, 2), change=ipv6_tunnel(kind, 3),
                    moves=False) for kind in IPV6_TUNNELS}

IFLA_GENEVE_ID = 1
IFLA_GENEVE_REMOTE = 2
IFLA_GENEVE_COLLECT_METADATA = 6
IFLA_VXLAN_ID = 1
IFLA_VXLAN_GROUP = 2
IFLA_VXLAN_LINK = 3
IFLA_VXLAN_COLLECT_METADATA = 25
IFLA_VXLAN_VNIFILTER = 30

# Tunnels, which belong to the namespace of their sockets. What follows a dash
# is not part of the kind.
UDP_TUNNELS = {
    "bareudp": Kind(data=bareudp_data(6635)),
    "geneve": Kind(data=[(IFLA_GENEVE_ID, 7),
                         (IFLA_GENEVE_REMOTE, bytes((192, 0, 2, 1)))],
                   change=[(IFLA_GENEVE_REMOTE, bytes((192, 0, 2, 2)))]),
    "geneve-external": Kind(data=[(IFLA_GENEVE_COLLECT_METADATA, b"")]),
    "vxlan": Kind(data=[(IFLA_VXLAN_ID, 7),
                        (IFLA_VXLAN_GROUP, bytes((192, 0, 2, 1)))],
                  change=[(IFLA_VXLAN_GROUP, bytes((192, 0, 2, 2)))]),
    "vxlan-filter": Kind(data=[(IFLA_VXLAN_COLLECT_METADATA, b"\1"),
                               (IFLA_VXLAN_VNIFILTER, b"\1")]),
}
GROUPS = [(IFLA_VXLAN_GROUP, bytes((239, 0, 0, num))) for num in (1, 2)]


@ksft_variants([KsftNamedVariant(kind, kind) for kind in MORE])
def more_kinds_hold_rtnl_shared(kind):
    """ Life of a device of one more kind, and its death with its namespace """
    live_and_die(kind, MORE[kind])


def kind_of(rtnl, name):
    """ The kind of a device. It is the first thing that LINKINFO says. """
    info = rtnl.get(name)[1].get(IFLA_LINKINFO, b"")
    return info[4:struct.unpack_from("=H", info)[0] - 1].decode() \
        if info else None


def fallback_devices_come_and_go():
    """ Those of tunnels have no new or dying namespace in anybody's way """
    counters()
    with Pool() as pool:
        # init_net gets none as a module is loaded
        with fallback_tunnels("2"):
            for kind in FALLBACK_KINDS:
                require_kind(pool, kind, MORE[kind].data)
        s = Nets(pool, "b")
        s.ignore()
        with fallback_tunnels("0"), LockTrace() as trace:
            s.revive("a")
        a, there = inum(s.a), devices(s.a) - {"lo"}
        ksft_true(there >= FALLBACK_DEVICES, f"a new namespace has {there}")
        if others := {kind for name in there
                      if (kind := kind_of(s.rtnl["a"], name)) not in MORE}:
            raise KsftSkipEx(f"a new namespace has devices of kinds {others}")
        made = [section for section in sections(trace.events)
                if section.holds({a})]
        ksft_ge(len(made), 1 + len(there), "one section for each device")
        gone = die(s, pool, devices(s.b) - {"lo"})
        s.check_left()
        ksft_eq(set(reaped_by(gone, a)) - {"lo"}, there)
        for found in (made, gone):
            ksft_eq([pair for pair in told(
                section for section in found if section.holds({a}))
                     if pair[1] != "shared"], [])


@ksft_variants([KsftNamedVariant(kind, kind) for kind in IPV4_TUNNELS])
def tunnels_elsewhere_are_exclusive(kind):
    """ Those that are in B, and belong to A or were made from there """
    with nets_for(kind, MORE[kind].data, "a", "b") as (s, pool):
        s.introduce("b", "a", 7)
        rtnls = s.rtnl["a"], s.rtnl["b"]
        ksft_eq(names(rtnl.set_up("lo") for rtnl in rtnls), ["success"] * 2)
        with OwnTrace() as trace, NetnsFd(s.a) as fd_a, NetnsFd(s.b) as fd_b:
            trace.ask_shared("creation", {inum(s.a)}, rtnls[0].add, "x0", kind,
                             fd_a, MORE[kind].data)
            trace.ask_shared("up", {inum(s.a)}, rtnls[0].set_up, "x0")
            for what, func, *args in (
                    ("move", rtnls[0].move, "x0", fd_b),
                    ("up", rtnls[1].set_up, "x0"),
                    ("mtu", rtnls[1].request, RTM_SETLINK, 0,
                     (IFLA_IFNAME, "x0"), (IFLA_MTU, 1400)),
                    ("change", rtnls[1].change, "x0", kind, MORE[kind].change),
                    ("return", rtnls[1].move, "x0", fd_a),
                    ("up again", rtnls[0].set_up, "x0"),
                    ("second move", rtnls[0].move, "x0", fd_b),
                    ("creation from A", rtnls[0].add, "y0", kind, fd_b,
                     MORE[kind].data),
                    ("deletion", rtnls[1].delete, "y0"),
                    ("creation for A", rtnls[1].add, "z0", kind, None,
                     ipv4_tunnel(kind, "127.0.0.4"), 0,
                     [(IFLA_LINK_NETNSID, 7)])):
                found = trace.ask(what, func, *args)
                ksft_true(found and found[-1].rtnl.startswith("exclusive"),
                          f"{what}: {told(found)}")
        ksft_eq(devices(s.b), {"lo", "x0", "z0"})

        # They do not survive the namespace that they belong to
        b = inum(s.b)
        found = die(s, pool, set())
        s.check_left()
        ksft_eq(reaped_by(found, b), ["x0", "z0"])
        for section in found:
            ksft_true(section.rtnl.startswith("exclusive") or
                      not reaped_by([section], b), told(found))


def tunnel_joins_a_group():
    """ The device below gets a multicast address, in a shared section """
    with nets_for("gre", MORE["gre"].data, "a") as (s, _):
        a, rtnl = inum(s.a), s.rtnl["a"]
        errs = [rtnl.add("d0", "dummy", None), rtnl.set_up("d0")]
        link = ifindex(s.a, "d0")
        errs.append(rtnl.address(link, "192.0.2.1"))
        ksft_eq(names(errs), ["success"] * 3)
        data = ipv4_tunnel("gre", "233.252.0.1", "192.0.2.1")
        with OwnTrace() as trace:
            trace.ask_shared("creation", {a}, rtnl.add, "x0", "gre", None,
                             [(IFLA_GRE_LINK, link), *data])
            for _ in range(REPEAT):
                trace.ask_shared("up", {a}, rtnl.set_up, "x0")
                trace.ask_shared("down", {a}, rtnl.set_down, "x0")
            trace.ask_shared("up", {a}, rtnl.set_up, "x0")
            trace.ask_shared("deletion", {a}, rtnl.delete, "x0")
        s.check_left(a=["d0"])


@ksft_variants([KsftNamedVariant(kind, kind) for kind in IPV6_TUNNELS])
def ipv6_tunnel_elsewhere_is_exclusive(kind):
    """ One that is, or ever was, not in the namespace that it belongs to """
    with nets_for(kind, MORE[kind].data, "a", "b") as (s, pool):
        s.introduce("b", "a", 7)
        a, b = s.rtnl["a"], s.rtnl["b"]
        with OwnTrace() as trace, NetnsFd(s.a) as fd_a, NetnsFd(s.b) as fd_b:
            trace.ask_shared("creation", {inum(s.a)}, a.add, "x0", kind, fd_a,
                             MORE[kind].data)
            for why, what, func, *args in (
                    ("foreign", "move", a.move, "x0", fd_b),
                    ("kind", "up", b.set_up, "x0"),
                    ("kind", "change", b.change, "x0", kind,
                     MORE[kind].change),
                    ("kind", "return", b.move, "x0", fd_a),
                    ("kind", "up again", a.set_up, "x0"),
                    ("kind", "deletion", a.delete, "x0"),
                    ("foreign", "creation from A", a.add, "y0", kind, fd_b,
                     MORE[kind].data),
                    ("kind", "deletion", b.delete, "y0"),
                    ("foreign", "creation for A", b.add, "z0", kind, None,
                     MORE[kind].data, 0, [(IFLA_LINK_NETNSID, 7)])):
                found = trace.ask(what, func, *args)
                ksft_eq(found[-1].rtnl if found else None, f"exclusive:{why}",
                        what)

        # It dies along with A
        where = inum(s.b)
        found = [section for section in die(s, pool, set())
                 if (where, "z0") in section.reaped]
        s.check_left()
        ksft_eq([section.rtnl.partition(":")[0] for section in found],
                ["exclusive"])


@ksft_variants([KsftNamedVariant(kind, kind) for kind in IPV6_TUNNELS])
def ipv6_tunnel_made_thrice(kind):
    """ The same one twice in A, and once in B for A: two of them fail """
    wrong, first = [], [0, 0, 0]
    with Pool() as pool:
        data = MORE[kind].data
        require_kind(pool, kind, data)
        s = Nets(pool, "a", "b")
        s.ignore()
        s.introduce("b", "a", 7)
        with Rtnl(s.a) as other, Crew(
                lambda num: s.rtnl["a"].add("x0", kind, None, data),
                lambda num: other.add("y0", kind, None, data),
                lambda num: s.rtnl["b"].add("z0", kind, None, data, 0,
                                            [(IFLA_LINK_NETNSID, 7)])) as crew:
            for num in range(max(1, 5 * RACES // 2)):
                errs = crew.go()
                left = s.left()
                who = errs.index(0) if 0 in errs else 0
                name = "xyz"[who] + "0"
                err = s.rtnl["aab"[who]].delete(name)
                after = s.left()
                if sorted(errs) != [0] + [errno.EEXIST] * 2 or err or after \
                        or left != {"aab"[who]: [name]}:
                    wrong.append((num, names([*errs, err]), left, after))
                    break
                first[who] += 1
    ksft_pr(f"they were the first {first} times")
    ksft_eq(wrong, [], "rounds")


def use_ip_tunnels(rtnl, kinds, rounds, keep=False):
    """ Make, use and delete tunnels of these kinds, again and again """
    for _ in range(rounds):
        for kind in kinds:
            errs = [rtnl.add(kind, kind, None, MORE[kind].data),
                    rtnl.set_up(kind),
                    rtnl.change(kind, kind, MORE[kind].change),
                    0 if keep else rtnl.delete(kind)]
            if any(errs):
                return first_error(errs)
    return 0


def ip_tunnels_in_new_namespaces(pool, kinds, rounds):
    """ Make namespaces, and delete them with their tunnels """
    return in_new_namespaces(
        pool, rounds, lambda rtnl, netns, num: rtnl.set_up("lo") or
        use_ip_tunnels(rtnl, kinds, 1, keep=True))


@ksft_variants([KsftNamedVariant("ipv4", IPV4_TUNNELS),
                KsftNamedVariant("ipv6", IPV6_TUNNELS)])
def ip_tunnels_pass_each_other(kinds):
    """ Tunnels in namespaces of their own, while others come and go """
    with stretched(0), Pool() as pool:
        for kind in kinds:
            require_kind(pool, kind, MORE[kind].data)
        s = Nets(pool, "a", "b")
        s.ignore()
        rounds = max(1, RACES // 5)
        funcs = [lambda num, rtnl=rtnl: use_ip_tunnels(rtnl, kinds, rounds)
                 for rtnl in s.rtnl.values()]
        pass_each_other(s, pool, funcs, lambda num:
                        ip_tunnels_in_new_namespaces(pool, kinds, rounds))


def require_tunnel(pool, key):
    """ Skip what needs a tunnel that the kernel does not have """
    require_kind(pool, key.split("-")[0], UDP_TUNNELS[key].data)


def add_tunnel(rtnl, key, name, netns=None):
    """ Make one of UDP_TUNNELS, whose sockets are where the socket is """
    return rtnl.add(name, key.split("-")[0], netns, UDP_TUNNELS[key].data)


def use_tunnel(rtnl, key, ask):
    """ All that is done to a tunnel at home, from its creation on """
    change = UDP_TUNNELS[key].change
    ask("creation", add_tunnel, rtnl, key, "x0")
    ask("up", rtnl.set_up, "x0")
    if change:
        ask("change", rtnl.change, "x0", key, change)
    ask("mtu", rtnl.request, RTM_SETLINK, 0, (IFLA_IFNAME, "x0"),
        (IFLA_MTU, 1400))
    ask("down", rtnl.set_down, "x0")
    ask("up again", rtnl.set_up, "x0")
    return ask("deletion", rtnl.delete, "x0")


@ksft_variants([KsftNamedVariant(key, key) for key in UDP_TUNNELS])
def udp_tunnels_hold_rtnl_shared(key):
    """ Life of a tunnel at home, and its death with its namespace """
    counters()
    with no_fallback_tunnels(), Pool() as pool:
        require_tunnel(pool, key)
        s = Nets(pool, "a", "b")
        s.ignore()
        a = inum(s.a)
        with OwnTrace() as trace:
            for _ in range(REPEAT):
                found = use_tunnel(
                    s.rtnl["a"], key, lambda what, *args:
                    trace.ask_shared(what, {a}, *args))
                ksft_eq(reaped_by(found, a), ["x0"])
        s.check_left()

        errs = [add_tunnel(s.rtnl["a"], key, "x0"), s.rtnl["a"].set_up("x0")]
        ksft_eq(names(errs), ["success"] * 2)
        found = die(s, pool, set())
        ksft_true("x0" in reaped_by(found, a), "no section reaped the device")
        ksft_eq([pair for pair in told(
            section for section in found if section.holds({a}))
                 if pair[1] != "shared"], [])


def vxlan_at_home_with_its_lower():
    """ Its groups and its link are changed with RTNL held shared """
    counters()
    with no_fallback_tunnels(), Pool() as pool:
        require_tunnel(pool, "vxlan")
        s = Nets(pool, "a", "b")
        s.ignore()
        a = {inum(s.a)}
        rtnl = s.rtnl["a"]
        with OwnTrace() as trace:
            links = []
            for name in ("l0", "l1"):
                trace.ask_shared("lower", a, rtnl.add, name, "dummy", None)
                trace.ask_shared("lower up", a, rtnl.set_up, name)
                links.append((IFLA_VXLAN_LINK, ifindex(s.a, name)))
            for num in range(2):
                trace.ask_shared("creation", a, rtnl.add, f"x{num}", "vxlan",
                                 None, [(IFLA_VXLAN_ID, 1 + num), GROUPS[0],
                                        links[0]])
                # Both join the group by one socket
                trace.ask_shared("up", a, rtnl.set_up, f"x{num}")
            for what, change in (("group", GROUPS[1]), ("link", links[1])):
                trace.ask_shared(what, a, rtnl.change, "x1", "vxlan", [change])
            trace.ask_shared("mtu of the lower", a, rtnl.request, RTM_SETLINK,
                             0, (IFLA_IFNAME, "l1"), (IFLA_MTU, 1450))
            trace.ask_shared("down", a, rtnl.set_down, "x1")
            trace.ask_shared("up again", a, rtnl.set_up, "x1")
            found = trace.ask_shared("deletion of the lower", a, rtnl.delete,
                                     "l1")
            ksft_eq(reaped_by(found, inum(s.a)), ["l1", "x1"])
        found = die(s, pool, set())
        ksft_true({"l0", "x0"} <= set(reaped_by(found, min(a))))
        ksft_eq([pair for pair in told(
            section for section in found if section.holds(a))
                 if pair[1] != "shared"], [])


def vxlan_away_from_its_lower():
    """ What is done to either of them is done with RTNL held exclusively """
    counters()
    with Pool() as pool:
        require_tunnel(pool, "vxlan")
        s = Nets(pool, "a", "b")
        s.ignore()
        rtnl = s.rtnl["a"]
        ksft_eq(strerror(rtnl.add("l0", "dummy", None)), "success")
        data = [(IFLA_VXLAN_ID, 7), GROUPS[0],
                (IFLA_VXLAN_LINK, ifindex(s.a, "l0"))]
        with OwnTrace() as trace, NetnsFd(s.b) as fd_b:
            for what, gate, func, *args in (
                    ("creation", "foreign", rtnl.add, "x0", "vxlan", fd_b,
                     data),
                    ("up", "kind", s.rtnl["b"].set_up, "x0"),
                    ("another one", "foreign", rtnl.add, "x1", "vxlan", None,
                     [(IFLA_VXLAN_ID, 8), *data[1:]]),
                    ("lower up", "foreign", rtnl.set_up, "l0"),
                    ("deletion", "foreign", rtnl.delete, "l0")):
                found = trace.ask(what, func, *args)
                ksft_eq(found[-1].rtnl if found else None,
                        f"exclusive:{gate}", what)
        s.check_left()


@ksft_variants([KsftNamedVariant(key, key) for key in UDP_TUNNELS])
def udp_tunnels_away_are_exclusive(key):
    """ A tunnel that is, or was, elsewhere, also when its sockets' A dies """
    counters()
    with no_fallback_tunnels(), Pool() as pool:
        require_tunnel(pool, key)
        s = Nets(pool, "a", "b")
        s.ignore()
        a, b = s.rtnl["a"], s.rtnl["b"]
        with OwnTrace() as trace, NetnsFd(s.a) as fd_a, NetnsFd(s.b) as fd_b:
            trace.ask_shared("creation", {inum(s.a)}, add_tunnel, a, key, "x0")
            for what, gate, func, *args in (
                    ("move", "foreign", a.move, "x0", fd_b),
                    ("up", "kind", b.set_up, "x0"),
                    ("mtu", "kind", b.request, RTM_SETLINK, 0,
                     (IFLA_IFNAME, "x0"), (IFLA_MTU, 1400)),
                    ("way back", "kind", b.move, "x0", fd_a),
                    ("up at home", "kind", a.set_up, "x0"),
                    ("deletion at home", "kind", a.delete, "x0"),
                    ("creation away", "foreign", add_tunnel, a, key, "x0",
                     fd_b),
                    ("deletion", "kind", b.delete, "x0")):
                found = trace.ask(what, func, *args)
                ksft_eq(found[-1].rtnl if found else None,
                        f"exclusive:{gate}", what)
            # Not because of others
            use_tunnel(a, key, lambda what, *args: trace.ask_shared(
                what, {inum(s.a)}, *args))
            ksft_eq(names([add_tunnel(a, key, "x0", fd_b), b.set_up("x0")]),
                    ["success"] * 2)
        away = inum(s.b), "x0"
        found = [section for section in die(s, pool, set())
                 if away in section.reaped]
        ksft_eq(len(found), 1)
        for section in found:
            ksft_true(section.rtnl.startswith("exclusive"), told(found))
        s.check_left()


def use_udp_tunnels(rtnl, num):
    """ Make, use and delete one tunnel of each sort """
    errs = []
    for key in list(UDP_TUNNELS)[num % 2::2]:
        use_tunnel(rtnl, key, lambda what, func, *args:
                   errs.append(func(*args)))
    return first_error(errs)


def udp_tunnels_pass_each_other():
    """ Those of different namespaces, whose sockets have the same ports """
    with stretched(0), Pool() as pool:
        for key in UDP_TUNNELS:
            require_tunnel(pool, key)
        s = Nets(pool, *"abc")
        s.ignore()
        pass_each_other(s, pool, [lambda num, rtnl=rtnl:
                                  use_udp_tunnels(rtnl, num)
                                  for rtnl in s.rtnl.values()],
                        rounds=max(2, RACES // 2))


def main():
    """ All cases """
    tell_handlers()
    ksft_run([more_kinds_hold_rtnl_shared, fallback_devices_come_and_go,
              tunnels_elsewhere_are_exclusive, tunnel_joins_a_group,
              ipv6_tunnel_elsewhere_is_exclusive, ipv6_tunnel_made_thrice,
              ip_tunnels_pass_each_other, udp_tunnels_hold_rtnl_shared,
              vxlan_at_home_with_its_lower, vxlan_away_from_its_lower,
              udp_tunnels_away_are_exclusive, udp_tunnels_pass_each_other])
    ksft_exit()


if __name__ == "__main__":
    main()
