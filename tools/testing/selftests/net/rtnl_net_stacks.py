#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0

"""
Test that vlans, macvlans and ipvlans are made, changed and deleted with RTNL
held shared.

          A             B
   +------------+   +--------+
   | t0         |   |        |
   | u0  u1  u2 |   |        |
   | l0 --------|---|-- p0   |
   +------------+   +--------+

An upper is in lists of its lower, changes its addresses and its flags, and dies
with it. The mutex of their namespace guards that. If the two are in different
namespaces, or if another upper of the lower is of a kind that is not audited,
a macvtap or an ipvtap, then RTNL is held exclusively.

How RTNL is held is told by trace events, request by request.

Environment: RACES scales the numbers of rounds
"""

import errno
import multiprocessing
import os
import struct

from lib.py import KsftNamedVariant, ksft_eq, ksft_exit, ksft_pr, ksft_run, \
    ksft_variants
from rtnl_net_lib import IFLA_ADDRESS, IFLA_IFALIAS, IFLA_IFNAME, IFLA_MTU, \
    NetnsFd, Nets, Pool, RTM_SETLINK, Rtnl, VETH_INFO_PEER, devices, ifindex, \
    inum, ipvlan_data, pair_data, strerror, stretched, tell_handlers
from rtnl_net_links_lib import Crew, IFLA_MACVLAN_MODE, MAC, \
    MACVLAN_MODE_BRIDGE, OwnTrace, RACES, REPEAT, counters, die, first_error, \
    names, no_fallback_tunnels, pass_each_other, reaped_by, require_kind, \
    told

IFLA_VLAN_ID = 1
IFLA_VLAN_FLAGS = 2
IFLA_VLAN_EGRESS_QOS = 3
IFLA_VLAN_QOS_MAPPING = 1
# GVRP, loose binding, MVRP and bridge binding
VLAN_FLAGS = 0x1e
IFLA_MACVLAN_MACADDR_MODE = 3
IFLA_MACVLAN_MACADDR = 4
MACVLAN_MODE_SOURCE = 16
MACVLAN_MACADDR_ADD = 0

# By kind, what "ip link set type" says
UPPERS = {
    "vlan": [(IFLA_VLAN_FLAGS, struct.pack("=II", VLAN_FLAGS, VLAN_FLAGS)),
             (IFLA_VLAN_EGRESS_QOS, [
                 (IFLA_VLAN_QOS_MAPPING, struct.pack("=II", prio, prio))
                 for prio in (1, 3, 17)])],
    "macvlan": [(IFLA_MACVLAN_MODE, MACVLAN_MODE_SOURCE),
                (IFLA_MACVLAN_MACADDR_MODE, MACVLAN_MACADDR_ADD),
                (IFLA_MACVLAN_MACADDR, MAC)],
    "ipvlan": ipvlan_data("l3s" if os.path.exists("/proc/net/netfilter")
                          else "l3"),
}
LOWERS = ("dummy", "veth", "bridge")
# Kinds that are not audited, and share the lower with one that is
TAPS = {"macvtap": "macvlan", "ipvtap": "ipvlan"}
MAC_LOWER = b"\x02\x00\x00\x00\x00\x08"


def upper_data(kind, num=0):
    """ What Rtnl.add() has to say for the num-th upper of its lower """
    return {"vlan": [(IFLA_VLAN_ID, struct.pack("=H", 10 + num))],
            "macvlan": [(IFLA_MACVLAN_MODE, MACVLAN_MODE_BRIDGE)],
            "ipvlan": ipvlan_data("l2")}[kind]


def lower_data(kind, fd_b):
    """ The same for a lower, whose peer is in B if it is a veth """
    return pair_data(VETH_INFO_PEER, "p0", fd_b) if kind == "veth" else []


