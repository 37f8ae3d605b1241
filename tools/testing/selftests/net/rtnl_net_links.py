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
import dataclasses
import errno
import itertools
import multiprocessing
import os
import random
import socket
import struct
import threading
import time

from lib.py import KsftFailEx, KsftNamedVariant, KsftSkipEx, ksft_eq, \
    ksft_exit, ksft_ge, ksft_lt, ksft_pr, ksft_run, ksft_true, ksft_variants
from rtnl_net_lib import DELAY, IFF_UP, IFLA_ADDRESS, IFLA_CARRIER, \
    IFLA_GROUP, IFLA_IFALIAS, IFLA_IFNAME, IFLA_LINKINFO, \
    IFLA_LINK_NETNSID, IFLA_MTU, IFLA_NET_NS_FD, \
    IFLA_TXQLEN, LockTrace, Nets, NetnsFd, Pool, RTM_DELLINK, RTM_NEWLINK, \
    RTM_SETLINK, Rtnl, VETH_INFO_PEER, WAIT_TIMEOUT, bareudp_data, busywait, \
    devices, ifindex, inum, ipvlan_data, most_at_once, pair_data, stretched, \
    strerror, tell_handlers

IFLA_GTP_CREATE_SOCKETS = 5

# Kinds, and for a pair the attribute that describes the peer
AUDITED = {"dummy": None, "veth": VETH_INFO_PEER}
UNAUDITED = "gtp"
UNAUDITED_DATA = [(IFLA_GTP_CREATE_SOCKETS, b"\1")]

