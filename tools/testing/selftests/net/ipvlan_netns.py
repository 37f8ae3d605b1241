#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0

"""
Delete ipvlan and ipvtap devices, or macvlans, and their lower device while the
two are in different network namespaces, in every way that there is.

       P              A              U1          U5     C: where devices are
   +-------+     +---------+     +-------+   +-------+     moved to
   |       |     |   i0    |     |       |   |       |  Z: has no device, sends
   |       |     |   |     |     |       |   |       |     commands for those
   |  p0 --|--<>-|- low ---|-----|- i1   |...|- i5   |     in A, which it
   +-------+     +---------+     +-------+   +-------+     knows by netnsid

low is an end of a veth pair, or a dummy without a P. When the command returns,
all devices that it takes down are gone, each namespace has got its RTM_DELLINK,
and the names are free: none of these checks waits. Only the end of a namespace
is waited for, as "ip netns del" returns before it.

Environment: RACES of two processes
"""

import contextlib
import errno
import fcntl
import itertools
import os
import socket
import stat
import struct
import subprocess
import tempfile

from lib.py import KsftFailEx, KsftNamedVariant, KsftSkipEx, NetNSEnter, \
    cmd, ip, ksft_disruptive, ksft_eq, ksft_exit, ksft_in, ksft_pr, \
    ksft_raises, ksft_run, ksft_true, ksft_variants
from rtnl_net_lib import IPVLAN_FLAGS, IPVLAN_MODES, Nets, NetnsFd, Pool, \
    RTM_DELLINK, WAIT_TIMEOUT, at_once, busywait, devices, encap_route, \
    ifindex, ip_fails, ipvlan_data, pr_outcomes, require_modules, strerror, \
    udp_in_ip, while_dying

RACES = int(os.environ.get("RACES", "6"))
UPPERS = 5
NETNSID_A = 100
IFLA_MACVLAN_MODE = 1

KINDS = ("ipvlan", "ipvtap")


class Flavour:
    """ A kind of upper device, and whether low is a veth """

    def __init__(self, kind="ipvlan", mode="l2", flag="bridge", veth=True):
        self.kind = kind
        self.mode = mode
        self.flag = flag
        self.veth = veth

    def __str__(self):
        return "_".join((self.kind, self.mode, self.flag,
                         "veth" if self.veth else "dummy"))

    def data(self):
        """ IFLA_INFO_DATA for Rtnl.add() and Rtnl.change() """
        return ipvlan_data(self.mode, self.flag)


class Macvlan(Flavour):
    """ The same for macvlan and macvtap, whose mode is one of the upper """

    MODES = {"private": 1, "vepa": 2, "bridge": 4, "source": 16}

    def __init__(self, kind, mode, veth=True):
        super().__init__(kind, mode, "", veth)

    def __str__(self):
        return "_".join((self.kind, self.mode,
                         "veth" if self.veth else "dummy"))

    def data(self):
        return [(IFLA_MACVLAN_MODE, self.MODES[self.mode])]


# All that there are, with low a veth and a dummy in turns
ALL = [Flavour(*words, num % 2) for num, words in
       enumerate(itertools.product(KINDS, IPVLAN_MODES, IPVLAN_FLAGS))]
MACVLANS = [Macvlan("macvlan", "bridge"), Macvlan("macvtap", "vepa"),
            Macvlan("macvlan", "private", False), Macvlan("macvtap", "source")]
SOME = [Flavour("ipvlan", "l3", "private"), Flavour("ipvtap", "l2", "bridge")]

# Mode l3s needs it
HAVE_L3S = os.path.exists("/proc/net/netfilter")


def best_mode(kind="ipvlan"):
    """ A flavour of mode l3s, if the kernel has it """
    return Flavour(kind, "l3s" if HAVE_L3S else "l3")


