#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0

"""
Delete bareudp devices whose socket is in another network namespace, in every
way that there is.

       A               B           C: where the device is moved to
   +---------+     +---------+     Z: where commands come from that concern
   | socket  |     |   bu0   |        only other namespaces; it knows these by
   +----|----+     +----|----+        their netnsids
        +---------------+

The device is not seen in A, but goes when A does. A port is used by one device
for each A, whether it is up and has its socket or not. When the command
returns, the device is gone, its namespace has been told so, and its name and
its port are free: none of these checks waits. Only the death of a namespace is
waited for, as nobody knows when "ip netns del" has its effect.

Environment: ROUNDS of deletions and creations with the same name and port,
RACES of two processes
"""

import itertools
import os
import random
import socket
import subprocess

from lib.py import KsftNamedVariant, NetNSEnter, ip, \
    ksft_disruptive, ksft_eq, ksft_exit, ksft_in, ksft_pr, ksft_run, \
    ksft_true, ksft_variants
from rtnl_net_lib import IFLA_IFNAME, IFLA_INFO_DATA, IFLA_INFO_KIND, \
    IFLA_LINKINFO, IFLA_NET_NS_FD, IFLA_TARGET_NETNSID, NLM_F_CREATE, \
    NLM_F_EXCL, NetnsFd, Pool, RTM_NEWLINK, WAIT_TIMEOUT, at_once, \
    bareudp_data, devices, encap_route, ifindex, require_modules, strerror, \
    udp_in_ip, while_dying

ROUNDS = int(os.environ.get("ROUNDS", "300"))
RACES = int(os.environ.get("RACES", "6"))
NETNSID = {"a": 100, "b": 200, "c": 300}

IFLA_LINK_NETNSID = 37
PORT = 6635


class Setup:
    """ The namespaces, with what listens in them """

    def __init__(self, pool, home="b", up=False):
        self.pool = pool
        self.home = home
        self.up = up
        self.known = set()
        self.z, = pool.add("z")
        self.revive("a", "b", "c")
        self.listen("a", "b", "c")

    def revive(self, *which):
        """ New namespaces, perhaps in place of dead ones """
        for name in which:
            setattr(self, name, self.pool.add(name)[0])

    def introduce(self, where, *which):
        """ Have namespaces known to another one by their netnsids """
        for name in which:
            who = self.at(where), self.at(name)
            if who not in self.known:
                ip(f"netns set {who[1]} {NETNSID[name]}", ns=who[0])
                self.known.add(who)

    def listen(self, *which):
        """ Have notifications of these namespaces collected from now on """
        self.monitors = {name: self.pool.monitor(getattr(self, name))
                         for name in which}

    def at(self, which=None):
        """ The name of the namespace, by default of the device's """
        return getattr(self, which or self.home)

    def add(self, dev="bu0", port=PORT):
        """ Make the device. Fails if the name or the port is in use. """
        ip(f"link add {dev} netns {self.at()} type bareudp dstport {port} "
           "ethertype ip", ns=self.a)
        if self.up:
            ip(f"addr add 198.51.100.1/24 dev {dev}", ns=self.at())
            ip(f"link set {dev} up", ns=self.at())

    def add_err(self, rtnl, dev="bu0", netns=None, port=PORT):
        """ The same over a socket in A, and returns the error number """
        with NetnsFd(netns or self.at()) as fd:
            return rtnl.add(dev, "bareudp", fd, bareudp_data(port))

    def deleted(self):
        """ Devices announced dead, by namespace """
        return {name: monitor.deleted()
                for name, monitor in self.monitors.items()}

    def check_told(self, **announced):
        """ Exactly these were announced dead """
        expected = {name: announced.get(name, []) for name in self.monitors}
        ksft_eq(self.deleted(), expected, "wrong notifications")

    def check_gone(self, **announced):
        """ No device is left, and exactly these were announced dead """
        ksft_eq(self.pool.extra(), {}, "devices are left")
        self.check_told(**announced)

    def check_free(self):
        """ The same device can be made and deleted again, at once """
        self.add()
        ksft_in("bu0", devices(self.at()))
        ip("link del bu0", ns=self.at())
        ksft_eq(self.pool.extra(), {}, "the second device is left")


def _del_name(s):
    ip("link del bu0", ns=s.at())


def _del_index(s):
    rtnl = s.pool.rtnl(s.at())
    err = rtnl.delete_index(ifindex(s.at(), "bu0"))
    ksft_eq(strerror(err), "success")


