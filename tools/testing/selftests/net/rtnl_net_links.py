#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0

"""
Test that devices are made, changed, moved and deleted with RTNL held shared, if
they are of kinds that are audited for it.

         A              B              C              D
   +----------+   +----------+   +----------+   +----------+
   | v0 ------|---|-- p0     |   | v0 ------|---|-- p0     |
   | d0       |   |          |   |          |   | d0       |
   +----------+   +----------+   +----------+   +----------+

A section holds the mutexes of all namespaces whose devices it changes: that of
the device, that of its peer, and that where the device moves to. So what is
done to the first pair passes what is done to the second one, and what is done
to the two ends of one pair does not. The death of a namespace is such a
section, too, unless a device in it is of another kind, or linked to one in
another namespace.

How RTNL is held is told by trace events, request by request, and by the
counters in debugfs. In about every other round of a race, sections last longer.

Environment: RACES scales the numbers of rounds
"""

import contextlib
import errno
import itertools
import random
import struct
import time

from lib.py import KsftNamedVariant, ksft_eq, ksft_exit, ksft_ge, ksft_lt, \
    ksft_pr, ksft_run, ksft_true, ksft_variants
from rtnl_net_lib import IFF_UP, IFLA_ADDRESS, IFLA_CARRIER, IFLA_GROUP, \
    IFLA_IFALIAS, IFLA_IFNAME, IFLA_MTU, IFLA_NET_NS_FD, IFLA_TXQLEN, \
    NetnsFd, Nets, Pool, RTM_DELLINK, RTM_NEWLINK, RTM_SETLINK, Rtnl, \
    VETH_INFO_PEER, WAIT_TIMEOUT, devices, ifindex, inum, pair_data, \
    strerror, stretched, tell_handlers
from rtnl_net_links_lib import Crew, IFLA_MACVLAN_MODE, Kind, MAC, \
    MACVLAN_MODE_BRIDGE, OwnTrace, RACES, REPEAT, counters, die, first_error, \
    grown, in_new_namespaces, live_and_die, names, nets_for, \
    no_fallback_tunnels, pass_each_other, reaped_by, require_kind, told

IFLA_GTP_CREATE_SOCKETS = 5

# Kinds, and for a pair the attribute that describes the peer
AUDITED = {"dummy": None, "veth": VETH_INFO_PEER}
UNAUDITED = "gtp"
UNAUDITED_DATA = [(IFLA_GTP_CREATE_SOCKETS, b"\1")]

SO_RCVBUFFORCE = 33
SOL_SOCKET = 1
IFLA_MASTER = 10
IFLA_BR_FORWARD_DELAY = 1
IFLA_NETKIT_PEER_INFO = 1
IFLA_NETKIT_POLICY = 3
NETKIT_DROP = 2
IFLA_VRF_TABLE = 1
VXCAN_INFO_PEER = 1

# More kinds that are audited, but do not take all of CHANGES
MORE = {
    "bridge": Kind(moves=False),
    "ifb": Kind(),
    "netkit": Kind(peer=IFLA_NETKIT_PEER_INFO,
                   change=[(IFLA_NETKIT_POLICY, NETKIT_DROP)]),
    "nlmon": Kind(),
    "vcan": Kind(),
    "vrf": Kind(data=[(IFLA_VRF_TABLE, 10)], moves=False),
    "vxcan": Kind(peer=VXCAN_INFO_PEER),
}
# Kinds that take others as ports
MASTERS = ("bridge", "vrf")

# What a request says
CHANGES = {
    "address": ([(IFLA_ADDRESS, MAC)], {}),
    "up": ([], {"up": IFF_UP}),
    "mtu": ([(IFLA_MTU, 1400)], {}),
    "alias": ([(IFLA_IFALIAS, "the-alias")], {}),
    "group": ([(IFLA_GROUP, 7)], {}),
    "txqlen": ([(IFLA_TXQLEN, 77)], {}),
    "down": ([], {"change": IFF_UP}),
    "name": ([(IFLA_IFNAME, "renamed")], {}),
    "up again": ([], {"up": IFF_UP}),
}