class Setup(Nets):
    """ The namespaces, with a monitor in each """

    def __init__(self, pool, flavour, up=False):
        if flavour.mode == "l3s" and not HAVE_L3S:
            raise KsftSkipEx("mode l3s needs CONFIG_NETFILTER")
        super().__init__(pool, "a", "p", "c",
                         *(f"u{num}" for num in range(1, UPPERS + 1)))
        self.flavour = flavour
        self.up = up

    def uppers(self):
        """ Names of the upper devices, by namespace """
        return {f"u{num}" if num else "a": f"i{num}"
                for num in range(UPPERS + 1)}

    def add_low(self):
        """ Make low. Fails if its name is in use. """
        with NetnsFd(self.a) as fd:
            if self.flavour.veth:
                with NetnsFd(self.p) as fd_p:
                    err = self.rtnl["a"].add_veth("low", fd, "p0", fd_p)
            else:
                err = self.rtnl["a"].add("low", "dummy", fd)
        if err:
            raise KsftFailEx(f"no low, {self.flavour}: {strerror(err)}")
        if self.up:
            self.set_up("a", "low")
            if self.flavour.veth:
                self.set_up("p", "p0")

    def set_up(self, name, dev):
        """ ip link set up """
        ksft_eq(strerror(self.rtnl[name].set_up(dev)), "success")

    def new_upper(self, home, dev, where="a", lower="low", index=None):
        """ ip -n WHERE link add link LOWER, returns the error number """
        with NetnsFd(self.nets[home]) as fd:
            return self.rtnl[where].add(
                dev, self.flavour.kind, fd, self.flavour.data(),
                link=index or ifindex(self.nets[where], lower))

    def add(self):
        """ Make all the devices. Fails if one of the names is in use. """
        self.add_low()
        for home, dev in self.uppers().items():
            err = self.new_upper(home, dev)
            if err:
                raise KsftFailEx(f"no {dev}, {self.flavour}: {strerror(err)}")
            if self.up:
                self.set_up(home, dev)
                err = self.rtnl[home].address(ifindex(self.nets[home], dev),
                                              f"198.18.0.{int(dev[1:]) + 1}")
                ksft_eq(strerror(err), "success", "no address")
        self.deleted()

    def add_addresses(self, *homes):
        """ Addresses that packets can come from """
        for home in homes:
            dev = self.uppers()[home]
            num = int(dev[1:]) + 1
            ip(f"addr add 192.0.2.{num}/24 dev {dev}", ns=self.nets[home])
            ip(f"addr add 2001:db8::{num}/64 dev {dev} nodad",
               ns=self.nets[home])

    def all(self):
        """ All devices that add() makes, by namespace """
        devs = {home: [dev] for home, dev in self.uppers().items()}
        devs["a"].append("low")
        if self.flavour.veth:
            devs["p"] = ["p0"]
        return devs

    def check_free(self):
        """ The same devices can be made and deleted again, at once """
        self.add()
        self.check_left(**self.all())
        ip("link del low", ns=self.a)
        self.check_gone("of the second ones", **self.all())


def _del_name(s):
    ip("link del low", ns=s.a)


def _del_index(s):
    err = s.rtnl["a"].delete_index(ifindex(s.a, "low"))
    ksft_eq(strerror(err), "success")


def _del_target_netnsid(s):
    s.revive("z")
    s.introduce("z", "a", NETNSID_A)
    err = s.rtnl["z"].delete("low", NETNSID_A)
    ksft_eq(strerror(err), "success")


def _del_group_low(s):
    ip("link set low group 7", ns=s.a)
    ip("link del group 7", ns=s.a)


def _del_group_both(s):
    ip("link set i0 group 7", ns=s.a)
    _del_group_low(s)


def _del_peer(s):
    ip("link del p0", ns=s.p)


LOWER_DELETED = {
    "name": _del_name,
    "index": _del_index,
    "target_netnsid": _del_target_netnsid,
    "group": _del_group_low,
    "group_with_an_upper": _del_group_both,
    "peer": _del_peer,
}


@ksft_variants([
    KsftNamedVariant(f"{flavour}_by_{'_and_'.join(hows)}", flavour, up, hows)
    for flavour, up, hows in zip(
        ALL, itertools.cycle([False, False, True, True, False]),
        # Every other one is for dummies, which have no peer
        itertools.cycle([("name", "group"), ("peer", "index"),
                         ("index", "target_netnsid"), ("name", "peer"),
                         ("group_with_an_upper",), ("peer", "group")]))])
def delete_lower(flavour, up, hows):
    """ One command deletes the lower device """
    with Pool() as pool:
        s = Setup(pool, flavour, up)
        for how in hows:
            s.add()
            s.check_left(how, **s.all())
            LOWER_DELETED[how](s)
            s.check_gone(how, **s.all())


@ksft_variants([KsftNamedVariant(str(flavour), flavour, flavour.mode != "l2")
                for flavour in SOME])
def delete_upper(flavour, up):
    """ An upper device is deleted, and no other. Then all are. """
    with Pool() as pool:
        s = Setup(pool, flavour, up)
        s.add()
        left = s.all()
        for home in ("a", "u2", "u5"):
            dev = s.uppers()[home]
            ip(f"link del {dev}", ns=s.nets[home])
            left[home].remove(dev)
            s.check_left(f"without {dev}", **left)
            s.check_deleted(**{home: [dev]})
            # It can be made again
            ksft_eq(strerror(s.new_upper(home, dev)), "success")
            ip(f"link del {dev}", ns=s.nets[home])
            s.deleted()
        ip("link del low", ns=s.a)
        s.check_gone(**left)
        # The last upper destroys the port, low stays
        s.add_low()
        for home, dev in s.uppers().items():
            s.new_upper(home, dev)
        for home, dev in s.uppers().items():
            ip(f"link del {dev}", ns=s.nets[home])
        s.check_left(a=["low"], p=["p0"])
        ip("link del low", ns=s.a)
        s.deleted()
        s.check_free()