def _del_altname(s):
    ip("link property add bu0 altname the-other-name-of-bu0", ns=s.at())
    ip("link del the-other-name-of-bu0", ns=s.at())


def _del_group(s):
    ip("link set bu0 group 7", ns=s.at())
    ip("link del group 7", ns=s.at())


def _del_target_netnsid(s):
    s.introduce("z", s.home)
    rtnl = s.pool.rtnl(s.z)
    err = rtnl.delete("bu0", NETNSID[s.home])
    ksft_eq(strerror(err), "success")


HOMES = {"": "b", "_same_netns": "a"}
STATES = {"": False, "_up": True}


@ksft_variants([
    KsftNamedVariant(f"by_{how}{suffix}", func, home)
    for (suffix, home), (how, func) in itertools.product(HOMES.items(), {
        "name": _del_name,
        "index": _del_index,
        "altname": _del_altname,
        "group": _del_group,
        "target_netnsid": _del_target_netnsid,
    }.items())])
def delete(func, home):
    """ One command deletes the device, be it down or up """
    with Pool() as pool:
        s = Setup(pool, home)
        for s.up in (False, True):
            s.add()
            s.deleted()
            func(s)
            s.check_gone(**{home: ["bu0"]})
        s.check_free()


def made_from_elsewhere():
    """ Neither the device nor its socket is where the command comes from """
    with Pool() as pool:
        s = Setup(pool)
        # The id is one of those that B knows
        s.introduce("b", "a")
        for up in ("", "up"):
            ip(f"link add bu0 {up} netns {s.b} link-netnsid {NETNSID['a']} "
               f"type bareudp dstport {PORT} ethertype ip", ns=s.z)
            ksft_eq(pool.extra(), {s.b: ["bu0"]}, "it is not in B")
            # The port is one of A, not of Z
            rtnl = pool.rtnl(s.a)
            ksft_eq(strerror(s.add_err(rtnl, "other", s.c)), "EBUSY")
            s.deleted()
            ip("link del bu0", ns=s.b)
            s.check_gone(b=["bu0"])
        s.check_free()


@ksft_variants([
    KsftNamedVariant(f"{name}{state}", home, dies, up)
    for (state, up), (name, home, dies) in itertools.product(
        STATES.items(), [
            ("of_socket", "b", "a"),
            ("of_device", "b", "b"),
            ("of_both", "b", "ab"),
            ("of_both_in_one", "a", "a"),
        ]) if not up or dies == "a"])
def netns_death(home, dies, up):
    """ The device is gone, and its name and port are free where they can be """
    with Pool() as pool:
        s = Setup(pool, home, up)
        lives = [name for name in "abc" if name not in dies]
        s.listen(*lives)
        s.add()
        s.deleted()
        pool.kill(*map(s.at, dies))
        pool.wait_freed()
        s.check_gone(**({home: ["bu0"]} if home in lives else {}))
        s.revive(*dies)
        s.check_free()


def _kill(*which):
    def func(s, home):
        dies = {home if name == "home" else name for name in which}
        s.pool.kill(*map(s.at, sorted(dies)))
        s.pool.wait_freed()
        return dies
    return func


def _delete(s, home):
    ip("link del bu0", ns=s.at(home))
    return set()


MOVES = {"to_c": "c", "to_socket": "a", "there_and_back": "cb",
         "to_all": "acac"}


@ksft_variants([
    KsftNamedVariant(f"{name}_{how}", path, func, up)
    for (name, path), (how, func, up) in itertools.product(
        MOVES.items(), [
            ("delete", _delete, True),
            ("kill_socket", _kill("a"), True),
            ("kill_device", _kill("home"), False),
            ("kill_first", _kill("b"), False),
            ("kill_all", _kill("a", "b", "c"), True),
        ])
    if path in ("c", "a") or how in ("delete", "kill_socket")])
def move(path, func, up):
    """ The device is moved, once or more, and then somebody dies """
    with Pool() as pool:
        s = Setup(pool, "b", up)
        s.listen()
        s.add()
        home = "b"
        for name in path:
            ip(f"link set bu0 netns {s.at(name)}", ns=s.at(home))
            home = name
            ksft_eq(pool.extra(), {s.at(home): ["bu0"]}, "wrong devices")
            if up:
                # It goes down when moved, and with it the socket
                ip("link set bu0 up", ns=s.at(home))
        monitors = {name: pool.monitor(s.at(name)) for name in "abc"}
        dead = func(s, home)
        if func is not _delete and not dead & {"a", home}:
            ksft_eq(pool.extra(), {s.at(home): ["bu0"]}, "it had to stay")
            ip("link del bu0", ns=s.at(home))
        ksft_eq(pool.extra(), {}, "devices are left")
        for name in set("abc") - dead:
            ksft_eq(monitors[name].deleted(), ["bu0"] * (name == home),
                    f"wrong notifications in {name.upper()}")
        s.revive(*sorted(dead))
        s.check_free()