def peer_of(kind, name, netns):
    """ What Rtnl.add() has to say for a device of an audited kind """
    return pair_data(AUDITED[kind], name, netns) if AUDITED[kind] else []


def change_device(s, trace, kind, message):
    """ All changes of a device in A, whose peer is in B, and the last in C """
    a, b = inum(s.a), inum(s.b)
    peer = {b} if AUDITED[kind] else set()
    with NetnsFd(s.a) as fd_a, NetnsFd(s.b) as fd_b, NetnsFd(s.c) as fd_c:
        trace.ask_shared("creation", {a} | peer, s.rtnl["a"].add, "x0", kind,
                         fd_a, peer_of(kind, "y0", fd_b))
        if peer:
            trace.ask_shared("up, the peer", {b}, s.rtnl["b"].set_up, "y0")
        index = ifindex(s.a, "x0")
        for what, (attrs, flags) in CHANGES.items():
            trace.ask_shared(what, {a}, s.rtnl["a"].request, message, 0,
                             *attrs, index=index, **flags)
        trace.ask_shared("move", {a, inum(s.c)}, s.rtnl["a"].request,
                         message, 0, (IFLA_NET_NS_FD, fd_c), index=index)


def check_changes(s):
    """ What the device is like then """
    flags, attrs = s.rtnl["c"].get("renamed") or (0, {})
    ksft_eq({attr: attrs.get(attr) for attr in (
        IFLA_ADDRESS, IFLA_MTU, IFLA_IFALIAS, IFLA_GROUP, IFLA_TXQLEN)}, {
            IFLA_ADDRESS: MAC, IFLA_MTU: struct.pack("=I", 1400),
            IFLA_IFALIAS: b"the-alias\0", IFLA_GROUP: struct.pack("=I", 7),
            IFLA_TXQLEN: struct.pack("=I", 77)})
    # A device that moves is closed
    ksft_eq(flags & IFF_UP, 0)
    ksft_eq(s.rtnl["a"].get("renamed"), None)


@ksft_variants([KsftNamedVariant(f"{kind}_{name}", kind, message)
                for kind in AUDITED for name, message in (
                    ("newlink", RTM_NEWLINK), ("setlink", RTM_SETLINK))])
def requests_hold_rtnl_shared(kind, message):
    """ No request holds RTNL exclusively, each the mutexes that it needs """
    counters()
    with Pool() as pool:
        require_kind(pool, kind)
        s = Nets(pool, *"abc")
        s.ignore()
        b, c = inum(s.b), inum(s.c)
        before = counters()
        with OwnTrace() as trace:
            for num in range(REPEAT):
                change_device(s, trace, kind, message)
                if num == 0:
                    check_changes(s)
                peer = {b} if AUDITED[kind] else set()
                found = trace.ask_shared("deletion", {c} | peer,
                                         s.rtnl["c"].delete, "renamed")
                ksft_eq(reaped_by(found, c), ["renamed"])
                ksft_eq(reaped_by(found, b), ["y0"] if peer else [])
        more = grown(before)
        ksft_ge(more.pop("shared"), trace.asked)
        for why, count in more.items():
            ksft_lt(count, REPEAT, f"exclusive sections: {why}")
        s.check_left()


def other_namespaces_can_ask():
    """ A request of C about devices of A and B needs the mutexes of these """
    counters()
    with Pool() as pool:
        s = Nets(pool, *"abc")
        s.ignore()
        s.introduce("c", "b", 7)
        nets = {inum(s.a), inum(s.b)}
        with OwnTrace() as trace, NetnsFd(s.a) as fd_a, NetnsFd(s.b) as fd_b:
            trace.ask_shared("creation", nets, s.rtnl["c"].add_veth, "x0",
                             fd_a, "y0", fd_b)
            found = trace.ask_shared("deletion", nets, s.rtnl["c"].delete,
                                     "y0", 7)
        for netns, name in ((s.a, "x0"), (s.b, "y0")):
            ksft_eq(reaped_by(found, inum(netns)), [name])
        s.check_left()


@ksft_variants([KsftNamedVariant(kind, kind) for kind in MORE])
def more_kinds_hold_rtnl_shared(kind):
    """ Life of a device of one more kind, and its death with its namespace """
    live_and_die(kind, MORE[kind])