def change_stack(s, trace, kind, lower):
    """ Make a stack in A, change each end of it, and delete the lower """
    a, b, rtnl = inum(s.a), inum(s.b), s.rtnl["a"]
    peer = {b} if lower == "veth" else set()

    def ask(what, func, *args, nets=frozenset(), **kwargs):
        return trace.ask_shared(what, {a} | nets, func, *args, **kwargs)

    with NetnsFd(s.a) as fd_a, NetnsFd(s.b) as fd_b:
        ask("lower", rtnl.add, "l0", lower, fd_a, lower_data(lower, fd_b),
            nets=peer)
        ask("lower up", rtnl.set_up, "l0")
        link = ifindex(s.a, "l0")
        for num in range(3):
            ask("creation", rtnl.add, f"u{num}", kind, fd_a,
                upper_data(kind, num), link)
            ask("up", rtnl.set_up, f"u{num}")
        ask("creation on top", rtnl.add, "t0", kind, fd_a,
            upper_data(kind, 7), ifindex(s.a, "u0"))
        ask("up on top", rtnl.set_up, "t0")

    ask("change", rtnl.change, "u0", kind, UPPERS[kind])
    # This shows them
    ask("alias", rtnl.request, RTM_SETLINK, 0, (IFLA_IFNAME, "u0"),
        (IFLA_IFALIAS, "the-alias"))
    for name, mtu, mac in (("u0", 1400, MAC), ("l0", 1300, MAC_LOWER)):
        # An ipvlan has the address of its lower
        if (kind, name) != ("ipvlan", "u0"):
            ask(f"address of {name}", rtnl.request, RTM_SETLINK, 0,
                (IFLA_IFNAME, name), (IFLA_ADDRESS, mac))
        # It is the maximum of what is above
        ask(f"mtu of {name}", rtnl.request, RTM_SETLINK, 0,
            (IFLA_IFNAME, name), (IFLA_MTU, mtu))
    for name in ("u1", "l0"):
        ask(f"{name} down", rtnl.set_down, name)
        ask(f"{name} up again", rtnl.set_up, name)

    found = ask("deletion", rtnl.delete, "u1")
    ksft_eq(reaped_by(found, a), ["u1"])
    found = ask("deletion of the lower", rtnl.delete, "l0", nets=peer)
    ksft_eq(reaped_by(found, a), ["l0", "t0", "u0", "u2"])
    ksft_eq(reaped_by(found, b), ["p0"] if peer else [])


@ksft_variants([KsftNamedVariant(f"{kind}_{lower}", kind, lower)
                for kind in UPPERS for lower in LOWERS])
def stacks_hold_rtnl_shared(kind, lower):
    """ Uppers come and go, and those that are there die with their lower """
    counters()
    with no_fallback_tunnels(), Pool() as pool:
        require_kind(pool, lower)
        require_kind(pool, kind, upper_data(kind), "dummy")
        s = Nets(pool, "a", "b")
        s.ignore()
        with OwnTrace() as trace:
            for _ in range(REPEAT):
                change_stack(s, trace, kind, lower)
                s.check_left()


@ksft_variants([KsftNamedVariant(kind, kind) for kind in UPPERS])
def namespace_with_stacks_dies_shared(kind):
    """ It takes its uppers, the other end of a pair, and the uppers of that """
    counters()
    with no_fallback_tunnels(), Pool() as pool:
        for lower in LOWERS:
            require_kind(pool, lower)
        require_kind(pool, kind, upper_data(kind), "dummy")
        s = Nets(pool, "b")
        s.ignore()
        for _ in range(REPEAT):
            s.revive("a")
            errs = []
            with NetnsFd(s.a) as fd_a, NetnsFd(s.b) as fd_b:
                for lower in LOWERS:
                    errs += [s.rtnl["a"].add(lower, lower, fd_a,
                                             lower_data(lower, fd_b)),
                             s.rtnl["a"].set_up(lower)]
                errs.append(s.rtnl["b"].set_up("p0"))
                for end, fd, lower in (*(("a", fd_a, lower)
                                         for lower in LOWERS),
                                       ("b", fd_b, "p0")):
                    link = ifindex(s.nets[end], lower)
                    for num in range(4):
                        name = f"{lower}-{num}"
                        errs += [s.rtnl[end].add(name, kind, fd,
                                                 upper_data(kind, num), link),
                                 s.rtnl[end].set_up(name)]
            ksft_eq(set(names(errs)), {"success"})
            a, b = inum(s.a), inum(s.b)
            here = devices(s.a) - {"lo"}
            found = die(s, pool, set())
            s.check_left()
            ksft_eq(set(reaped_by(found, a)) | {"lo"}, here | {"lo"})
            ksft_eq(reaped_by(found, b),
                    ["p0", *(f"p0-{num}" for num in range(4))])
            ksft_eq([pair for pair in told(
                section for section in found if section.holds({a}))
                     if pair[1] != "shared"], [])