@ksft_variants([
    # Which namespaces die
    KsftNamedVariant("socket", "s"),
    KsftNamedVariant("socket_and_some", "s024"),
    KsftNamedVariant("some", "024"),
    KsftNamedVariant("all", "s01234"),
])
def many_devices(which):
    """ Devices in several namespaces have their sockets in one """
    with Pool() as pool:
        nets = dict(zip("s01234", pool.add(*["n"] * 6)))
        rtnl = pool.rtnl(nets["s"])
        for num in range(18):
            netns = list(nets.values())[num % 6]
            with NetnsFd(netns) as fd:
                err = rtnl.add(f"dev{num}", "bareudp", fd,
                               bareudp_data(PORT + num))
            ksft_eq(strerror(err), "success", f"device {num}")
            if num % 3:
                ip(f"link set dev{num} up", ns=netns)
        devs = {netns: [f"dev{num}" for num in range(pos, 18, 6)]
                for pos, netns in enumerate(nets.values())}
        ksft_eq(pool.extra(), {netns: sorted(names)
                               for netns, names in devs.items()},
                "not all devices are there")
        monitors = {netns: pool.monitor(netns)
                    for name, netns in nets.items() if name not in which}
        pool.kill(*(nets[name] for name in which))
        pool.wait_freed()

        dead = "s" in which
        ksft_eq(pool.extra(),
                {} if dead else {netns: sorted(devs[netns])
                                 for netns in monitors},
                "wrong devices are left")
        for netns, monitor in monitors.items():
            ksft_eq(monitor.deleted(), sorted(devs[netns]) if dead else [],
                    "wrong notifications")


def race_ports():
    """ Two processes make devices of the same port: one of them succeeds """
    with Pool() as pool:
        s = Setup(pool)
        # From a socket that the two share, an answer could go astray
        rtnl = [pool.rtnl(s.a) for _ in range(2)]
        first = 0
        for _ in range(RACES):
            s.deleted()
            errs = at_once(lambda: s.add_err(rtnl[0], "bu0", s.b),
                           lambda: s.add_err(rtnl[1], "bu0", s.c))
            ksft_eq(sorted(map(strerror, errs)), ["EBUSY", "success"])
            home = "b" if errs[0] == 0 else "c"
            first += home == "b"
            ksft_eq(pool.extra(), {s.at(home): ["bu0"]}, "wrong devices")
            ip("link del bu0", ns=s.at(home))
            s.check_gone(**{home: ["bu0"]})
        ksft_pr(f"the first one won {first} of {RACES} rounds")
        s.check_free()


def race_port_reuse():
    """ A device is made while the one that has the port is deleted """
    with Pool() as pool:
        s = Setup(pool)
        rtnl_a, rtnl_b, rtnl_c = map(pool.rtnl, (s.a, s.b, s.c))
        late = 0
        for _ in range(RACES):
            s.add()
            s.deleted()
            err_del, err_add = at_once(
                lambda: rtnl_b.delete("bu0"),
                lambda: s.add_err(rtnl_a, "bu0", s.c))
            ksft_eq(strerror(err_del), "success")
            ksft_in(strerror(err_add), ["success", "EBUSY"])
            s.check_told(b=["bu0"])
            late += not err_add
            if err_add:
                # Now that the other one is gone, nothing is in the way
                ksft_eq(strerror(s.add_err(rtnl_a, "bu0", s.c)), "success")
            ksft_eq(pool.extra(), {s.c: ["bu0"]}, "wrong devices")
            ksft_eq(strerror(rtnl_c.delete("bu0")), "success")
            s.check_gone(c=["bu0"])
        ksft_pr(f"the port was free in {late} of {RACES} rounds")
        s.check_free()


@ksft_variants([
    KsftNamedVariant(f"{name}{state}", dies, up)
    for (state, up), (name, dies) in itertools.product(STATES.items(), [
        ("socket", "a"),
        ("device", "b"),
        ("both", "ab"),
    ]) if not up or dies == "a"])
