#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0

"""
Add and delete IP tunnels by ioctl, in the first netns and after a move.

       A               B
   +---------+     +---------+     The tunnel is made in A, and stays in the
   |  tunl0  |     |   t0    |     table of A wherever it lives. The ioctls are
   +----:----+     +----:----+     called on the fallback device of A, such as
        :...............:          tunl0, or on the tunnel itself.

When SIOCDELTUNNEL returns, the tunnel is gone, its namespace has got the
notification, and its name and addresses are free: none of these checks waits.

Environment: ROUNDS of creations and deletions with the same name and addresses,
RACES of two processes
"""

import collections
import contextlib
import ctypes
import fcntl
import itertools
import os
import socket
import struct
import subprocess

from lib.py import KsftNamedVariant, KsftSkipEx, NetNSEnter, ip, ksft_eq, \
    ksft_exit, ksft_in, ksft_pr, ksft_run, ksft_variants
from rtnl_net_lib import Nets, NetnsFd, Pool, at_once, devices, pr_outcomes, \
    strerror, while_dying

ROUNDS = int(os.environ.get("ROUNDS", "20"))
RACES = int(os.environ.get("RACES", "6"))

SIOCGETTUNNEL = 0x89f0
SIOCADDTUNNEL = 0x89f1
SIOCDELTUNNEL = 0x89f2
SIOCCHGTUNNEL = 0x89f3

DEV = "t0"


def _parm4(proto, name, addr):
    """ struct ip_tunnel_parm """
    iph = b""
    if addr:
        iph = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 0, 0, 0, 64, proto, 0,
                          socket.inet_aton("192.0.2.1"),
                          socket.inet_aton(f"192.0.2.{addr}"))
    return struct.pack("16sihhii20s", name.encode(), 0, 0, 0, 0, 0, iph)


def _parm6(proto, name, addr):
    """ struct ip6_tnl_parm2, which begins like struct ip6_tnl_parm """
    addrs = b"", b""
    if addr:
        addrs = [socket.inet_pton(socket.AF_INET6, f"2001:db8::{num}")
                 for num in (1, addr)]
    return struct.pack("16siBBBxII16s16shhii", name.encode(), 0, proto, 0, 64,
                       0, 0, *addrs, 0, 0, 0, 0)


# add_home: where a tunnel appears that SIOCADDTUNNEL makes when it is called on
# one that has moved
Kind = collections.namedtuple("Kind", "module fallback parm proto add_home")
KINDS = {
    "ipip": Kind("ipip", "tunl0", _parm4, socket.IPPROTO_IPIP, "a"),
    "gre": Kind("ip_gre", "gre0", _parm4, socket.IPPROTO_GRE, "a"),
    "vti": Kind("ip_vti", "ip_vti0", _parm4, socket.IPPROTO_IPIP, "a"),
    "sit": Kind("sit", "sit0", _parm4, socket.IPPROTO_IPV6, "a"),
    "ip6tnl": Kind("ip6_tunnel", "ip6tnl0", _parm6, socket.IPPROTO_IPV6, "a"),
    "ip6gre": Kind("ip6_gre", "ip6gre0", _parm6, socket.IPPROTO_GRE, "a"),
    "vti6": Kind("ip6_vti", "ip6_vti0", _parm6, socket.IPPROTO_IPV6, "b"),
}