@ksft_variants([KsftNamedVariant(str(flavour), flavour, up)
                for flavour, up in zip(MACVLANS, (True, True, True, False))])
def macvlan(flavour, up):
    """ Uppers, low, its peer and their namespaces go, with macvlans on low """
    with Pool() as pool:
        s = Setup(pool, flavour, up)
        for how in ("name", "peer" if flavour.veth else "group"):
            s.add()
            LOWER_DELETED[how](s)
            s.check_gone(how, **s.all())
        s.add()
        ip("link del i1", ns=s.u1)
        s.check_deleted(u1=["i1"])
        s.kill("u2")
        left = {name: devs for name, devs in s.all().items()
                if name not in ("u1", "u2")}
        s.check_left("after i1 and u2", **left)
        ip("link del low", ns=s.a)
        s.check_gone("after i1 and u2", **left)
        s.revive("u2")
        for dies in (["a"], ["a", "u3"]):
            s.add()
            s.kill(*dies)
            s.check_gone("", **s.all())
            s.revive(*dies)
        s.check_free()


DEATHS = {
    # The namespaces that die
    "lower": ["a"],
    "peer": ["p"],
    "upper": ["u1"],
    "uppers": ["u1", "u2", "u3", "u4", "u5"],
    "lower_and_upper": ["a", "u1"],
    "lower_and_uppers": ["a", "u1", "u2", "u3", "u4", "u5"],
    "peer_and_lower": ["p", "a"],
    "peer_and_upper": ["p", "u3"],
    "all": ["p", "a", "u1", "u2", "u3", "u4", "u5"],
}


@ksft_variants([
    KsftNamedVariant(str(flavour), flavour, flavour.mode == "l2", deaths)
    for flavour, deaths in (
        (SOME[0], list(DEATHS)),
        (SOME[1], ["lower", "lower_and_upper", "peer_and_upper"]),
        (Flavour("ipvlan", "l3s", "vepa"), ["lower", "uppers",
                                            "peer_and_lower"]))])
def netns_death(flavour, up, deaths):
    """ Namespaces die. The uppers of their devices go, and no others. """
    with Pool() as pool:
        s = Setup(pool, flavour, up)
        for who in deaths:
            dies = DEATHS[who]
            s.add()
            s.kill(*dies)
            left = {}
            if not {"a", "p"} & set(dies):
                left = {name: devs for name, devs in s.all().items()
                        if name not in dies}
            s.check_left(f"after {who}", **left)
            s.check_deleted(f"for {who}", **({} if left else s.all()))
            if left:
                ip("link del low", ns=s.a)
                s.check_gone(f"after {who} and low", **left)
            s.revive(*dies)
        s.check_free()


@ksft_variants([KsftNamedVariant(str(flavour), flavour) for flavour in SOME])
def netns_death_one_by_one(flavour):
    """ Namespaces die in a row, without waiting for each other """
    with Pool() as pool:
        for step in (1, -1):
            s = Setup(pool, flavour)
            s.add()
            for name in list(s.nets)[::step]:
                s.hold(name).close()
            pool.wait_freed()


def _after_delete(s, where):
    ip("link del low", ns=s.nets[where])


def _after_kill(s, where):
    s.kill(where)


def _after_kill_all(s, _):
    s.kill(*s.nets)


@ksft_variants([
    KsftNamedVariant(f"{flavour}_{path}_{how}", flavour, path, func)
    for flavour, path, (how, func) in itertools.product(
        (best_mode(), Flavour("ipvtap", "l2", "vepa", False)),
        ("c", "u1", "ca"), {
            "delete": _after_delete,
            "kill": _after_kill,
            "kill_all": _after_kill_all,
        }.items())
    if path == "c" or flavour.veth and how != "kill_all"])
def move_lower(flavour, path, func):
    """ The lower device is moved, once or twice, and then deleted """
    with Pool() as pool:
        s = Setup(pool, flavour, flavour.veth)
        s.add()
        where = "a"
        for target in (path,) if path in s.nets else path:
            ip(f"link set low netns {s.nets[target]}", ns=s.nets[where])
            ksft_in("low", devices(s.nets[target]))
            s.check_deleted(**{where: ["low"]})
            where = target
        gone = s.all()
        gone["a"].remove("low")
        gone[where] = sorted(gone.get(where, []) + ["low"])
        s.check_left(**gone)
        if path == "c":
            # Its first namespace dies, with one upper
            s.kill("a")
            del gone["a"]
            s.check_left(**gone)
            s.deleted()
        func(s, where)
        s.check_gone(**gone)
        s.revive(*DEATHS["all"], "c")
        s.check_free()