def race_delete_and_death(dies, up):
    """ The device is deleted while namespaces die. It dies only once. """
    with Pool() as pool:
        s = Setup(pool, "b", up)
        s.listen(*sorted({"b"} - set(dies)))
        rtnl = pool.rtnl(s.z)
        outcomes = []
        for _ in range(RACES):
            s.introduce("z", "b")
            s.add()
            s.deleted()
            err, = while_dying(pool.hold(*map(s.at, dies)),
                               lambda: rtnl.delete("bu0", NETNSID["b"]))
            outcomes.append(strerror(err))
            if "b" in dies:
                # EINVAL: the netnsid leads nowhere any more
                ksft_in(strerror(err), ["success", "ENODEV", "EINVAL"])
                s.check_gone()
            else:
                ksft_in(strerror(err), ["success", "ENODEV"])
                # Whoever it was: gone, told once
                s.check_gone(b=["bu0"])
            pool.wait_freed()
            s.revive(*dies)
        ksft_pr(_count(outcomes))
        s.check_free()


def _count(outcomes):
    return ", ".join(f"{outcomes.count(outcome)} times {outcome}"
                     for outcome in sorted(set(outcomes)))


@ksft_variants([
    # Who dies, where the device moves to, what may come of it
    KsftNamedVariant("socket", "a", "c", ["success", "ENODEV"]),
    KsftNamedVariant("target", "c", "c", ["success", "EINVAL"]),
    KsftNamedVariant("socket_is_target", "a", "a",
                     ["success", "ENODEV", "EINVAL"]),
])
def race_move_and_death(dies, target, allowed):
    """ The device moves while a namespace dies """
    with Pool() as pool:
        s = Setup(pool)
        rtnl = pool.rtnl(s.b)
        s.listen(*sorted({"b", "c"} - {dies}))
        outcomes = []
        for _ in range(RACES):
            s.introduce("b", target)
            s.add()
            s.deleted()
            err, = while_dying(
                pool.hold(s.at(dies)),
                lambda: rtnl.request(RTM_NEWLINK, 0, (IFLA_IFNAME, "bu0"),
                                     (IFLA_TARGET_NETNSID, NETNSID[target])))
            outcomes.append(strerror(err))
            ksft_in(strerror(err), allowed)
            pool.wait_freed()
            if err and dies != "a":
                # It could not move, and nobody killed it
                ksft_eq(pool.extra(), {s.b: ["bu0"]}, "wrong devices")
                ip("link del bu0", ns=s.b)
            # Moving looks like a death to who is left behind
            told = {"b": ["bu0"]}
            if not err and target != dies:
                told[target] = ["bu0"]
            s.check_gone(**told)
            s.revive(dies)
        ksft_pr(_count(outcomes))
        s.check_free()


def race_newlink_and_death():
    """ A device is made while the namespace of its socket dies """
    with Pool() as pool:
        s = Setup(pool)
        rtnl = pool.rtnl(s.z)
        s.listen("b")
        outcomes = []
        for _ in range(RACES):
            s.introduce("b", "a")
            s.deleted()
            with NetnsFd(s.b) as fd:
                err, = while_dying(pool.hold(s.a), lambda: rtnl.request(
                    RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL,
                    (IFLA_IFNAME, "bu0"), (IFLA_NET_NS_FD, fd),
                    (IFLA_LINK_NETNSID, NETNSID["a"]),
                    (IFLA_LINKINFO, [(IFLA_INFO_KIND, "bareudp"),
                                     (IFLA_INFO_DATA, bareudp_data(PORT))])))
            outcomes.append(strerror(err))
            ksft_in(strerror(err), ["success", "EINVAL"])
            pool.wait_freed()
            s.check_gone(b=[] if err else ["bu0"])
            s.revive("a")
        ksft_pr(_count(outcomes))
        s.check_free()


def _name_taken(s):
    ip("link add bu0 type dummy", ns=s.b)
    return lambda: ip("link del bu0", ns=s.b)


def _port_taken(s):
    with NetnsFd(s.c) as fd:
        rtnl = s.pool.rtnl(s.a)
        err = rtnl.add("other", "bareudp", fd, bareudp_data(PORT))
    ksft_eq(strerror(err), "success")
    return lambda: ip("link del other", ns=s.c)


def _port_bound(s):
    with NetNSEnter(s.a):
        sock = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    sock.bind(("::", PORT))
    return sock.close