@ksft_variants([KsftNamedVariant(kind, kind) for kind in MASTERS])
def ports_come_and_go(kind):
    """ Pairs have one end in a container and one in the host's bridge """
    # A is the container
    with nets_for(kind, MORE[kind].data, "a", "b") as (s, pool):
        a, b = inum(s.a), inum(s.b)
        host = s.rtnl["b"]
        with OwnTrace() as trace, NetnsFd(s.a) as fd_a, NetnsFd(s.b) as fd_b:
            trace.ask_shared("master", {b}, host.add, "m0", kind, fd_b,
                             MORE[kind].data)
            trace.ask_shared("master up", {b}, host.set_up, "m0")
            master = (IFLA_MASTER, ifindex(s.b, "m0"))
            for num in range(4):
                trace.ask_shared("pair", {a, b}, host.add_veth, f"p{num}",
                                 fd_b, f"c{num}", fd_a)
                # Some ports are up before, some after
                if num % 2:
                    trace.ask_shared("port up", {b}, host.set_up, f"p{num}")
                trace.ask_shared("enslave", {b}, host.request, RTM_SETLINK, 0,
                                 (IFLA_IFNAME, f"p{num}"), master)
                trace.ask_shared("port up", {b}, host.set_up, f"p{num}")
                trace.ask_shared("container's end up", {a},
                                 s.rtnl["a"].set_up, f"c{num}")
            trace.ask_shared("port mtu", {b}, host.request, RTM_SETLINK, 0,
                             (IFLA_IFNAME, "p0"), (IFLA_MTU, 1400))
            trace.ask_shared("release", {b}, host.request, RTM_SETLINK, 0,
                             (IFLA_IFNAME, "p0"), (IFLA_MASTER, 0))
            found = trace.ask_shared("deletion of the container's end", {a, b},
                                     s.rtnl["a"].delete, "c1")
            ksft_eq([reaped_by(found, net) for net in (a, b)],
                    [["c1"], ["p1"]])

            # The master dies before its last port
            trace.ask_shared("dummy", {b}, host.add, "d0", "dummy", fd_b)
            trace.ask_shared("enslave", {b}, host.request, RTM_SETLINK, 0,
                             (IFLA_IFNAME, "d0"), master)

        found = die(s, pool, {"m0", "d0"})
        ksft_eq(reaped_by(found, b), ["p0", "p2", "p3"])
        ksft_eq([pair for pair in told(
            section for section in found if section.holds({a}))
                 if pair[1] != "shared"], [])
        ksft_true(any(section.holds({a, b}) for section in found),
                  "no section has the mutexes of both ends")

        with OwnTrace() as trace:
            trace.ask_shared("deletion of the master", {b}, host.delete, "m0")
        s.check_left(b=["d0"])


def attributes_are_exclusive():
    """ Those of a kind of which none is audited, but not an empty nest """
    counters()
    with Pool() as pool:
        require_kind(pool, "bridge")
        s = Nets(pool, "a")
        s.ignore()
        rtnl = s.rtnl["a"]
        data = [(IFLA_BR_FORWARD_DELAY, 1000)]
        with OwnTrace() as trace:
            for what, func, *args in (
                    ("creation", rtnl.add, "x0", "bridge", None, data),
                    ("change", rtnl.change, "x0", "bridge", data)):
                found = trace.ask(what, func, *args)
                ksft_eq(found[-1].rtnl if found else None,
                        "exclusive:request", what)
            trace.ask_shared("no change", {inum(s.a)}, rtnl.change, "x0",
                             "bridge", [])
            trace.ask_shared("deletion", {inum(s.a)}, rtnl.delete, "x0")
        s.check_left()