class Setup(Nets):
    """ The namespaces, with what listens in them """

    def __init__(self, pool, kind):
        super().__init__(pool, "a", "b")
        self.kind = KINDS[kind]
        if self.kind.fallback not in devices(self.a):
            raise KsftSkipEx(f"no {self.kind.fallback} here")

    def ioctl(self, cmd, dev=None, netns=None, name="", addr=2):
        """ On the fallback device in A, by default. Returns the error. """
        parm = ctypes.create_string_buffer(
            self.kind.parm(self.kind.proto, name, addr))
        ifreq = struct.pack("16sP16x", (dev or self.kind.fallback).encode(),
                            ctypes.addressof(parm))
        try:
            with NetNSEnter(netns or self.a), \
                 socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                fcntl.ioctl(sock, cmd, ifreq)
        except OSError as err:
            return err.errno
        return 0

    def add(self, home="a", up=False):
        """ Make the tunnel, and move it """
        ksft_eq(strerror(self.ioctl(SIOCADDTUNNEL, name=DEV)), "success",
                "SIOCADDTUNNEL")
        if home != "a":
            ip(f"link set {DEV} netns {self.nets[home]}", ns=self.a)
        if up:
            ip(f"link set {DEV} up", ns=self.nets[home])
        self.deleted()

    def delete_by(self, caller):
        """ Returns the error number """
        if caller == "fallback":
            return self.ioctl(SIOCDELTUNNEL)
        return self.ioctl(SIOCDELTUNNEL, DEV, self.nets[caller])

    def race(self, home, caller, other):
        """ The ioctl while something else is done. Returns both errors. """
        self.add(home)
        return tuple(map(strerror, at_once(lambda: self.delete_by(caller),
                                           other)))

    def check_gone(self, comment="", **announced):
        """ The same, and if A is left, the addresses are free """
        super().check_gone(comment, **announced)
        if "a" in self.nets:
            ksft_eq(strerror(self.ioctl(SIOCDELTUNNEL)), "ENOENT",
                    "the addresses are still in use")


def _variants(*lists):
    """ Each kind with each combination of what is in these lists """
    return ksft_variants([
        KsftNamedVariant("_".join(map(str, args)), *args)
        for args in itertools.product(KINDS, *lists)])


@_variants()
def delete(kind):
    """ The tunnel is gone when the ioctl returns """
    with Pool() as pool:
        s = Setup(pool, kind)
        for home, by_itself, up in itertools.product("ab", (False, True),
                                                     (False, True)):
            s.add(home, up)
            s.check_left(**{home: [DEV]})
            err = s.delete_by(home if by_itself else "fallback")
            ksft_eq(strerror(err), "success")
            s.check_gone(**{home: [DEV]})
        # The fallback device has addresses, too
        ksft_eq(strerror(s.ioctl(SIOCDELTUNNEL, addr=0)), "EPERM")
        ksft_in(s.kind.fallback, devices(s.a))


@_variants()
def again(kind):
    """ Name and addresses are free at once """
    with Pool() as pool:
        s = Setup(pool, kind)
        for num in range(ROUNDS):
            s.add("ab"[num % 2])
            ksft_eq(strerror(s.delete_by("fallback")), "success")
        s.deleted()
        s.check_gone()


@_variants()
def change_moved(kind):
    """ A tunnel that has moved gets other addresses, and is found by these """
    with Pool() as pool:
        s = Setup(pool, kind)
        s.add("b")
        ksft_eq(strerror(s.ioctl(SIOCGETTUNNEL)), "success")
        ksft_eq(strerror(s.ioctl(SIOCADDTUNNEL, name="t1", addr=3)), "success")
        err = s.ioctl(SIOCCHGTUNNEL, DEV, s.b, DEV, addr=3)
        ksft_eq(strerror(err), "EEXIST")
        err = s.ioctl(SIOCCHGTUNNEL, DEV, s.b, DEV, addr=4)
        ksft_eq(strerror(err), "success")
        ksft_eq(strerror(s.ioctl(SIOCDELTUNNEL)), "ENOENT")
        ksft_eq(strerror(s.ioctl(SIOCDELTUNNEL, addr=4)), "success")
        ksft_eq(strerror(s.ioctl(SIOCDELTUNNEL, addr=3)), "success")
        s.check_gone(a=["t1"], b=[DEV])


@_variants()
def add_by_moved(kind):
    """ A tunnel that has moved makes another one """
    with Pool() as pool:
        s = Setup(pool, kind)
        s.add("b")
        err = s.ioctl(SIOCADDTUNNEL, DEV, s.b, "t1", addr=3)
        ksft_eq(strerror(err), "success")
        home = s.kind.add_home
        ksft_in("t1", devices(s.nets[home]))
        err = s.ioctl(SIOCDELTUNNEL, netns=s.nets[home], addr=3)
        ksft_eq(strerror(err), "success")
        ksft_eq(strerror(s.delete_by("fallback")), "success")
        s.check_gone(**{"b": [DEV], home: sorted(["t1"] + [DEV] *
                                                 (home == "b"))})