@ksft_variants([
    # what is in the way, options of the device and of its kind, the error
    KsftNamedVariant("name_taken", _name_taken, "", "", "File exists"),
    KsftNamedVariant("port_taken", _port_taken, "", "",
                     "Another bareudp device using the same port"),
    KsftNamedVariant("bad_mtu", None, "mtu 65536", "", "mtu greater than"),
    KsftNamedVariant("bad_mode", None, "", "ethertype ipv6 multiproto",
                     "Cannot set multiproto mode"),
    # The device is registered when it is found out
    KsftNamedVariant("bad_master", None, "master lo", "", "not supported"),
    KsftNamedVariant("port_bound", _port_bound, "up", "",
                     "Address already in use"),
])
def newlink_fails(prepare, option, kind_option, message):
    """ Nothing is left of a half-built device, and the port is free """
    with Pool() as pool:
        s = Setup(pool)
        undo = prepare(s) if prepare else lambda: None
        before = pool.extra()
        for _ in range(3):
            ret = subprocess.run(
                f"ip -n {s.a} link add bu0 {option} netns {s.b} type bareudp "
                f"dstport {PORT} {kind_option or 'ethertype ip'}", shell=True,
                text=True, check=False, capture_output=True)
            ksft_true(ret.returncode != 0, "the command succeeded")
            ksft_in(message, ret.stderr)
            ksft_eq(pool.extra(), before, "devices are left")
            if prepare in (None, _name_taken):
                # Neither the name nor the port of what failed is in use
                s.add("another")
                ip("link del another", ns=s.b)
        undo()
        s.check_free()


class Route:
    """
    A device whose packets come and go over a veth pair, A's end of it and a
    peer in D.
    """

    def __init__(self, s):
        self.s = s
        self.d, = s.pool.add("d")
        ip(f"link add a0 type veth peer d0 netns {self.d}", ns=s.a)
        for netns, dev, addr in ((s.a, "a0", "192.0.2.1/24"),
                                 (self.d, "d0", "192.0.2.2/24")):
            ip(f"addr add {addr} dev {dev}", ns=netns)
            ip(f"link set {dev} up", ns=netns)
        s.add()
        # With it comes a dst of A that is cached, and a reference on a0
        self.encap = encap_route(s.b, "203.0.113.0/24", "192.0.2.2", "bu0")
        if not self.encap:
            ksft_pr("packets do not go, but only come: no CONFIG_LWTUNNEL")
        self.sock = self._socket(s.b)

    @staticmethod
    def _socket(netns):
        with NetNSEnter(netns):
            sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind(("0.0.0.0", PORT))
        sock.settimeout(WAIT_TIMEOUT)
        return sock

    def send(self):
        """ Send a packet that nobody may get """
        if self.encap:
            self.sock.sendto(b"small", ("203.0.113.1", PORT))

    def check(self):
        """ What is sent arrives, to and from D """
        packet = udp_in_ip("203.0.113.1", "198.51.100.1", PORT, b"small")
        with self._socket(self.d) as sock:
            sock.sendto(packet, ("192.0.2.1", PORT))
            ksft_eq(self.sock.recv(1000), b"small", "that was not sent")
            if self.encap:
                self.send()
                # Addresses and data, as checksums may be left to hardware
                packet = sock.recv(1000)
                ksft_eq((packet[12:20], packet[28:]),
                        (socket.inet_aton("198.51.100.1") +
                         socket.inet_aton("203.0.113.1"), b"small"))

    def close(self):
        """ Let go of B """
        self.sock.close()


def _del_d0(route):
    ip("link del d0", ns=route.d)


def _del_a0(route):
    ip("link del a0", ns=route.s.a)


def _kill_d(route):
    route.s.pool.kill(route.d)


def _kill_a(route):
    route.s.pool.kill(route.s.a)


def _kill_a_and_d(route):
    route.s.pool.kill(route.s.a, route.d)


def _kill_b_and_d(route):
    route.close()
    route.s.pool.kill(route.s.b, route.d)