def other_kinds_are_exclusive():
    """ A kind that is not audited is told as the reason """
    counters()
    with Pool() as pool:
        require_kind(pool, UNAUDITED, UNAUDITED_DATA)
        s = Nets(pool, "a")
        s.ignore()
        before = counters()
        rtnl = s.rtnl["a"]
        with OwnTrace() as trace:
            for _ in range(REPEAT):
                for what, func, *args in (
                        ("creation", rtnl.add, "u0", UNAUDITED, None,
                         UNAUDITED_DATA),
                        ("up", rtnl.set_up, "u0"),
                        ("mtu", rtnl.request, RTM_SETLINK, 0,
                         (IFLA_IFNAME, "u0"), (IFLA_MTU, 1400)),
                        ("down", rtnl.set_down, "u0"),
                        ("deletion", rtnl.delete, "u0")):
                    found = trace.ask(what, func, *args)
                    # It may find out only inside
                    ksft_eq(found[-1].rtnl if found else None,
                            "exclusive:kind", what)
        ksft_ge(grown(before)["kind"], trace.asked)
        s.check_left()


def what_is_on_top_counts():
    """ A change that reaches a macvlan elsewhere does not happen without it """
    counters()
    with Pool() as pool:
        mode = [(IFLA_MACVLAN_MODE, MACVLAN_MODE_BRIDGE)]
        require_kind(pool, "macvlan", mode, "dummy")
        s = Nets(pool, "a", "b")
        s.ignore()
        nets = {inum(s.a), inum(s.b)}
        rtnl = s.rtnl["a"]
        ksft_eq(strerror(rtnl.add("l0", "dummy", None)), "success")
        with OwnTrace() as trace, NetnsFd(s.b) as fd_b:
            for what, func, *args in (
                    ("creation", rtnl.add, "m0", "macvlan", fd_b, mode,
                     ifindex(s.a, "l0")),
                    ("up", rtnl.set_up, "l0"),
                    ("mtu", rtnl.request, RTM_SETLINK, 0,
                     (IFLA_IFNAME, "l0"), (IFLA_MTU, 1400)),
                    ("address", rtnl.request, RTM_SETLINK, 0,
                     (IFLA_IFNAME, "l0"), (IFLA_ADDRESS, MAC)),
                    ("down", rtnl.set_down, "l0"),
                    ("deletion", rtnl.delete, "l0")):
                found = trace.ask(what, func, *args)
                ksft_true(found and (found[-1].rtnl != "shared" or
                                     found[-1].holds(nets)),
                          f"{what}: {told(found)}")
        s.check_left()


def fill(s):
    """ Devices of audited kinds in A, with some peers in B """
    errs = []
    rtnl = s.rtnl["a"]
    with NetnsFd(s.a) as fd_a, NetnsFd(s.b) as fd_b:
        for kind, pair in AUDITED.items():
            for num in range(8 if pair else 20):
                name = f"{kind}-{num}"
                home = fd_b if num < 3 else fd_a
                errs += [rtnl.add(name, kind, fd_a,
                                  peer_of(kind, f"p{name}", home)),
                         rtnl.set_up(name)]
                if pair:
                    errs.append(s.rtnl["b" if num < 3 else "a"]
                                .set_up(f"p{name}"))
    errs.append(rtnl.set_up("lo"))
    ksft_eq(set(names(errs)), {"success"})
    return [{name for name in devices(s.nets[end]) if name != "lo"}
            for end in "ab"]


def namespace_dies_shared():
    """ Devices and peers of audited kinds are deleted in shared sections """
    counters()
    more = dict.fromkeys(counters(), 0)
    with no_fallback_tunnels(), Pool() as pool:
        for kind in AUDITED:
            require_kind(pool, kind)
        s = Nets(pool, "b")
        for _ in range(REPEAT):
            s.revive("a")
            here, there = fill(s)
            s.deleted()
            a, b = inum(s.a), inum(s.b)
            before = counters()
            found = die(s, pool, set())
            more = {why: more[why] + count
                    for why, count in grown(before).items()}
            s.check_gone(b=sorted(there))
            ksft_eq(set(reaped_by(found, a)) | {"lo"}, here | {"lo"})
            ksft_eq(set(reaped_by(found, b)), there)
            ksft_eq([pair for pair in told(
                section for section in found if section.holds({a}))
                     if pair[1] != "shared"], [])
            ksft_true(any(section.holds({a, b}) for section in found),
                      "no section has the mutexes of both ends")
    for why in ("kind", "foreign", "handler"):
        ksft_lt(more[why], REPEAT, f"exclusive sections: {why}")
    ksft_pr(f"sections of {REPEAT} deaths: {more}")