def move_upper():
    """ Upper devices are moved, then low is deleted or its netns dies """
    for flavour in SOME:
        with Pool() as pool:
            s = Setup(pool, flavour)
            for kill in (False, True):
                s.add()
                ip(f"link set i1 netns {s.u2}", ns=s.u1)
                ip(f"link set i3 netns {s.c}", ns=s.u3)
                ip(f"link set i4 netns {s.a}", ns=s.u4)
                ip(f"link set i0 netns {s.p}", ns=s.a)
                left = {"a": ["i4", "low"], "u2": ["i1", "i2"], "c": ["i3"],
                        "p": ["i0", "p0"], "u5": ["i5"]}
                s.check_left(**left)
                s.deleted()
                if kill:
                    # The namespaces where the uppers were made die
                    s.kill("u1", "u3", "u4")
                    s.check_left(**left)
                    s.kill("a")
                else:
                    ip("link del low", ns=s.a)
                s.check_gone(**left)
            s.revive("u1", "u3", "u4", "a")
            s.check_free()


class Sender:
    """ Packets from P, through low, to one of the upper devices """

    def __init__(self, s):
        self.s = s
        ip("addr add 192.0.2.100/24 dev p0", ns=s.p)
        ip("addr add 2001:db8::100/64 dev p0 nodad", ns=s.p)
        mac = ip("link show low", json=True, ns=s.a)[0]["address"]
        for num in range(1, UPPERS + 1):
            for addr in (f"192.0.2.{num + 1}", f"2001:db8::{num + 1}"):
                ip(f"neigh add {addr} lladdr {mac} dev p0 nud permanent",
                   ns=s.p)

    def _ready(self):
        link = ip("link show p0", json=True, ns=self.s.p)[0]
        return link["operstate"] == "UP" and link["qdisc"] != "noop"

    def check(self, num):
        """ What is sent arrives """
        # After low is set up, a worker of the kernel does so with p0
        busywait(self._ready, "p0 sends")
        with contextlib.ExitStack() as stack:
            for family, addr in ((socket.AF_INET, f"192.0.2.{num + 1}"),
                                 (socket.AF_INET6, f"2001:db8::{num + 1}")):
                socks = []
                for netns in (self.s.p, self.s.nets[f"u{num}"]):
                    with NetNSEnter(netns):
                        socks.append(stack.enter_context(
                            socket.socket(family, socket.SOCK_DGRAM)))
                socks[1].bind((addr, 0))
                socks[1].settimeout(WAIT_TIMEOUT)
                socks[0].sendto(addr.encode(), socks[1].getsockname())
                ksft_eq(socks[1].recv(100), addr.encode(), "a wrong packet")


@ksft_variants([KsftNamedVariant(mode, mode) for mode in IPVLAN_MODES])
def traffic(mode):
    """
    Packets still arrive in the namespaces that live. In mode l3s they pass a
    netfilter hook that moves with the lower device.
    """
    with Pool() as pool:
        s = Setup(pool, Flavour("ipvlan", mode), True)
        s.add()
        s.add_addresses("u1", "u3", "u4", "u5")
        sender = Sender(s)
        sender.check(1)
        s.kill("u2")
        sender.check(1)
        ip(f"link set low netns {s.c}", ns=s.a)
        s.set_up("c", "low")
        sender.check(3)
        # Where the hook was
        s.kill("a")
        sender.check(4)
        ip("link del i4", ns=s.u4)
        sender.check(5)
        s.kill("c")
        s.check_left()
        s.revive("a", "c", "u2")
        s.check_free()


def _mode_of(netns, dev):
    out = ip(f"-d link show {dev}", json=True, ns=netns)[0]
    return out["linkinfo"]["info_data"]["mode"], "NOARP" in out["flags"]


def mode_change():
    """ The mode is that of the port, so all uppers change it at once """
    with Pool() as pool:
        for kind in KINDS:
            s = Setup(pool, Flavour(kind), True)
            s.add()
            uppers = list(s.uppers().items())
            best = best_mode().mode
            for num, mode in enumerate((best, "l3", "l2", best)):
                home, dev = uppers[num]
                ip(f"link set {dev} type {kind} mode {mode}",
                   ns=s.nets[home])
                for other, upper in uppers:
                    ksft_eq(_mode_of(s.nets[other], upper),
                            (mode, mode != "l2"), f"{upper} after {dev}")
            # The hook outlives the upper that asked for it
            s.kill("u3")
            s.deleted()
            ip("link del low", ns=s.a)
            s.check_gone(**s.all())


class Race:
    """ Rounds of processes that work on the same devices """

    def __init__(self, s):
        self.s = s
        self.outcomes = []

    def run(self, delete, other, allowed):
        """
        Run delete, which has to succeed, and other, which may fail so, at
        once. Return whether other did not fail.
        """
        err_del, err = at_once(delete, other)
        ksft_eq(strerror(err_del), "success", "the deletion")
        ksft_in(strerror(err), ["success", *allowed])
        self.outcomes.append(strerror(err))
        return not err


@contextlib.contextmanager
def races(flavour, up=False):
    """ A Race, and what is to do before and after """
    with Pool() as pool:
        race = Race(Setup(pool, flavour, up))
        yield race
        pr_outcomes(race.outcomes)
        race.s.check_free()