@ksft_variants([
    KsftNamedVariant("other_end_deleted", _del_d0, True),
    KsftNamedVariant("end_deleted", _del_a0, True),
    KsftNamedVariant("netns_of_other_end", _kill_d, True),
    KsftNamedVariant("netns_of_socket", _kill_a, False),
    KsftNamedVariant("netns_of_socket_and_other_end", _kill_a_and_d, False),
    KsftNamedVariant("netns_of_device_and_other_end", _kill_b_and_d, False),
])
def route_over_veth(func, stays):
    """ What the packets go over dies: it is not held by the device """
    with Pool() as pool:
        s = Setup(pool, "b", True)
        route = Route(s)
        route.check()
        s.deleted()
        func(route)
        pool.wait_freed()
        if stays:
            ksft_eq(pool.extra(), {s.b: ["bu0"]}, "wrong devices")
            s.check_told(a=["a0"])
            # There is no way any more. That is no error.
            route.send()
            ip("link del bu0", ns=s.b)
            s.check_told(b=["bu0"])
        ksft_eq(pool.extra(), {}, "devices are left")
        if func in (_kill_a, _kill_a_and_d):
            ksft_eq(s.monitors["b"].deleted(), ["bu0"], "wrong notifications")
        route.close()


def port_free():
    """ Delete, and make another one with the same name and port """
    with Pool() as pool:
        s = Setup(pool)
        rtnl = {name: pool.rtnl(s.at(name)) for name in "abc"}
        rng = random.Random(1)
        for num in range(ROUNDS):
            home = rng.choice("abc")
            err = s.add_err(rtnl["a"], "bu0", s.at(home))
            if not err and num % 4 == 0:
                err = rtnl[home].set_up("bu0")
            if not err:
                err = rtnl[home].delete("bu0")
            if err:
                break
        ksft_eq(strerror(err), "success", f"in round {num}")
        s.listen()
        s.check_gone()


@ksft_disruptive
def rmmod():
    """ The module goes, and with it devices of many namespaces """
    require_modules("bareudp")
    with Pool() as pool:
        names = pool.add(*["m"] * 6)
        monitors = [pool.monitor(name) for name in names]
        for num, name in enumerate(names):
            ip(f"link add next netns {names[num - 1]} type bareudp "
               f"dstport {PORT} ethertype ip", ns=name)
            ip(f"link add own type bareudp dstport {PORT + 1} ethertype ip",
               ns=name)
            if num % 2:
                ip("link set own up", ns=name)
                ip("link set next up", ns=names[num - 1])
        for monitor in monitors:
            monitor.deleted()
        subprocess.run(["rmmod", "bareudp"], check=True)
        ksft_eq(pool.extra(), {}, "devices are left")
        for monitor in monitors:
            ksft_eq(monitor.deleted(), ["next", "own"], "wrong notifications")
        subprocess.run(["modprobe", "bareudp"], check=True)
        ip(f"link add next netns {names[1]} type bareudp dstport {PORT} "
           "ethertype ip", ns=names[0])
        ip("link del next", ns=names[1])


@ksft_variants([
    KsftNamedVariant("sockets", slice(0, 3)),
    KsftNamedVariant("devices", slice(3, 6)),
    KsftNamedVariant("all", slice(0, 6)),
])
@ksft_disruptive
def race_rmmod_and_death(which):
    """ The module goes while namespaces die """
    require_modules("bareudp")
    with Pool() as pool:
        for _ in range(max(RACES // 4, 1)):
            names = pool.add(*["s"] * 3, *["d"] * 3)
            for sockets, devs in zip(names[:3], names[3:]):
                for port in range(PORT, PORT + 3):
                    ip(f"link add dev{port} netns {devs} type bareudp "
                       f"dstport {port} ethertype ip", ns=sockets)
            monitors = {name: pool.monitor(name) for name in names
                        if name not in names[which]}
            status, = while_dying(
                pool.hold(*names[which]),
                lambda: subprocess.run(["rmmod", "bareudp"],
                                       check=False).returncode)
            ksft_eq(status, 0, "rmmod failed")
            ksft_eq(pool.extra(), {}, "devices are left")
            for name, monitor in monitors.items():
                ksft_eq(monitor.deleted(),
                        [] if name in names[:3] else
                        [f"dev{port}" for port in range(PORT, PORT + 3)],
                        "wrong notifications")
            pool.wait_freed()
            pool.kill(*monitors)
            subprocess.run(["modprobe", "bareudp"], check=True)


def main():
    """ All of the above """
    ksft_run([delete, made_from_elsewhere, netns_death, move, many_devices,
              race_ports, race_port_reuse, race_delete_and_death,
              race_move_and_death, race_newlink_and_death, newlink_fails,
              route_over_veth, port_free, rmmod, race_rmmod_and_death])
    ksft_exit()


if __name__ == "__main__":
    main()