@ksft_variants([KsftNamedVariant(kind, kind) for kind in UPPERS])
def stacks_between_namespaces_are_exclusive(kind):
    """ And what is linked to such, until they are gone """
    counters()
    with Pool() as pool:
        require_kind(pool, kind, upper_data(kind), "dummy")
        s = Nets(pool, "a", "b")
        s.ignore()
        rtnl_a, rtnl_b = s.rtnl["a"], s.rtnl["b"]

        def ask_foreign(what, func, *args):
            found = trace.ask(what, func, *args)
            ksft_eq(found[-1].rtnl if found else None, "exclusive:foreign",
                    what)

        with OwnTrace() as trace, NetnsFd(s.a) as fd_a, NetnsFd(s.b) as fd_b:
            ksft_eq(names([rtnl_a.add("l0", "dummy", None),
                           rtnl_b.add("m0", "dummy", None)]), ["success"] * 2)
            link = ifindex(s.a, "l0")
            trace.ask_shared("creation", {inum(s.a)}, rtnl_a.add, "u0", kind,
                             fd_a, upper_data(kind), link)
            ask_foreign("move of the upper", rtnl_a.move, "u0", fd_b)
            ask_foreign("deletion there", rtnl_b.delete, "u0")

            trace.ask_shared("creation", {inum(s.b)}, rtnl_b.add, "u0", kind,
                             fd_b, upper_data(kind), ifindex(s.b, "m0"))
            ask_foreign("move of the lower", rtnl_b.move, "m0", fd_a)
            ask_foreign("deletion of the lower", rtnl_a.delete, "m0")

            ask_foreign("creation elsewhere", rtnl_a.add, "u0", kind, fd_b,
                        upper_data(kind), link)
            ask_foreign("change of the upper", rtnl_b.request, RTM_SETLINK, 0,
                        (IFLA_IFNAME, "u0"), (IFLA_IFALIAS, "the-alias"))
            ask_foreign("lower up", rtnl_a.set_up, "l0")
            ask_foreign("creation beside it", rtnl_a.add, "u1", kind, fd_a,
                        upper_data(kind, 1), link)
            ask_foreign("deletion elsewhere", rtnl_b.delete, "u0")

            trace.ask_shared("deletion", {inum(s.a)}, rtnl_a.delete, "u1")
            trace.ask_shared("deletion", {inum(s.a)}, rtnl_a.delete, "l0")
        s.check_left()


@ksft_variants([KsftNamedVariant(tap, tap, kind)
                for tap, kind in TAPS.items()])
def taps_are_exclusive(tap, kind):
    """ And so is all that shares the lower with one """
    counters()
    with Pool() as pool:
        for name in (tap, kind):
            require_kind(pool, name, upper_data(kind), "dummy")
        s = Nets(pool, "a")
        s.ignore()
        rtnl = s.rtnl["a"]
        ksft_eq(strerror(rtnl.add("l0", "dummy", None)), "success")
        link = ifindex(s.a, "l0")
        with OwnTrace() as trace:
            for what, func, *args in (
                    ("creation", rtnl.add, "t0", tap, None, upper_data(kind),
                     link),
                    ("creation beside it", rtnl.add, "u0", kind, None,
                     upper_data(kind), link),
                    ("lower up", rtnl.set_up, "l0"),
                    ("deletion beside it", rtnl.delete, "u0"),
                    ("deletion", rtnl.delete, "t0")):
                found = trace.ask(what, func, *args)
                ksft_eq(found[-1].rtnl if found else None, "exclusive:kind",
                        what)
            trace.ask_shared("creation", {inum(s.a)}, rtnl.add, "u0", kind,
                             None, upper_data(kind), link)
            trace.ask_shared("deletion", {inum(s.a)}, rtnl.delete, "l0")
        s.check_left()