RACES = int(os.environ.get("RACES", "20"))
# Of what is not a race. An exclusive section that has nothing to do with the
# test may happen once, but not each time.
REPEAT = max(3, RACES // 5)
# Microseconds
STRETCH = 20000
STRETCH_RACE = 1000

SECTIONS = "/sys/kernel/debug/rtnl/sections"
FALLBACK = "/proc/sys/net/core/fb_tunnels_only_for_init_net"

SO_RCVBUFFORCE = 33
SOL_SOCKET = 1
IFLA_MASTER = 10
IFLA_BR_FORWARD_DELAY = 1
IFLA_GENEVE_ID = 1
IFLA_GENEVE_REMOTE = 2
IFLA_GENEVE_COLLECT_METADATA = 6
IFLA_MACVLAN_MODE = 1
MACVLAN_MODE_BRIDGE = 4
IFLA_NETKIT_PEER_INFO = 1
IFLA_NETKIT_POLICY = 3
NETKIT_DROP = 2
IFLA_VRF_TABLE = 1
IFLA_VXLAN_ID = 1
IFLA_VXLAN_GROUP = 2
IFLA_VXLAN_LINK = 3
IFLA_VXLAN_COLLECT_METADATA = 25
IFLA_VXLAN_VNIFILTER = 30
VXCAN_INFO_PEER = 1

MAC = b"\x02\x00\x00\x00\x00\x07"


@dataclasses.dataclass
class Kind:
    """ One more kind that is audited, but does not take all of CHANGES """
    peer: int = 0
    data: list = dataclasses.field(default_factory=list)
    # What "ip link set type" can say
    change: list = dataclasses.field(default_factory=list)
    moves: bool = True


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
# IPv6 tunnels with the attributes of their ends, and XFRM interfaces
IPV6_TUNNELS = {"ip6tnl": (2, 3), "ip6gre": (6, 7), "ip6gretap": (6, 7),
                "ip6erspan": (6, 7), "vti6": (4, 5), "xfrm": None}
# Of all these kinds
IFLA_TUNNEL_LINK = 1
IFLA_XFRM_IF_ID = 2
# Flags, keys and index
IPV6_ERSPAN = [(2, b"\x30\0"), (3, b"\x30\0"), (4, b"\0\0\0\7"),
               (5, b"\0\0\0\7"), (21, 7)]


def ipv6_tunnel(kind, num):
    """ What Rtnl.add() and Rtnl.change() have to say, for a tunnel via lo """
    # ip6gretap does not change into what an ip6gre has
    net = list(IPV6_TUNNELS).index(kind)
    ends = [(attr, socket.inet_pton(socket.AF_INET6, f"2001:db8:{net}::{end}"))
            for attr, end in zip(IPV6_TUNNELS[kind] or (), (1, num))]
    return [(IFLA_TUNNEL_LINK, 1), *ends,
            *(IPV6_ERSPAN if kind == "ip6erspan" else []),
            *([] if ends else [(IFLA_XFRM_IF_ID, num)])]


MORE |= {kind: Kind(data=ipv6_tunnel(kind, 2), change=ipv6_tunnel(kind, 3),
                    moves=False) for kind in IPV6_TUNNELS}

# Kinds that take others as ports
MASTERS = ("bridge", "vrf")

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


def ipv4_tunnel(kind, end, start="127.0.0.1"):
    """ What Rtnl.add() and Rtnl.change() have to say for an IPv4 tunnel """
    return [*zip(IPV4_ENDS[kind], map(socket.inet_aton, (start, end))),
            *(ERSPAN if kind == "erspan" else [])]


MORE |= {kind: Kind(data=ipv4_tunnel(kind, "127.0.0.2"),
                    change=ipv4_tunnel(kind, "127.0.0.3"), moves=False)
         for kind in IPV4_TUNNELS}
FALLBACK_KINDS += ["ip6tnl", "ip6gre", "vti6"]
FALLBACK_DEVICES |= {"ip6tnl0", "ip6gre0", "ip6_vti0"}
# Tunnels, which belong to the namespace of their sockets. What follows a dash is
# not part of the kind.
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

# Of a thread that has waited for references for more than a second
WAITERS = ("netdev_wait_allrefs_any", "netdev_rebroadcast_unregister",
           "netdev_reap", "netdev_run_todo")


@dataclasses.dataclass
class Section:
    """ What a thread did while it held RTNL, and right after """
    rtnl: str
    caller: str
    # Numbers of the namespaces whose mutexes are held, after each acquisition
    held: list = dataclasses.field(default_factory=lambda: [frozenset()])
    # Namespaces and names of the devices that it unregistered
    reaped: list = dataclasses.field(default_factory=list)

    def holds(self, nets):
        """ Whether it held the mutexes of all these at the same time """
        return any(nets <= held for held in self.held)


def sections(events):
    """ The sections that a LockTrace tells of, as they began """
    found = []
    # By thread: the last one, and whether it is still held
    last, inside = {}, set()
    for thread, event, fields in events:
        net = fields.get("net_inum")
        if event == "lock_acquired" and net == "0":
            caller = fields["caller"].split("+")[0]
            if not caller.startswith(WAITERS):
                last[thread] = Section(fields["rtnl"], caller)
                found.append(last[thread])
                inside.add(thread)
        elif event == "lock_release" and net == "0":
            inside.discard(thread)
        elif event == "lock_acquired" and thread in inside:
            last[thread].held.append(last[thread].held[-1] | {net})
        elif event == "lock_release" and thread in inside:
            last[thread].held.append(last[thread].held[-1] - {net})
        elif event == "reaped" and thread in last:
            last[thread].reaped.append((fields["home_inum"], fields["dev"]))
    return found


def told(found):
    """ Who held RTNL how """
    return sorted({(section.caller, section.rtnl) for section in found})


def reaped_by(found, netns):
    """ The names of a namespace's devices that sections unregistered """
    return sorted(name for section in found for home, name in section.reaped
                  if home == netns)


def counters():
    """ How many sections there were, by what they were """
    try:
        with open(SECTIONS, encoding="ascii") as file:
            return {name: int(count) for name, count in map(str.split, file)}
    except FileNotFoundError as err:
        raise KsftSkipEx(f"the kernel has no {SECTIONS}: no debugfs, or no "
                         "CONFIG_NET_SMALL_RTNL") from err


def grown(before):
    """ How many sections there were since then """
    return {name: count - before[name] for name, count in counters().items()}


class OwnTrace(LockTrace):
    """ How this very thread holds RTNL, request by request """

    def __init__(self):
        super().__init__(set_event_pid=str(os.getpid()))
        self.asked = 0

    def ask(self, what, func, *args, **kwargs):
        """ Do one request, that has to succeed. Returns its sections. """
        self.set("trace", "")
        self.asked += 1
        err = func(*args, **kwargs)
        found = sections(self.read())
        ksft_eq(strerror(err), "success", what)
        ksft_true(found, f"{what} takes no lock at all")
        return found

    def ask_shared(self, what, nets, func, *args, **kwargs):
        """ The same. The locks of these namespaces are enough for it. """
        found = self.ask(what, func, *args, **kwargs)
        ksft_eq([pair for pair in told(found) if pair[1] != "shared"], [],
                what)
        held = [sorted(max(section.held, key=len)) for section in found]
        ksft_true(any(section.holds(nets) for section in found),
                  f"{what} needs the mutexes of {sorted(nets)}, has {held}")
        return found


class Crew:
    """
    Processes that do something at the same moment, again and again. Each calls
    its function with the number of the round, which returns an error number.
    """

    def __init__(self, *funcs):
        self.funcs = funcs
        self.usecs = (0, STRETCH_RACE)
        self.barrier = multiprocessing.Barrier(len(funcs) + 1)
        self.results = multiprocessing.Array("i", len(funcs))
        self.procs = [multiprocessing.Process(target=self._run, args=(me,))
                      for me in range(len(funcs))]

    def _run(self, me):
        with contextlib.suppress(threading.BrokenBarrierError):
            for num in itertools.count():
                self.barrier.wait()
                for _ in range(random.randrange(5000)):
                    pass
                try:
                    self.results[me] = self.funcs[me](num)
                finally:
                    self.barrier.wait()

    def go(self, also=None):
        """ One round. Returns what they return. """
        self.results[:] = [-1] * len(self.funcs)
        usecs = random.choice(self.usecs)
        with stretched(usecs) if usecs and os.path.exists(DELAY) else \
                contextlib.nullcontext():
            self.barrier.wait()
            if also:
                also()
            self.barrier.wait()
        if -1 in self.results[:]:
            raise KsftFailEx("a process has failed")
        return self.results[:]

    def __enter__(self):
        for proc in self.procs:
            proc.start()
        return self

    def __exit__(self, exc_type, exc_value, traceback):
        # They wait for the next round
        self.barrier.abort()
        for proc in self.procs:
            proc.join()


def names(errs):
    """ Error numbers in words """
    return [strerror(err) for err in errs]


def pass_each_other(s, pool, funcs, *others, rounds=1):
    """
    Run each of funcs, for namespaces of its own, beside the others. Two of funcs
    have to hold RTNL at the same moment, and nothing may be left.
    """
    with Crew(*funcs, *others) as crew:
        crew.usecs = (STRETCH,)
        with LockTrace() as trace:
            for _ in range(rounds):
                ksft_eq(names(crew.go()), ["success"] * len(crew.procs))
        pids = {proc.pid for proc in crew.procs[:len(funcs)]}
    pool.wait_freed()
    s.check_left()
    ksft_ge(most_at_once(trace, pids), 2, "they wait for each other")


def peer_of(kind, name, netns):
    """ What Rtnl.add() has to say for a device of an audited kind """
    return pair_data(AUDITED[kind], name, netns) if AUDITED[kind] else []


def require_kind(pool, kind, data=(), lower=None):
    """ Skip what needs a kind that the kernel does not have. Loads it. """
    netns, = pool.add("K")
    with Rtnl(netns) as rtnl:
        link = 0
        if lower:
            ksft_eq(strerror(rtnl.add("l0", lower, None)), "success")
            link = ifindex(netns, "l0")
        err = rtnl.add("k0", kind, None, data, link)
    pool.kill(netns)
    pool.wait_freed()
    if err == errno.EOPNOTSUPP:
        raise KsftSkipEx(f"the kernel has no {kind}")
    ksft_eq(strerror(err), "success", kind)


@contextlib.contextmanager
def fallback_tunnels(value):
    """ In all namespaces: 0; in none: 2 """
    with contextlib.ExitStack() as stack:
        if os.path.exists(FALLBACK):
            with open(FALLBACK, "r+", encoding="ascii") as file:
                old = file.read()
                file.seek(0)
                file.write(value)
            stack.callback(write_file, FALLBACK, old)
        yield


@contextlib.contextmanager
def no_fallback_tunnels():
    """ Have nothing but a loopback device in new namespaces """
    with fallback_tunnels("2"):
        with Pool() as pool:
            netns, = pool.add("K")
            there = devices(netns)
        if there != {"lo"}:
            raise KsftSkipEx(f"a new namespace has {sorted(there)}")
        yield


def write_file(path, text):
    """ Write a file of proc """
    with open(path, "w", encoding="ascii") as file:
        file.write(text)


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


def change_more(s, trace, kind):
    """ Make a device in A, whose peer is in B, change it and delete it """
    what = MORE[kind]
    a, b, c = inum(s.a), inum(s.b), inum(s.c)
    peer = {b} if what.peer else set()
    with NetnsFd(s.a) as fd_a, NetnsFd(s.b) as fd_b, NetnsFd(s.c) as fd_c:
        data = what.data + (pair_data(what.peer, "y0", fd_b) if peer else [])
        trace.ask_shared("creation", {a} | peer, s.rtnl["a"].add, "x0", kind,
                         fd_a, data)
        if peer:
            trace.ask_shared("up, the peer", {b}, s.rtnl["b"].set_up, "y0")
        trace.ask_shared("up", {a}, s.rtnl["a"].set_up, "x0")
        if what.change:
            trace.ask_shared("change", {a}, s.rtnl["a"].change, "x0", kind,
                             what.change)
        trace.ask_shared("down", {a}, s.rtnl["a"].set_down, "x0")
        home = "a"
        if what.moves:
            trace.ask_shared("move", {a, c}, s.rtnl["a"].move, "x0", fd_c)
            home = "c"
    found = trace.ask_shared("deletion", {inum(s.nets[home])} | peer,
                             s.rtnl[home].delete, "x0")
    ksft_eq(reaped_by(found, inum(s.nets[home])), ["x0"])
    ksft_eq(reaped_by(found, b), ["y0"] if peer else [])


@ksft_variants([KsftNamedVariant(kind, kind) for kind in MORE])
def more_kinds_hold_rtnl_shared(kind):
    """ Life of a device of one more kind, and its death with its namespace """
    what = MORE[kind]
    counters()
    with no_fallback_tunnels(), Pool() as pool:
        require_kind(pool, kind, what.data)
        s = Nets(pool, *"abc")
        s.ignore()
        with OwnTrace() as trace:
            for _ in range(REPEAT):
                change_more(s, trace, kind)
        s.check_left()

        with NetnsFd(s.a) as fd_a, NetnsFd(s.b) as fd_b:
            peer = pair_data(what.peer, "y0", fd_b) if what.peer else []
            errs = [s.rtnl["a"].add("x0", kind, fd_a, what.data + peer),
                    s.rtnl["a"].set_up("x0") if not peer else 0]
        ksft_eq(names(errs), ["success"] * 2)
        a, b = inum(s.a), inum(s.b)
        found = die(s, pool, set())
        s.check_left()
        ksft_true("x0" in reaped_by(found, a), "no section reaped the device")
        ksft_eq(reaped_by(found, b), ["y0"] if peer else [])
        ksft_eq([pair for pair in told(
            section for section in found if section.holds({a}))
                 if pair[1] != "shared"], [])


@ksft_variants([KsftNamedVariant(kind, kind) for kind in MASTERS])
def ports_come_and_go(kind):
    """ Pairs have one end in a container and one in the host's bridge """
    counters()
    with no_fallback_tunnels(), Pool() as pool:
        require_kind(pool, kind, MORE[kind].data)
        # A is the container
        s = Nets(pool, "a", "b")
        s.ignore()
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
    return next(filter(None, errs), 0)


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


@ksft_variants([KsftNamedVariant(kind, kind) for kind in IPV6_TUNNELS])
def ipv6_tunnel_elsewhere_is_exclusive(kind):
    """ One that is, or ever was, not in the namespace that it belongs to """
    counters()
    with no_fallback_tunnels(), Pool() as pool:
        require_kind(pool, kind, MORE[kind].data)
        s = Nets(pool, "a", "b")
        s.ignore()
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


def die(s, pool, ends_with):
    """ Let A die. Returns the sections meanwhile. """
    held = s.hold("a")
    with LockTrace() as trace:
        held.close()
        busywait(lambda: devices(s.b) == {"lo"} | ends_with, "peers are gone")
        # These are all: no wait makes up for one that is late
        pool.wait_freed()
    return sections(trace.events)


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
    counters()
    with no_fallback_tunnels(), Pool() as pool:
        require_kind(pool, kind, MORE[kind].data)
        s = Nets(pool, "a", "b")
        s.ignore()
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
    counters()
    with no_fallback_tunnels(), Pool() as pool:
        require_kind(pool, "gre", MORE["gre"].data)
        s = Nets(pool, "a")
        s.ignore()
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


def use_ip_tunnels(rtnl, kinds, rounds, keep=False):
    """ Make, use and delete tunnels of these kinds, again and again """
    for _ in range(rounds):
        for kind in kinds:
            errs = [rtnl.add(kind, kind, None, MORE[kind].data),
                    rtnl.set_up(kind),
                    rtnl.change(kind, kind, MORE[kind].change),
                    0 if keep else rtnl.delete(kind)]
            if any(errs):
                return next(filter(None, errs))
    return 0


def ip_tunnels_in_new_namespaces(pool, kinds, rounds):
    """ Make namespaces, and delete them with their tunnels """
    for num in range(rounds):
        name = f"tunnels-{os.getpid()}-{num}"
        pool.make(name)
        try:
            with Rtnl(name) as rtnl:
                err = rtnl.set_up("lo") or use_ip_tunnels(rtnl, kinds, 1,
                                                          keep=True)
        finally:
            pool.unmake(name)
        if err:
            return err
    return 0


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


def use_pair(near, far, fd_near, fd_far, rounds):
    """ Make, use and delete a pair, again and again """
    for num in range(rounds):
        errs = [near.add_veth("v0", fd_near, "p0", fd_far),
                near.set_up("v0"), far.set_up("p0"),
                far.request(RTM_SETLINK, 0, (IFLA_IFNAME, "p0"),
                            (IFLA_MTU, 1300 + num)),
                far.delete("p0") if num % 2 else near.delete("v0")]
        if any(errs):
            return next(filter(None, errs))
    return 0


def use_namespaces(pool, fd_far, rounds):
    """ Make and delete namespaces that have pairs with a living one """
    for num in range(rounds):
        name = f"links-{os.getpid()}-{num}"
        pool.make(name)
        try:
            with Rtnl(name) as rtnl, NetnsFd(name) as netns:
                errs = [rtnl.add_veth("v0", netns, f"q{num}", fd_far),
                        rtnl.add("d0", "dummy", netns),
                        rtnl.set_up("v0"), rtnl.set_up("d0")]
        finally:
            pool.unmake(name)
        if any(errs):
            return next(filter(None, errs))
    return 0


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


# Devices that are stacked on others

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
            return next(filter(None, errs))
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
    ksft_run([requests_hold_rtnl_shared, other_namespaces_can_ask,
              more_kinds_hold_rtnl_shared, ports_come_and_go,
              udp_tunnels_hold_rtnl_shared, vxlan_at_home_with_its_lower,
              vxlan_away_from_its_lower, udp_tunnels_away_are_exclusive,
              udp_tunnels_pass_each_other,
              attributes_are_exclusive, other_kinds_are_exclusive,
              ipv6_tunnel_elsewhere_is_exclusive, ipv6_tunnel_made_thrice,
              what_is_on_top_counts,
              namespace_dies_shared, namespace_dies_exclusive,
              namespace_dies_closed, fallback_devices_come_and_go,
              tunnels_elsewhere_are_exclusive, tunnel_joins_a_group,
              ip_tunnels_pass_each_other,
              pairs_pass_each_other, both_ends_up_and_down,
              one_end_up_other_down, both_ends_deleted,
              pairs_made_from_both_sides, same_pair_made_from_both_sides,
              move_and_change, namespace_dies_while_peer_is_used,
              command_returns_when_all_is_over,
              stacks_hold_rtnl_shared, namespace_with_stacks_dies_shared,
              stacks_between_namespaces_are_exclusive, taps_are_exclusive,
              stacks_pass_each_other, lower_dies_while_uppers_come_and_go])
    ksft_exit()


if __name__ == "__main__":
    main()