def namespace_dies_closed():
    """ All devices are down before the first one is announced dead """
    # More than one section unregisters
    count = 80
    with no_fallback_tunnels(), Pool() as pool:
        s = Nets(pool, "a", "b")
        s.monitors["b"].sock.setsockopt(SOL_SOCKET, SO_RCVBUFFORCE, 1 << 26)
        errs = []
        with NetnsFd(s.b) as fd_b:
            for num in range(count):
                errs += [s.rtnl["a"].add_veth(f"v{num}", None, f"p{num}", fd_b),
                         s.rtnl["a"].set_up(f"v{num}"),
                         s.rtnl["b"].set_up(f"p{num}")]
        ksft_eq(any(errs), False, names(errs))
        s.monitors["b"].events()
        die(s, pool, set())
        kinds = [kind for kind, _ in s.monitors["b"].events()]
    dead = kinds.count(RTM_DELLINK)
    ksft_eq(dead, count)
    ksft_ge(len(kinds), 2 * count)
    ksft_eq(kinds[-count:], [RTM_DELLINK] * count)


@ksft_variants([
    # The kind and the place of a device, where its lower is
    KsftNamedVariant("other_kind", UNAUDITED, "a", None),
    KsftNamedVariant("upper", "macvlan", "a", "b"),
    KsftNamedVariant("lower", "macvlan", "b", "a"),
])
def namespace_dies_exclusive(kind, home, below):
    """ What is not audited is deleted in exclusive sections, and all of it """
    counters()
    with no_fallback_tunnels(), Pool() as pool:
        data = [(IFLA_MACVLAN_MODE, MACVLAN_MODE_BRIDGE)] if below else \
            UNAUDITED_DATA
        require_kind(pool, kind, data, "dummy" if below else None)
        s = Nets(pool, "a", "b")
        fill(s)
        errs, link = [], 0
        if below:
            errs.append(s.rtnl[below].add("l0", "dummy", None))
            link = ifindex(s.nets[below], "l0")
        with NetnsFd(s.nets[home]) as netns:
            errs.append(s.rtnl[below or home].add("u0", kind, netns, data,
                                                  link))
        ksft_eq(set(names(errs)), {"success"})
        where = inum(s.nets[home])
        before = counters()
        found = die(s, pool, {"l0"} if below == "b" else set())
        s.check_left(b=["l0"] if below == "b" else [])
        found = [section for section in found
                 if (where, "u0") in section.reaped]
        ksft_eq(len(found), 1)
        for section in found:
            ksft_true(section.rtnl.startswith("exclusive"), told(found))
        more = grown(before)
        ksft_ge(more["kind"] + more["foreign"], 1)


def use_pair(near, far, fd_near, fd_far, rounds):
    """ Make, use and delete a pair, again and again """
    for num in range(rounds):
        errs = [near.add_veth("v0", fd_near, "p0", fd_far),
                near.set_up("v0"), far.set_up("p0"),
                far.request(RTM_SETLINK, 0, (IFLA_IFNAME, "p0"),
                            (IFLA_MTU, 1300 + num)),
                far.delete("p0") if num % 2 else near.delete("v0")]
        if any(errs):
            return first_error(errs)
    return 0


def use_namespaces(pool, fd_far, rounds):
    """ Make and delete namespaces that have pairs with a living one """
    return in_new_namespaces(
        pool, rounds, lambda rtnl, netns, num: first_error([
            rtnl.add_veth("v0", netns, f"q{num}", fd_far),
            rtnl.add("d0", "dummy", netns),
            rtnl.set_up("v0"), rtnl.set_up("d0")]))