@ksft_variants([KsftNamedVariant(f"{flavour}_{home}", flavour, home)
                for flavour, home in zip(SOME, ("u1", "a"))])
def race_both_ends(flavour, home):
    """ The lower device and an upper are deleted at the same moment """
    with races(flavour) as race:
        s = race.s
        dev = s.uppers()[home]
        # In the same namespace, each process needs a socket of its own
        rtnl = s.pool.rtnl(s.nets[home])
        for _ in range(RACES):
            s.add()
            race.run(lambda: s.rtnl["a"].delete("low"),
                     lambda: rtnl.delete(dev), ["ENODEV"])
            s.check_gone(**s.all())


def race_three():
    """ The peer, the lower and two uppers, each by another process """
    with races(SOME[0]) as race:
        s = race.s
        for _ in range(RACES):
            s.add()
            errs = at_once(lambda: s.rtnl["p"].delete("p0"),
                           lambda: s.rtnl["a"].delete("low"),
                           lambda: s.rtnl["u1"].delete("i1"),
                           lambda: s.rtnl["u2"].delete("i2"))
            race.outcomes += map(strerror, errs)
            ksft_true(set(errs) <= {0, errno.ENODEV}, errs)
            # One of the two may find its end gone already
            ksft_in(0, errs[:2])
            s.check_gone(**s.all())


def race_mode():
    """ The mode is changed while the lower device is deleted """
    with races(Flavour("ipvlan", "l2"), True) as race:
        s = race.s
        data = best_mode().data()
        for num in range(RACES):
            s.add()
            home = f"u{num % UPPERS + 1}"
            race.run(lambda: s.rtnl["a"].delete("low"),
                     lambda home=home: s.rtnl[home].change(
                         s.uppers()[home], "ipvlan", data), ["ENODEV"])
            s.check_gone(**s.all())


def race_move():
    """ An upper is moved while the lower device is deleted """
    with races(SOME[1]) as race:
        s = race.s
        for _ in range(RACES):
            s.add()
            with NetnsFd(s.c) as fd:
                moved = race.run(lambda: s.rtnl["a"].delete("low"),
                                 lambda fd=fd: s.rtnl["u1"].move("i1", fd),
                                 ["ENODEV"])
            # The namespace that a device leaves gets RTM_DELLINK, too
            s.check_gone(**s.all(), c=["i1"] if moved else [])


@ksft_variants([
    # From where and on what the new one is made
    KsftNamedVariant(f"{flavour}_{name}", flavour, where, lower)
    for flavour, (name, where, lower) in zip(itertools.cycle(SOME), [
        ("on_lower", "a", "low"),
        ("on_lower", "a", "low"),
        ("on_upper", "u2", "i2"),
        ("on_upper_same_netns", "a", "i0"),
    ])])
def race_newlink(flavour, where, lower):
    """ A new upper is made, on low or on another, while low is deleted """
    with races(flavour) as race:
        s = race.s
        rtnl = s.pool.rtnl(s.a)
        for _ in range(RACES):
            s.add()
            index = ifindex(s.nets[where], lower)
            made = race.run(lambda: rtnl.delete("low"),
                            lambda index=index: s.new_upper(
                                "u1", "new", where, index=index), ["ENODEV"])
            gone = s.all()
            if made:
                gone["u1"].append("new")
            s.check_gone(**gone)


@ksft_variants([
    KsftNamedVariant(f"{name}_{flavour}", flavour, dies, where, dev)
    for flavour, (name, dies, where, dev) in zip(itertools.cycle(SOME), [
        ("delete_upper_lower_dies", "a", "u1", "i1"),
        ("delete_upper_peer_dies", "p", "u1", "i1"),
        ("delete_lower_upper_dies", "u1", "a", "low"),
        ("delete_lower_peer_dies", "p", "a", "low"),
        ("delete_peer_lower_dies", "a", "p", "p0"),
    ])])