def use_stack(rtnl, netns, kind, rounds):
    """ Make, use and delete a stack, again and again """
    for num in range(rounds):
        errs = [rtnl.add("l0", "dummy", None), rtnl.set_up("l0")]
        link = ifindex(netns, "l0")
        for which in range(3):
            errs += [rtnl.add(f"u{which}", kind, None, upper_data(kind, which),
                              link), rtnl.set_up(f"u{which}")]
        errs += [rtnl.change("u0", kind, UPPERS[kind]),
                 rtnl.request(RTM_SETLINK, 0, (IFLA_IFNAME, "l0"),
                              (IFLA_MTU, 1300 + num)),
                 rtnl.delete("u1"), rtnl.delete("l0")]
        if any(errs):
            return first_error(errs)
    return 0


@ksft_variants([KsftNamedVariant(kind, kind) for kind in UPPERS])
def stacks_pass_each_other(kind):
    """ Each in a namespace of its own """
    with stretched(0), Pool() as pool:
        require_kind(pool, kind, upper_data(kind), "dummy")
        s = Nets(pool, *"abc")
        s.ignore()
        pass_each_other(s, pool, [lambda num, end=end: use_stack(
            s.rtnl[end], s.nets[end], kind, max(1, RACES // 2))
                                  for end in "abc"])


@ksft_variants([KsftNamedVariant(f"{kind}_{where}", kind, where)
                for kind in UPPERS for where in ("here", "elsewhere")])
def lower_dies_while_uppers_come_and_go(kind, where):
    """ In any order, nothing is left of the lower and its uppers """
    wrong, made = [], 0
    with Pool() as pool:
        require_kind(pool, kind, upper_data(kind), "dummy")
        # Uppers are in A, or every other one is
        s = Nets(pool, "a", "b")
        s.ignore()
        rtnl, link = s.rtnl["a"], multiprocessing.Value("i")
        with NetnsFd(s.a) as fd_a, NetnsFd(s.b) as fd_b, \
                Rtnl(s.a) as adds, Rtnl(s.a) as deletes:
            far = fd_b if where == "elsewhere" else fd_a
            gone = s.rtnl["b"] if where == "elsewhere" else deletes
            with Crew(lambda num: adds.add("u2", kind, far,
                                           upper_data(kind, 2), link.value),
                      lambda num: gone.delete("u1"),
                      lambda num: rtnl.delete("l0")) as crew:
                for num in range(max(2, 3 * RACES // 2)):
                    errs = [rtnl.add("l0", "dummy", None), rtnl.set_up("l0")]
                    link.value = ifindex(s.a, "l0")
                    errs += [rtnl.add("u0", kind, fd_a, upper_data(kind, 0),
                                      link.value),
                             rtnl.add("u1", kind, far, upper_data(kind, 1),
                                      link.value)]
                    add, delete, last = crew.go()
                    after = s.left()
                    if any(errs) or last or after or \
                            add not in (0, errno.ENODEV) or \
                            delete not in (0, errno.ENODEV):
                        wrong.append((num, names([*errs, add, delete, last]),
                                      after))
                        break
                    made += not add
    ksft_pr(f"the last upper was made {made} times")
    ksft_eq(wrong, [], "rounds")


def main():
    """ All cases """
    tell_handlers()
    ksft_run([stacks_hold_rtnl_shared, namespace_with_stacks_dies_shared,
              stacks_between_namespaces_are_exclusive, taps_are_exclusive,
              stacks_pass_each_other, lower_dies_while_uppers_come_and_go])
    ksft_exit()


if __name__ == "__main__":
    main()