@_variants()
def race_dellink(kind):
    """ The ioctl while the tunnel is deleted in its own namespace """
    with Pool() as pool:
        s = Setup(pool, kind)
        first = 0
        for num in range(RACES):
            caller = ("fallback", "b")[num % 2]
            errs = s.race("b", caller, lambda: s.rtnl["b"].delete(DEV))
            ksft_in(errs, [
                ("success", "ENODEV"),
                ("ENOENT" if caller == "fallback" else "ENODEV", "success")])
            first += errs[0] == "success"
            s.check_gone(b=[DEV])
        ksft_pr(f"the ioctl was first in {first} of {RACES} rounds")


@_variants()
def race_move(kind):
    """ The ioctl while the tunnel moves """
    with Pool() as pool:
        s = Setup(pool, kind)
        late = 0
        with NetnsFd(s.b) as fd:
            for _ in range(RACES):
                err, err_move = s.race("a", "fallback",
                                       lambda: s.rtnl["a"].move(DEV, fd))
                ksft_eq(err, "success")
                ksft_in(err_move, ["success", "ENODEV"])
                moved = err_move == "success"
                late += moved
                # A move says so in the old namespace, too
                s.check_gone(a=[DEV], b=[DEV] if moved else [])
        ksft_pr(f"it had moved in {late} of {RACES} rounds")


@_variants(["a", "b"])
def race_death(kind, dies):
    """ The ioctl on a tunnel that has moved, while the other netns dies """
    with Pool() as pool:
        s = Setup(pool, kind)
        outcomes = []
        for _ in range(RACES):
            s.add("b")
            err, = while_dying(s.hold(dies), lambda: s.delete_by(
                "b" if dies == "a" else "fallback"))
            outcomes.append(strerror(err))
            ksft_in(strerror(err), ["success", "ENOENT", "ENODEV"])
            pool.wait_freed()
            s.check_gone(b=[DEV])
            s.revive(dies)
        pr_outcomes(outcomes)


@_variants()
def add_to_dying(kind):
    """ A tunnel that has moved adds others while the first netns dies """
    with Pool() as pool:
        s = Setup(pool, kind)
        if s.kind.add_home != "a":
            raise KsftSkipEx(f"{kind} adds tunnels where the device is")
        outcomes = []
        for _ in range(RACES):
            s.add("b")
            s.hold("a").close()
            # As long as the tunnel is there, A is not dismantled
            for num in range(250):
                err = s.ioctl(SIOCADDTUNNEL, DEV, s.b, addr=3 + num)
                if s.ioctl(SIOCGETTUNNEL, DEV, s.b):
                    break
                outcomes.append(strerror(err))
                # Without per-netns unregistration, it is added and dies
                ksft_in(strerror(err), ["success", "ENODEV"])
            pool.wait_freed()
            s.check_gone(b=[DEV])
            s.revive("a")
        pr_outcomes(outcomes)


@contextlib.contextmanager
def fallback_devices():
    """ Have fallback devices in new namespaces """
    # Not in this one, unless they are wanted there: load the modules first
    for kind in KINDS.values():
        subprocess.run(["modprobe", "-q", kind.module], check=False)

    path = "/proc/sys/net/core/fb_tunnels_only_for_init_net"
    with open(path, encoding="ascii") as file:
        before = file.read()

    def write(value):
        with open(path, "w", encoding="ascii") as file:
            file.write(value)

    write("0")
    try:
        yield
    finally:
        write(before)


def main():
    """ All of the above """
    with fallback_devices():
        ksft_run([delete, again, change_moved, add_by_moved, race_dellink,
                  race_move, race_death, add_to_dying])
    ksft_exit()


if __name__ == "__main__":
    main()
