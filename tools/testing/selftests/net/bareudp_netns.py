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

The device is not seen in A, but is unregistered when A dies. Each port of A can
have one device, whether that is up and has its socket or not. When the command
returns, the device is gone, its namespace has its RTM_DELLINK, and its name and
its port are free: none of these checks waits. Only the death of a namespace is
waited for, as "ip netns del" returns before it.

Environment: ROUNDS of deletions and creations with the same name and port,
RACES of two processes
"""

import itertools
import os
import random
import socket
import subprocess

from lib.py import KsftNamedVariant, NetNSEnter, ip, ksft_disruptive, ksft_eq, \
    ksft_exit, ksft_in, ksft_pr, ksft_run, ksft_variants
from rtnl_net_lib import IFLA_IFNAME, IFLA_LINK_NETNSID, IFLA_TARGET_NETNSID, \
    Nets, NetnsFd, Pool, RTM_NEWLINK, WAIT_TIMEOUT, at_once, bareudp_data, \
    devices, encap_route, ifindex, ip_fails, pr_outcomes, require_modules, \
    strerror, udp_in_ip, while_dying

ROUNDS = int(os.environ.get("ROUNDS", "300"))
RACES = int(os.environ.get("RACES", "6"))
NETNSID = {"a": 100, "b": 200, "c": 300}

PORT = 6635


class Setup(Nets):
    """ The namespaces, with what listens in them """

    def __init__(self, pool, home="b", up=False):
        super().__init__(pool, "a", "b", "c", "z")
        self.home = home
        self.up = up

    def at(self):
        """ The namespace of the device """
        return self.nets[self.home]

    def add(self, dev="bu0", port=PORT):
        """ Make the device. Fails if the name or the port is in use. """
        ip(f"link add {dev} netns {self.at()} type bareudp dstport {port} "
           "ethertype ip", ns=self.a)
        if self.up:
            ip(f"addr add 198.51.100.1/24 dev {dev}", ns=self.at())
            ip(f"link set {dev} up", ns=self.at())

    def add_err(self, netns, dev="bu0", rtnl=None):
        """ The same, over a socket in A. Returns the error number. """
        with NetnsFd(netns) as fd:
            return (rtnl or self.rtnl["a"]).add(dev, "bareudp", fd,
                                                bareudp_data(PORT))

    def check_free(self):
        """ The same device can be made and deleted again, at once """
        self.add()
        ksft_in("bu0", devices(self.at()))
        ip("link del bu0", ns=self.at())
        self.check_left("after the second device")


def _del_name(s):
    ip("link del bu0", ns=s.at())


def _del_index(s):
    err = s.rtnl[s.home].delete_index(ifindex(s.at(), "bu0"))
    ksft_eq(strerror(err), "success")


def _del_altname(s):
    ip("link property add bu0 altname the-other-name-of-bu0", ns=s.at())
    ip("link del the-other-name-of-bu0", ns=s.at())


def _del_group(s):
    ip("link set bu0 group 7", ns=s.at())
    ip("link del group 7", ns=s.at())


def _del_target_netnsid(s):
    s.introduce("z", s.home, NETNSID[s.home])
    err = s.rtnl["z"].delete("bu0", NETNSID[s.home])
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
        s.introduce("b", "a", NETNSID["a"])
        for up in ("", "up"):
            ip(f"link add bu0 {up} netns {s.b} link-netnsid {NETNSID['a']} "
               f"type bareudp dstport {PORT} ethertype ip", ns=s.z)
            s.check_left(b=["bu0"])
            # The port is one of A, not of Z
            ksft_eq(strerror(s.add_err(s.c, "other")), "EBUSY")
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
        s.add()
        s.deleted()
        s.kill(*dies)
        s.check_gone(**{home: ["bu0"]})
        s.revive(*dies)
        s.check_free()


def _kill(*which):
    def func(s, home):
        s.kill(*{home if name == "home" else name for name in which})
    return func


def _delete(s, home):
    ip("link del bu0", ns=s.nets[home])


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
    """ The device is moved, once or more, and then it or a namespace dies """
    with Pool() as pool:
        s = Setup(pool, "b", up)
        s.add()
        home = "b"
        for name in path:
            ip(f"link set bu0 netns {s.nets[name]}", ns=s.nets[home])
            home = name
            s.check_left(**{home: ["bu0"]})
            if up:
                # It goes down when moved, and with it the socket
                ip("link set bu0 up", ns=s.nets[home])
        s.deleted()
        func(s, home)
        if func is not _delete and {"a", home} <= set(s.nets):
            s.check_left("after a death", **{home: ["bu0"]})
            ip("link del bu0", ns=s.nets[home])
        s.check_gone(**{home: ["bu0"]})
        s.revive(*"abc")
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
        s = Nets(pool, *"s01234")
        for num in range(18):
            name = list(s.nets)[num % 6]
            with NetnsFd(s.nets[name]) as fd:
                err = s.rtnl["s"].add(f"dev{num}", "bareudp", fd,
                                      bareudp_data(PORT + num))
            ksft_eq(strerror(err), "success", f"device {num}")
            if num % 3:
                ip(f"link set dev{num} up", ns=s.nets[name])
        devs = {name: sorted(f"dev{num}" for num in range(pos, 18, 6))
                for pos, name in enumerate(s.nets)}
        s.check_left(**devs)
        s.deleted()
        s.kill(*which)
        if "s" in which:
            s.check_gone(**devs)
        else:
            s.check_left(**{name: devs[name] for name in s.nets})
            s.check_deleted()


def race_ports():
    """ Two processes make devices of the same port: one of them succeeds """
    with Pool() as pool:
        s = Setup(pool)
        # From a socket that the two share, an answer could go astray
        other = pool.rtnl(s.a)
        first = 0
        for _ in range(RACES):
            s.deleted()
            errs = at_once(lambda: s.add_err(s.b),
                           lambda: s.add_err(s.c, rtnl=other))
            ksft_eq(sorted(map(strerror, errs)), ["EBUSY", "success"])
            home = "b" if errs[0] == 0 else "c"
            first += home == "b"
            s.check_left(**{home: ["bu0"]})
            ip("link del bu0", ns=s.nets[home])
            s.check_gone(**{home: ["bu0"]})
        ksft_pr(f"the first one won {first} of {RACES} rounds")
        s.check_free()


def race_port_reuse():
    """ A device is made while the one that has the port is deleted """
    with Pool() as pool:
        s = Setup(pool)
        late = 0
        for _ in range(RACES):
            s.add()
            s.deleted()
            err_del, err_add = at_once(
                lambda: s.rtnl["b"].delete("bu0"), lambda: s.add_err(s.c))
            ksft_eq(strerror(err_del), "success")
            ksft_in(strerror(err_add), ["success", "EBUSY"])
            s.check_deleted(b=["bu0"])
            late += not err_add
            if err_add:
                # Now that the other one is gone, nothing is in the way
                ksft_eq(strerror(s.add_err(s.c)), "success")
            s.check_left(c=["bu0"])
            ksft_eq(strerror(s.rtnl["c"].delete("bu0")), "success")
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
        outcomes = []
        for _ in range(RACES):
            s.introduce("z", "b", NETNSID["b"])
            s.add()
            s.deleted()
            err, = while_dying(
                s.hold(*dies),
                lambda: s.rtnl["z"].delete("bu0", NETNSID["b"]))
            outcomes.append(strerror(err))
            # EINVAL: the netnsid leads nowhere any more
            ksft_in(strerror(err), ["success", "ENODEV",
                                    *["EINVAL"] * ("b" in dies)])
            # Either way it is gone, and announced once
            s.check_gone(b=["bu0"])
            pool.wait_freed()
            s.revive(*dies)
        pr_outcomes(outcomes)
        s.check_free()


@ksft_variants([
    # Which namespace dies, where the device moves to, what may come of it
    KsftNamedVariant("socket", "a", "c", ["success", "ENODEV"]),
    KsftNamedVariant("target", "c", "c", ["success", "EINVAL"]),
    KsftNamedVariant("socket_is_target", "a", "a",
                     ["success", "ENODEV", "EINVAL"]),
])
def race_move_and_death(dies, target, allowed):
    """ The device moves while a namespace dies """
    with Pool() as pool:
        s = Setup(pool)
        outcomes = []
        for _ in range(RACES):
            s.introduce("b", target, NETNSID[target])
            s.add()
            s.deleted()
            err, = while_dying(
                s.hold(dies), lambda: s.rtnl["b"].request(
                    RTM_NEWLINK, 0, (IFLA_IFNAME, "bu0"),
                    (IFLA_TARGET_NETNSID, NETNSID[target])))
            outcomes.append(strerror(err))
            ksft_in(strerror(err), allowed)
            pool.wait_freed()
            if err and dies != "a":
                # It did not move, and its namespace lives
                s.check_left(b=["bu0"])
                ip("link del bu0", ns=s.b)
            # A move is announced as a death in the old namespace
            s.check_gone(b=["bu0"], **{target: [] if err else ["bu0"]})
            s.revive(dies)
        pr_outcomes(outcomes)
        s.check_free()


def race_newlink_and_death():
    """ A device is made while the namespace of its socket dies """
    with Pool() as pool:
        s = Setup(pool)
        outcomes = []
        for _ in range(RACES):
            s.introduce("b", "a", NETNSID["a"])
            s.deleted()
            with NetnsFd(s.b) as fd:
                err, = while_dying(s.hold("a"), lambda: s.rtnl["z"].add(
                    "bu0", "bareudp", fd, bareudp_data(PORT),
                    attrs=[(IFLA_LINK_NETNSID, NETNSID["a"])]))
            outcomes.append(strerror(err))
            ksft_in(strerror(err), ["success", "EINVAL"])
            pool.wait_freed()
            s.check_gone(b=[] if err else ["bu0"])
            s.revive("a")
        pr_outcomes(outcomes)
        s.check_free()


def _name_taken(s):
    ip("link add bu0 type dummy", ns=s.b)
    return lambda: ip("link del bu0", ns=s.b)


def _port_taken(s):
    ksft_eq(strerror(s.add_err(s.c, "other")), "success")
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
            ip_fails(f"-n {s.a} link add bu0 {option} netns {s.b} type "
                     f"bareudp dstport {PORT} {kind_option or 'ethertype ip'}",
                     message)
            ksft_eq(pool.extra(), before, "devices are left")
            if prepare in (None, _name_taken):
                # Neither the name nor the port of what failed is in use
                s.add("another")
                ip("link del another", ns=s.b)
        undo()
        s.check_free()


class Route:
    """
    A device whose packets come and go over a veth pair between A and D
    """

    def __init__(self, s):
        self.s = s
        s.revive("d")
        ip(f"link add a0 type veth peer d0 netns {s.d}", ns=s.a)
        for netns, dev, addr in ((s.a, "a0", "192.0.2.1/24"),
                                 (s.d, "d0", "192.0.2.2/24")):
            ip(f"addr add {addr} dev {dev}", ns=netns)
            ip(f"link set {dev} up", ns=netns)
        s.add()
        # Its cached dst is one of A, and has a reference on a0
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
        """ Send a packet that may get lost """
        if self.encap:
            self.sock.sendto(b"small", ("203.0.113.1", PORT))

    def check(self):
        """ What is sent arrives, to and from D """
        packet = udp_in_ip("203.0.113.1", "198.51.100.1", PORT, b"small")
        with self._socket(self.s.d) as sock:
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


def _kill_of(*which):
    def func(route):
        if "b" in which:
            route.close()
        route.s.kill(*which)
    return func


@ksft_variants([
    KsftNamedVariant("other_end_deleted",
                     lambda route: ip("link del d0", ns=route.s.d), True),
    KsftNamedVariant("end_deleted",
                     lambda route: ip("link del a0", ns=route.s.a), True),
    KsftNamedVariant("netns_of_other_end", _kill_of("d"), True),
    KsftNamedVariant("netns_of_socket", _kill_of("a"), False),
    KsftNamedVariant("netns_of_socket_and_other_end", _kill_of("a", "d"),
                     False),
    KsftNamedVariant("netns_of_device_and_other_end", _kill_of("b", "d"),
                     False),
])
def route_over_veth(func, stays):
    """ The veth pair dies: the device keeps no reference on it """
    with Pool() as pool:
        s = Setup(pool, "b", True)
        route = Route(s)
        route.check()
        s.deleted()
        func(route)
        if stays:
            s.check_left(b=["bu0"])
            s.check_deleted(a=["a0"], d=["d0"])
            # There is no way any more. That is no error.
            route.send()
            ip("link del bu0", ns=s.b)
            s.check_gone(b=["bu0"])
        else:
            s.check_gone(a=["a0"], b=["bu0"], d=["d0"])
        route.close()


def port_free():
    """ Delete, and make another one with the same name and port """
    with Pool() as pool:
        s = Setup(pool)
        s.ignore()
        rng = random.Random(1)
        for num in range(ROUNDS):
            home = rng.choice("abc")
            err = s.add_err(s.nets[home])
            if not err and num % 4 == 0:
                err = s.rtnl[home].set_up("bu0")
            if not err:
                err = s.rtnl[home].delete("bu0")
            if err:
                break
        ksft_eq(strerror(err), "success", f"in round {num}")
        s.check_gone()


@ksft_disruptive
def rmmod():
    """ The module is unloaded, with devices in many namespaces """
    require_modules("bareudp")
    with Pool() as pool:
        s = Nets(pool, *(f"m{num}" for num in range(6)))
        names = list(s.nets.values())
        for num, name in enumerate(names):
            ip(f"link add next netns {names[num - 1]} type bareudp "
               f"dstport {PORT} ethertype ip", ns=name)
            ip(f"link add own type bareudp dstport {PORT + 1} ethertype ip",
               ns=name)
            if num % 2:
                ip("link set own up", ns=name)
                ip("link set next up", ns=names[num - 1])
        s.deleted()
        subprocess.run(["rmmod", "bareudp"], check=True)
        s.check_gone(**{name: ["next", "own"] for name in s.nets})
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
    """ The module is unloaded while namespaces die """
    require_modules("bareudp")
    with Pool() as pool:
        for _ in range(max(RACES // 4, 1)):
            s = Nets(pool, "s0", "s1", "s2", "d0", "d1", "d2")
            names = list(s.nets)
            for sockets, devs in zip(names[:3], names[3:]):
                for port in range(PORT, PORT + 3):
                    ip(f"link add dev{port} netns {s.nets[devs]} type bareudp "
                       f"dstport {port} ethertype ip", ns=s.nets[sockets])
            status, = while_dying(
                s.hold(*names[which]),
                lambda: subprocess.run(["rmmod", "bareudp"],
                                       check=False).returncode)
            ksft_eq(status, 0, "rmmod failed")
            s.check_gone(**{name: [f"dev{port}" for port in
                                   range(PORT, PORT + 3)]
                            for name in names[3:]})
            pool.wait_freed()
            s.kill(*s.nets)
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