def pairs_pass_each_other():
    """ Pairs in namespaces of their own, while others come and go """
    with stretched(0), Pool() as pool, contextlib.ExitStack() as stack:
        s = Nets(pool, *"abcdefg")
        s.ignore()
        fds = {name: stack.enter_context(NetnsFd(netns))
               for name, netns in s.nets.items()}
        funcs = [lambda num, near=near, far=far: use_pair(
            s.rtnl[near], s.rtnl[far], fds[near], fds[far], 2 * RACES)
            for near, far in ("ab", "cd", "ef")]
        pass_each_other(s, pool, funcs, lambda num: use_namespaces(
            pool, fds["g"], max(1, RACES // 2)))


def both_ends_up_and_down():
    """ The carrier is there once both are up, and gone once both are down """
    wrong = []
    with Pool() as pool:
        s = Nets(pool, "a", "b")
        s.ignore()
        ends = (("a", "v0"), ("b", "p0"))
        with NetnsFd(s.a) as fd_a, NetnsFd(s.b) as fd_b:
            ksft_eq(strerror(s.rtnl["a"].add_veth("v0", fd_a, "p0", fd_b)),
                    "success")
        with Crew(*[lambda num, rtnl=s.rtnl[end], name=name:
                    rtnl.set_down(name) if num % 2 else rtnl.set_up(name)
                    for end, name in ends]) as crew:
            for num in range(2 * 5 * RACES):
                errs = crew.go()
                found = [s.rtnl[end].get(name)[1][IFLA_CARRIER][0]
                         for end, name in ends]
                if (errs, found) != ([0, 0], [1 - num % 2] * 2):
                    wrong.append((num, names(errs), found))
    ksft_eq(wrong, [], "rounds, of which each second one sets them down")


def one_end_up_other_down():
    """ No carrier, whoever comes first """
    wrong = []
    with Pool() as pool:
        s = Nets(pool, "a", "b")
        s.ignore()
        with NetnsFd(s.a) as fd_a, NetnsFd(s.b) as fd_b:
            ksft_eq(strerror(s.rtnl["a"].add_veth("v0", fd_a, "p0", fd_b)),
                    "success")
        rtnls = s.rtnl["a"], s.rtnl["b"]
        with Crew(lambda num: rtnls[0].set_up("v0"),
                  lambda num: rtnls[1].set_down("p0")) as crew:
            for num in range(2 * RACES):
                errs = [rtnls[0].set_down("v0"), rtnls[1].set_up("p0")]
                errs += crew.go()
                found = [(flags & IFF_UP, attrs[IFLA_CARRIER][0])
                         for flags, attrs in (rtnls[0].get("v0"),
                                              rtnls[1].get("p0"))]
                if (errs, found) != ([0] * 4, [(IFF_UP, 0), (0, 0)]):
                    wrong.append((num, names(errs), found))
    ksft_eq(wrong, [], "rounds")


def both_ends_deleted():
    """ One of two processes deletes the pair, or both think that they do """
    wrong = []
    with Pool() as pool:
        s = Nets(pool, "a", "b")
        with NetnsFd(s.a) as fd_a, NetnsFd(s.b) as fd_b, \
                Crew(lambda num: s.rtnl["a"].delete("v0"),
                     lambda num: s.rtnl["b"].delete("p0")) as crew:
            for num in range(max(1, 5 * RACES // 2)):
                err = s.rtnl["a"].add_veth("v0", fd_a, "p0", fd_b)
                s.deleted()
                errs = crew.go()
                after = s.left(), s.deleted()
                if err or 0 not in errs or \
                        not set(errs) <= {0, errno.ENODEV} or \
                        after != ({}, {"a": ["v0"], "b": ["p0"]}):
                    wrong.append((num, names([err, *errs]), after))
                    break
    ksft_eq(wrong, [], "rounds")


def pairs_made_from_both_sides():
    """ From A to B and from B to A: the order of the locks is the same """
    wrong = []
    with Pool() as pool:
        s = Nets(pool, "a", "b")
        s.ignore()
        rtnls = s.rtnl["a"], s.rtnl["b"]
        with NetnsFd(s.a) as fd_a, NetnsFd(s.b) as fd_b, Crew(
                lambda num: rtnls[0].delete("v0") if num % 2 else
                rtnls[0].add_veth("v0", fd_a, "p0", fd_b),
                lambda num: rtnls[1].delete("w0") if num % 2 else
                rtnls[1].add_veth("w0", fd_b, "q0", fd_a)) as crew:
            for num in range(2 * max(1, 5 * RACES // 2)):
                errs = crew.go()
                left = s.left()
                if errs != [0, 0] or left != (
                        {} if num % 2 else {"a": ["q0", "v0"],
                                            "b": ["p0", "w0"]}):
                    wrong.append((num, names(errs), left))
                    break
    ksft_eq(wrong, [], "rounds, of which each second one deletes them")


def same_pair_made_from_both_sides():
    """ With the same names: one of the two fails, and leaves nothing """
    wrong, first = [], [0, 0]
    with Pool() as pool:
        s = Nets(pool, "a", "b")
        s.ignore()
        rtnls = s.rtnl["a"], s.rtnl["b"]
        with NetnsFd(s.a) as fd_a, NetnsFd(s.b) as fd_b, Crew(
                lambda num: rtnls[0].add_veth("v0", fd_a, "p0", fd_b),
                lambda num: rtnls[1].add_veth("p0", fd_b, "v0", fd_a)
                ) as crew:
            for num in range(max(1, 5 * RACES // 2)):
                errs = crew.go()
                left = s.left()
                err = rtnls[num % 2].delete(("v0", "p0")[num % 2])
                after = s.left()
                if sorted(errs) != [0, errno.EEXIST] or err or after or \
                        left != {"a": ["v0"], "b": ["p0"]}:
                    wrong.append((num, names([*errs, err]), left, after))
                    break
                first[errs.index(0)] += 1
    ksft_pr(f"the first one was {first} times")
    ksft_eq(wrong, [], "rounds")


def set_mtu(rtnls, mtu):
    """ Bits of where it was set, or an error number above """
    bits = 0
    for bit, rtnl in enumerate(rtnls):
        err = rtnl.request(RTM_SETLINK, 0, (IFLA_IFNAME, "x0"),
                           (IFLA_MTU, mtu))
        if err not in (0, errno.ENODEV):
            return err << 2
        bits |= (not err) << bit
    return bits


def mtu_of(link):
    """ What Rtnl.get() says, or None if there is no such device """
    return link and struct.unpack("=I", link[1][IFLA_MTU])[0]


def list_links(rtnls):
    """ Whether lists are in order. One has a device once, or not at all. """
    for rtnl in rtnls * 5:
        found = sorted(rtnl.dump())
        if found not in (["lo"], ["lo", "x0"]):
            return 1
    return 0


@ksft_variants([KsftNamedVariant(kind, kind) for kind in AUDITED])
def move_and_change(kind):
    """ A device moves between A and B while it is changed, and links shown """
    wrong, seen = [], []
    with no_fallback_tunnels(), Pool() as pool:
        require_kind(pool, kind)
        s = Nets(pool, *"abc")
        s.ignore()
        rtnls = [s.rtnl["a"], s.rtnl["b"]]
        with contextlib.ExitStack() as stack:
            fds = [stack.enter_context(NetnsFd(s.nets[name]))
                   for name in "abc"]
            # A socket for each process
            own = [[stack.enter_context(Rtnl(s.nets[name])) for name in "ab"]
                   for _ in range(3)]
            ksft_eq(strerror(rtnls[0].add("x0", kind, fds[0],
                                          peer_of(kind, "y0", fds[2]))),
                    "success")
            crew = stack.enter_context(Crew(
                lambda num: own[0][num % 2].move("x0", fds[1 - num % 2]),
                # First where it comes from
                lambda num: set_mtu(own[1][::(1, -1)[num % 2]], 1200 + num),
                lambda num: list_links(own[2])))
            for num in range(max(1, 3 * RACES // 2)):
                results = crew.go()
                found = [mtu_of(rtnl.get("x0")) for rtnl in rtnls]
                mtus = [None, 1200 + num]
                if results not in ([0, where, 0] for where in (1, 2, 3)) or \
                        found != (mtus[::-1] if num % 2 else mtus):
                    wrong.append((num, results, found))
                    break
                seen.append(results[1])
            s.check_left(**{"ab"[len(seen) % 2]: ["x0"],
                            "c": ["y0"] if AUDITED[kind] else []})
    ksft_pr(f"the MTU was set before the move {seen.count(1)} times, after it "
            f"{seen.count(2)} times, both {seen.count(3)} times")
    ksft_eq(wrong, [], "rounds")


def use_until_gone(rtnl, name):
    """ Change a device until there is none """
    end = time.monotonic() + WAIT_TIMEOUT
    mtus = itertools.cycle((1300, 1301))
    err = 0
    while not err and time.monotonic() < end:
        err = (rtnl.set_up(name) or
               rtnl.request(RTM_SETLINK, 0, (IFLA_IFNAME, name),
                            (IFLA_MTU, next(mtus))) or
               rtnl.set_down(name))
    return err


def delete_soon(rtnl, name):
    """ Delete a device, sooner or later """
    time.sleep(random.choice((0, 0.005, 0.02, 0.1)) * random.random())
    return rtnl.delete(name)


def namespace_dies_while_peer_is_used():
    """ A dies, and somebody changes or deletes a peer in B meanwhile """
    wrong, outcomes = [], []
    with Pool() as pool:
        s = Nets(pool, "b")
        s.monitors["b"].sock.setsockopt(SOL_SOCKET, SO_RCVBUFFORCE, 1 << 26)
        rtnl = s.rtnl["b"]
        # The process is there before A, so it does not keep A alive
        with NetnsFd(s.b) as fd_b, \
                Crew(lambda num: delete_soon(rtnl, "p0") if num % 2 else
                     use_until_gone(rtnl, "p0")) as crew:
            for num in range(max(2, RACES)):
                s.revive("a")
                with NetnsFd(s.a) as fd_a:
                    errs = [s.rtnl["a"].add_veth("v0", fd_a, "p0", fd_b),
                            s.rtnl["a"].set_up("v0")]
                s.deleted()
                err, = crew.go(s.hold("a").close)
                pool.wait_freed()
                after = s.left(), s.deleted()
                if any(errs) or after != ({}, {"b": ["p0"]}) or \
                        err not in ([0] if num % 2 else []) + [errno.ENODEV]:
                    wrong.append((num, names([*errs, err]), after))
                    break
                if num % 2:
                    outcomes.append(strerror(err))
    ksft_pr("the deletion:", {what: outcomes.count(what) for what in outcomes})
    ksft_eq(wrong, [], "rounds, of which each second one deletes it")


def command_returns_when_all_is_over():
    """ The peer is announced dead, once, and gone when a deletion returns """
    wrong = []
    ends = (("a", "v0"), ("b", "p0"))
    with Pool() as pool:
        s = Nets(pool, "a", "b")
        with NetnsFd(s.a) as fd_a, NetnsFd(s.b) as fd_b:
            for num in range(RACES):
                errs = [s.rtnl["a"].add_veth("v0", fd_a, "p0", fd_b)]
                # Half of them are up
                errs += [s.rtnl[end].set_up(name) for end, name in ends
                         if num & 2]
                s.deleted()
                end, name = ends[num % 2]
                errs.append(s.rtnl[end].delete(name))
                found = [s.rtnl[end].get(name) for end, name in ends]
                events = [s.monitors[end].events() for end, _ in ends]
                for (_, name), told_there in zip(ends, events):
                    if told_there.count((RTM_DELLINK, name)) != 1 or \
                            told_there[-1] != (RTM_DELLINK, name):
                        wrong.append((num, name, told_there))
                if any(errs) or found != [None, None]:
                    wrong.append((num, names(errs), found))
                if wrong:
                    break
    ksft_eq(wrong, [], "rounds")


def main():
    """ All cases """
    tell_handlers()
    ksft_run([requests_hold_rtnl_shared, other_namespaces_can_ask,
              more_kinds_hold_rtnl_shared, ports_come_and_go,
              attributes_are_exclusive, other_kinds_are_exclusive,
              what_is_on_top_counts, namespace_dies_shared,
              namespace_dies_exclusive, namespace_dies_closed,
              pairs_pass_each_other, both_ends_up_and_down,
              one_end_up_other_down, both_ends_deleted,
              pairs_made_from_both_sides, same_pair_made_from_both_sides,
              move_and_change, namespace_dies_while_peer_is_used,
              command_returns_when_all_is_over])
    ksft_exit()


if __name__ == "__main__":
    main()