def race_delete_and_death(flavour, dies, where, dev):
    """ A device is deleted while the namespace of another one dies """
    with Pool() as pool:
        s = Setup(pool, flavour)
        outcomes = []
        for _ in range(max(RACES // 2, 1)):
            s.add()
            rtnl = s.rtnl[where]
            err, = while_dying(s.hold(dies), lambda rtnl=rtnl:
                               rtnl.delete(dev))
            outcomes.append(strerror(err))
            ksft_in(strerror(err), ["success", "ENODEV"])
            # By either of the two
            ksft_true(dev not in devices(s.nets[where]), f"{dev} is left")
            pool.wait_freed()
            # And each RTM_DELLINK once
            s.check_gone(**s.all())
            s.revive(dies)
        pr_outcomes(outcomes)
        s.check_free()


ADDRESSES = ("192.0.2.77/24", "2001:db8::77/64")


def _reuse_del_addr(s, addr):
    ip(f"addr del {addr} dev i1", ns=s.u1)


def _reuse_del_dev(s, _):
    ip("link del i1", ns=s.u1)


def _reuse_kill(s, _):
    s.kill("u1")


def _reuse_lower(s, _):
    ip("link del low", ns=s.a)
    s.add()


@ksft_variants([
    KsftNamedVariant("address_deleted", _reuse_del_addr, True),
    KsftNamedVariant("upper_deleted", _reuse_del_dev, False),
    KsftNamedVariant("upper_deleted_up", _reuse_del_dev, True),
    KsftNamedVariant("netns_death", _reuse_kill, False),
    KsftNamedVariant("netns_death_up", _reuse_kill, True),
    KsftNamedVariant("all_new", _reuse_lower, True),
])
def address_reuse(func, up):
    """ Other uppers cannot get an upper's address while it is there """
    with Pool() as pool:
        s = Setup(pool, Flavour("ipvlan", "l3"), up)
        s.add()
        for addr in ADDRESSES:
            s.revive("u1")
            if "i1" not in devices(s.u1):
                ksft_eq(strerror(s.new_upper("u1", "i1")), "success")
            nodad = "nodad" if ":" in addr else ""
            ip(f"addr add {addr} dev i1 {nodad}", ns=s.u1)
            for num in (2, 3):
                ip_fails(f"-n {s.nets[f'u{num}']} addr add {addr} dev i{num} "
                         f"{nodad}", "already assigned")
            func(s, addr)
            ip(f"addr add {addr} dev i2 {nodad}", ns=s.u2)
        ip("link del low", ns=s.a)
        s.check_left()


def stacked():
    """ An ipvlan that is made on an ipvlan is one on its lower device """
    with Pool() as pool:
        for kind in KINDS:
            s = Setup(pool, Flavour(kind, "l3"))
            s.add()
            err = s.new_upper("c", "new", "u1", "i1")
            ksft_eq(strerror(err), "success")
            # So it stays when the first one goes
            ip("link del i1", ns=s.u1)
            s.kill("u1")
            ksft_in("new", devices(s.c))
            s.deleted()
            ip("link del p0", ns=s.p)
            s.check_gone(**s.all(), c=["new"])
            s.revive("u1")
            s.check_free()


def _chain_del(name, dev):
    return lambda s: ip(f"link del {dev}", ns=s.nets[name])


def _chain_kill(*names):
    return lambda s: s.kill(*names)


@ksft_variants([
    # What is deleted or dies, and whether the bareudp device goes as well
    KsftNamedVariant("lower", _chain_del("a", "low"), False),
    KsftNamedVariant("peer", _chain_del("p", "p0"), False),
    KsftNamedVariant("upper", _chain_del("u1", "i1"), False),
    KsftNamedVariant("netns_of_peer", _chain_kill("p"), False),
    KsftNamedVariant("netns_of_lower", _chain_kill("a"), False),
    KsftNamedVariant("netns_of_upper", _chain_kill("u1"), True),
    KsftNamedVariant("netns_of_peer_and_upper", _chain_kill("p", "u1"), True),
    KsftNamedVariant("netns_of_all", _chain_kill("p", "a", "u1"), True),
])
def bareudp_over_ipvlan(func, dies):
    """
    The socket of a bareudp device in C is in U1, and its packets go over i1.
    It has a dst cached, and with it a reference on i1.
    """
    with Pool() as pool:
        s = Setup(pool, Flavour("ipvlan", "l3"), True)
        s.add()
        s.add_addresses("u1", "u2")
        ip(f"link add bu0 netns {s.c} type bareudp dstport 6635 ethertype ip",
           ns=s.u1)
        ip("addr add 198.51.100.1/24 dev bu0", ns=s.c)
        ip("link set bu0 up", ns=s.c)
        # From and to the address of i2, without a detour
        encap = encap_route(s.c, "203.0.113.0/24", "192.0.2.3", "bu0")
        if not encap:
            ksft_pr("packets do not go, but only come: no CONFIG_LWTUNNEL")
        with _udp_socket(s.c) as inner, _udp_socket(s.u2) as outer:
            outer.sendto(udp_in_ip("203.0.113.1", "198.51.100.1", 6635,
                                   b"small"), ("192.0.2.2", 6635))
            ksft_eq(inner.recv(100), b"small", "a wrong packet")
            if encap:
                inner.sendto(b"small", ("203.0.113.1", 6635))
                ksft_eq(outer.recv(100)[-5:], b"small", "a wrong packet")
            s.deleted()
            func(s)
            gone = s.deleted()
            ksft_eq(gone.get("c", []), ["bu0"] if dies else [])
            ksft_eq("bu0" in devices(s.c), not dies)
            if not dies:
                if encap:
                    # There is no route any more, which is no error
                    inner.sendto(b"small", ("203.0.113.1", 6635))
                ip("link del bu0", ns=s.c)
            if "a" in s.nets and "low" in devices(s.a):
                ip("link del low", ns=s.a)
            s.check_left()


def _udp_socket(netns):
    with NetNSEnter(netns):
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("0.0.0.0", 6635))
    sock.settimeout(WAIT_TIMEOUT)
    return sock


def _taken(s):
    ip("link add new type dummy", ns=s.c)


@ksft_variants([
    # Preparation, lower device, options of the link and of its kind, error
    KsftNamedVariant("name_taken", _taken, "low", "", "", "File exists"),
    KsftNamedVariant("bad_lower", None, "lo", "", "", "Invalid argument"),
    KsftNamedVariant("bad_mtu", None, "low", "mtu 65536", "",
                     "mtu greater than"),
    # This fails after the device is registered
    KsftNamedVariant("bad_master", None, "low", "master lo", "",
                     "not supported"),
    KsftNamedVariant("no_l3s", None, "low", "", "mode l3s", "error 524"),
])
def newlink_fails(prepare, lower, option, kind_option, message):
    """ Nothing is left of a half-built device, and low can be deleted """
    if "l3s" in kind_option and HAVE_L3S:
        raise KsftSkipEx("mode l3s works here")
    with Pool() as pool:
        for kind in KINDS:
            s = Setup(pool, Flavour(kind))
            s.add_low()
            if prepare:
                prepare(s)
            before = pool.extra()
            for _ in range(3):
                ip_fails(f"-n {s.a} link add link {lower} name new {option} "
                         f"netns {s.c} type {kind} {kind_option}", message)
                ksft_eq(pool.extra(), before, "wrong devices")
            if prepare:
                ip("link del new", ns=s.c)
            ip("link del low", ns=s.a)
            s.check_left()
            s.deleted()
            s.check_free()
            s.kill(*s.nets)


# From linux/if_packet.h
SOL_PACKET = 263
PACKET_ADD_MEMBERSHIP = 1
PACKET_MR_ALLMULTI = 2

# From linux/if_tun.h
TUNGETIFF = 0x800454d2
# A struct virtio_net_hdr and an Ethernet header
FRAME = bytes(10) + bytes(12) + b"\x08\x00" + bytes(46)


class Tap:
    """ The file of an ipvtap device """

    def __init__(self, netns, dev):
        self.dir = tempfile.TemporaryDirectory()
        self.path = f"{self.dir.name}/tap"
        index = ifindex(netns, dev)
        out = cmd(f"cat /sys/class/net/{dev}/tap{index}/dev", ns=netns).stdout
        os.mknod(self.path, stat.S_IFCHR | 0o600,
                 os.makedev(*map(int, out.split(":"))))
        self.file = self.open()

    def open(self):
        """ Another file of that device """
        fd = os.open(self.path, os.O_RDWR | os.O_NONBLOCK)
        return os.fdopen(fd, "r+b", buffering=0)

    def name(self):
        """ The name of the device """
        return fcntl.ioctl(self.file, TUNGETIFF, bytes(40))[:16].rstrip(b"\0")

    def check_dead(self):
        """ The file is there, but has no device """
        # What is written is dropped without an error
        ksft_eq(self.file.write(FRAME), len(FRAME), "a write is refused")
        # What it was given before can be read, and then nothing
        while self.file.read(2000) is not None:
            pass
        with ksft_raises(OSError) as raised:
            self.name()
        ksft_eq(strerror(raised.exception.errno), "ENOLINK")
        with ksft_raises(OSError) as raised:
            self.open().close()
        ksft_eq(strerror(raised.exception.errno), "ENODEV")

    def __enter__(self):
        return self

    def __exit__(self, exc_type, exc_value, traceback):
        self.file.close()
        self.dir.cleanup()


@ksft_variants([
    KsftNamedVariant("upper", _chain_del("u1", "i1")),
    KsftNamedVariant("lower", _chain_del("a", "low")),
    KsftNamedVariant("peer", _chain_del("p", "p0")),
    KsftNamedVariant("netns_of_upper", _chain_kill("u1")),
    KsftNamedVariant("netns_of_lower", _chain_kill("a")),
    KsftNamedVariant("netns_of_upper_and_lower", _chain_kill("a", "u1")),
    KsftNamedVariant("netns_of_peer", _chain_kill("p")),
])
def tap_open(func):
    """ The device dies while its file is open """
    with Pool() as pool:
        s = Setup(pool, Flavour("ipvtap", "l2"), True)
        s.add()
        with Tap(s.u1, "i1") as tap, tap.open():
            ksft_eq(tap.name(), b"i1")
            ksft_eq(tap.file.write(FRAME), len(FRAME))
            func(s)
            if "u1" in s.nets:
                ksft_true("i1" not in devices(s.u1), "the device is left")
            tap.check_dead()
            if "u1" in s.nets and "a" in s.nets:
                # A new one of that name has nothing to do with it
                if "low" not in devices(s.a):
                    s.revive("p")
                    s.add()
                else:
                    ksft_eq(strerror(s.new_upper("u1", "i1")), "success")
                with Tap(s.u1, "i1") as other:
                    ksft_eq(other.name(), b"i1")
                with ksft_raises(OSError):
                    tap.name()
            if "a" in s.nets and "low" in devices(s.a):
                ip("link del low", ns=s.a)
            s.check_left()


def race_tap():
    """ A file is opened and closed while its device dies """
    with races(SOME[1], True) as race:
        s = race.s
        for _ in range(RACES):
            s.add()
            with Tap(s.u1, "i1") as tap:
                race.run(lambda: s.rtnl["a"].delete("low"),
                         lambda tap=tap: _open_many(tap), ["ENODEV"])
                tap.check_dead()
            s.check_gone(**s.all())


def _open_many(tap):
    for _ in range(50):
        try:
            with tap.open() as file:
                file.write(FRAME)
        except OSError as err:
            return err.errno
    return 0


def allmulti():
    """
    A packet socket asks an upper for all multicast packets, which the upper
    asks of low. When both go, low must not change after it is gone.
    """
    with Pool() as pool:
        for home in ("a", "u1"):
            s = Setup(pool, Flavour("ipvlan", "l2"), True)
            s.add()
            with NetNSEnter(s.nets[home]):
                sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
            with sock:
                index = ifindex(s.nets[home], s.uppers()[home])
                sock.setsockopt(SOL_PACKET, PACKET_ADD_MEMBERSHIP, struct.pack(
                    "=iHH8x", index, PACKET_MR_ALLMULTI, 0))
                s.monitors["a"].events()
                ip("link del low", ns=s.a)
                events = s.monitors["a"].events()
                ksft_eq([kind for kind, name in events if name == "low"][-1],
                        RTM_DELLINK, "the last notification for low")
            s.deleted()
            s.check_left()


def _rmmod(module):
    return subprocess.run(["rmmod", module], check=False,
                          capture_output=True).returncode


@ksft_disruptive
def rmmod():
    """ The modules are unloaded, with devices in many namespaces """
    require_modules(*KINDS)
    for kind in KINDS:
        with Pool() as pool:
            require_modules(*KINDS)
            s = Setup(pool, best_mode(kind), True)
            s.add()
            if kind == "ipvtap":
                with Tap(s.u1, "i1"):
                    ksft_true(_rmmod("ipvtap") != 0, "a file is open")
                    s.check_left(**s.all())
                # ipvtap uses ipvlan
                ksft_true(_rmmod("ipvlan") != 0, "ipvlan is in use")
            else:
                ksft_eq(_rmmod("ipvtap"), 0, "rmmod ipvtap")
                s.check_left("without ipvtap", **s.all())
            ksft_eq(_rmmod(kind), 0, f"rmmod {kind}")
            left = {"a": ["low"], "p": ["p0"]}
            s.check_left(**left)
            gone = {home: [dev] for home, dev in s.uppers().items()}
            s.check_deleted(**gone)
            ip("link del low", ns=s.a)
            s.check_gone(**left)
            require_modules(*KINDS)
            s.check_free()


@ksft_variants([KsftNamedVariant(kind, kind) for kind in KINDS])
@ksft_disruptive
def race_rmmod(kind):
    """ A module is unloaded while low is deleted or its netns dies """
    require_modules(*KINDS)
    with Pool() as pool:
        s = Setup(pool, best_mode(kind))
        for num in range(max(RACES // 2, 2)):
            require_modules(*KINDS)
            if kind == "ipvlan":
                ksft_eq(_rmmod("ipvtap"), 0, "rmmod ipvtap")
            s.add()
            if num % 2:
                err, status = at_once(lambda: s.rtnl["p"].delete("p0"),
                                      lambda: _rmmod(kind))
                ksft_eq(strerror(err), "success")
            else:
                status, = while_dying(s.hold("a", "u1"),
                                      lambda: _rmmod(kind))
            ksft_eq(status, 0, f"rmmod {kind}")
            for name in s.nets:
                if name.startswith("u"):
                    ksft_true(s.uppers()[name] not in devices(s.nets[name]),
                              "an upper is left")
            pool.wait_freed()
            s.check_gone(**s.all())
            s.revive("a", "u1")
        require_modules(*KINDS)
        s.check_free()


def main():
    """ All of the above """
    ksft_run([delete_lower, delete_upper, macvlan, netns_death,
              netns_death_one_by_one, move_lower, move_upper, traffic,
              mode_change, address_reuse, stacked, newlink_fails,
              bareudp_over_ipvlan, race_both_ends, race_three, race_mode,
              race_move, race_newlink, race_delete_and_death, tap_open,
              race_tap, allmulti, rmmod, race_rmmod])
    ksft_exit()


if __name__ == "__main__":
    main()
