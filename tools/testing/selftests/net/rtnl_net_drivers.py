#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0

"""
What drivers leave behind when a device of theirs dies, and what it depended on
is in another network namespace. That it dies is for rtnl_net_kinds.py, here:

- what upper devices put into lower ones is taken out: addresses, promiscuity,
  VLAN ids, offloaded macsec, the address of a lower in passthru mode
- sockets that tunnels of several namespaces share, and their ports
- gtp's PDP contexts, rmnet's bridge, files of ppp and tun
"""

import contextlib
import errno
import fcntl
import os
import random
import socket
import stat
import struct
import subprocess
import tempfile
import time

from lib.py import KsftNamedVariant, KsftSkipEx, NetNSEnter, Netlink, \
    NlctrlFamily, cmd, ip, ksft_eq, ksft_exit, ksft_in, ksft_ne, ksft_run, \
    ksft_variants, tool
from rtnl_net_devs import KINDS, make
from rtnl_net_lib import Nets, NetnsFd, Nsim, Pool, busywait, ifindex, nlattr, \
    strerror

GTP_CMD_NEWPDP = 0

IFLA_GENEVE_PORT = 5
IFLA_VXLAN_PORT = 15
IFLA_MACSEC_OFFLOAD = 15
MACSEC_OFFLOAD_MAC = 2
PORT = 7777

PPPIOCNEWUNIT = 0xc004743e
IFLA_PPP_DEV_FD = 1
TUNSETIFF = 0x400454ca
IFF_TAP_NO_PI = 0x1002


class Scene(Nets):
    """ Namespaces with names of one letter, and what listens in them """

    def __init__(self, pool, letters="abc"):
        super().__init__(pool, *letters)

    def revive(self, *names):
        """ The same, without addresses that IPv6 has in mind at any time """
        new = set(names) - set(self.nets)
        super().revive(*names)
        for name in new:
            with NetNSEnter(self.nets[name]), contextlib.suppress(OSError), \
                    open("/proc/sys/net/ipv6/conf/default/disable_ipv6",
                         "w", encoding="ascii") as file:
                file.write("1")

    def ip(self, letter, args):
        """ ip in a namespace """
        return ip(args, ns=self.nets[letter])

    def make(self, key, dev, home, source, num=1, lower=None, data=None):
        """ A device of a kind. Skips if the kernel does not have it. """
        link = ifindex(self.nets[source], lower) if lower else 0
        with NetnsFd(self.nets[home]) as fd:
            if data is None:
                err = make(self.rtnl[source], key, dev, fd, num, link)
            else:
                err = self.rtnl[source].add(dev, KINDS[key].kind, fd, data,
                                            link)
        if strerror(err) == "ENOTSUP":
            raise KsftSkipEx(f"the kernel has no {key}")
        assert not err, f"make {key} {dev}: {strerror(err)}"


@contextlib.contextmanager
def nsim(netns):
    """
    A netdevsim in a namespace: its name, and a file with its VLAN ids. When it
    goes, it warns of those that are left.
    """
    with Nsim(netns) as dev, tempfile.TemporaryDirectory() as debugfs:
        cmd(f"mount -t debugfs none {debugfs}")
        try:
            yield (dev.name,
                   f"{debugfs}/netdevsim/netdevsim{dev.num}/ports/0/vlan")
        finally:
            cmd(f"umount {debugfs}")


def _state(netns, dev):
    """ What uppers can change in a lower """
    link = ip(f"-d link show dev {dev}", json=True, ns=netns)[0]
    fdb = tool("bridge", f"-n {netns} fdb show dev {dev}", json=True)
    return (link["promiscuity"], link["allmulti"], link["address"],
            sorted(entry["mac"] for entry in fdb))


def _add_upper(s, key, dev, home, source, lower):
    """ It has much in mind that its lower has to do. Returns a group. """
    data = None
    if key == "macsec_offload":
        key = "macsec"
        data = KINDS[key].data(5) + [(IFLA_MACSEC_OFFLOAD,
                                      bytes([MACSEC_OFFLOAD_MAC]))]
    s.make(key, dev, home, source, 5, lower, data)
    suffix = f"{ord(home):02x}"
    # Nobody ever took that back in vlan, and in macvlan's passthru mode
    more = "promisc on allmulticast on" if key not in (
        "vlan", "macvlan_passthru") else ""
    s.ip(home, f"link set {dev} up address 02:00:00:00:01:{suffix} {more}")
    # Last: when the lower has it, it has all
    s.ip(home, f"maddr add 01:00:5e:01:02:{suffix} dev {dev}")
    return f"01:00:5e:01:02:{suffix}"


@ksft_variants([KsftNamedVariant(f"{top}_on_{mid}", top, mid)
                for top, mid in [
    ("vlan", "macvlan"),
    ("macvlan", "macsec_offload"),
    ("macvlan_passthru", "vlan"),
    ("macsec", "macvlan"),
]])
def taken_out(top, mid):
    """
    top in C is on mid in B, and that on low, a netdevsim in A. When one dies,
    those that are left are as they were before.
    """
    with Pool() as pool:
        s = Scene(pool)
        with nsim(s.a) as (low, vids):
            # Else it has low listen to VLAN 0 later on
            cmd("modprobe -q 8021q", fail=False)
            # It is promiscuous for the sake of its addresses from now on
            tool("bridge", f"-n {s.a} fdb add 02:00:00:00:00:01 dev {low}")
            s.ip("a", f"link set {low} up")
            busywait(lambda: _state(s.a, low)[0] == 1, "low is promiscuous")
            for what in ("del c top", "del b mid", "kill b"):
                s.revive(*"abc")
                _take_out(s, top, mid, low, vids, what.split())
            s.revive(*"abc")
            _add_upper(s, mid, "mid", "b", "a", low)
            _add_upper(s, top, "top", "c", "b", "mid")
        s.check_left("with low")


def _take_out(s, top, mid, low, vids, what):
    def low_state():
        with open(vids, encoding="ascii") as file:
            return _state(s.a, low), file.read()

    def mid_state():
        return _state(s.b, "mid")

    # This happens a bit later than the command that causes it
    def add(*args):
        group = _add_upper(s, *args)
        busywait(lambda: group in low_state()[0][3], "low has the group")

    low_before = low_state()
    add(mid, "mid", "b", "a", low)
    low_between, mid_before = low_state(), mid_state()
    add(top, "top", "c", "b", "mid")
    ksft_ne(mid_state(), mid_before)
    if what[0] == "kill":
        s.kill(what[1])
    else:
        s.ip(what[1], f"link del {what[2]}")
    if what[1] == "b":
        ksft_eq(low_state(), low_before, f"low after {what}")
    else:
        ksft_eq(mid_state(), mid_before, f"mid after {what}")
        busywait(lambda: low_state() == low_between, "low has forgotten top")
        s.ip("b", "link del mid")
        ksft_eq(low_state(), low_before, f"low after {what} and mid")


def _port_error(netns):
    """ Can one have the port? """
    with NetNSEnter(netns), socket.socket(type=socket.SOCK_DGRAM) as sock:
        try:
            sock.bind(("0.0.0.0", PORT))
        except OSError as err:
            return strerror(err.errno)
    return "success"


@ksft_variants([KsftNamedVariant(f"{key}_{order}", key, order)
                for key in ("geneve", "vxlan") for order in ("bcd", "dbc")])
def shared_socket(key, order):
    """
    Tunnels in B, C and D share a socket in A. One is closed, one is deleted,
    one dies, and the last of them frees the port.
    """
    attr = IFLA_VXLAN_PORT if key == "vxlan" else IFLA_GENEVE_PORT
    with Pool() as pool:
        s = Scene(pool, "abcd")
        for num, home in enumerate("bcd"):
            s.make(key, "t0", home, "a", data=KINDS[key].data(num + 1) +
                   [(attr, struct.pack("!H", PORT))])
            s.ip(home, "link set t0 up")
        for letter in order:
            ksft_eq(_port_error(s.a), "EADDRINUSE", f"before {letter}")
            if letter == "b":
                s.ip("b", "link set t0 down")
            elif letter == "c":
                s.ip("c", "link del t0")
            else:
                s.kill("d")
        ksft_eq(_port_error(s.a), "success", "none is left")


class Gtp:
    """ The family of gtp, over a socket in a namespace """

    def __init__(self, netns):
        with NlctrlFamily() as ctrl:
            self.family = ctrl.getfamily({"family-name": "gtp"})["family-id"]
        with NetNSEnter(netns):
            self.sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW,
                                      Netlink.NETLINK_GENERIC)

    def add(self, index, num):
        """ A PDP context of version 1. Returns the error number. """
        body = struct.pack("=BBH", GTP_CMD_NEWPDP, 0, 0)
        body += b"".join(nlattr(*attr) for attr in (
            (1, index), (2, 1), (4, socket.inet_aton("192.0.2.9")),
            (5, bytes([10, 0, num >> 8, num & 255])), (8, num + 1),
            (9, num + 1)))
        flags = Netlink.NLM_F_REQUEST | Netlink.NLM_F_ACK | Netlink.NLM_F_EXCL
        self.sock.send(struct.pack("=IHHII", len(body) + 16, self.family, flags,
                                   1, 0) + body)
        answer = self.sock.recv(65536)
        assert struct.unpack_from("=H", answer, 4)[0] == Netlink.NLMSG_ERROR
        return -struct.unpack_from("=i", answer, 16)[0]


def gtp_contexts():
    """ They hold a socket each, and die with the device """
    with Pool() as pool:
        s = Scene(pool)
        for what in ("del", "move", "a", "b", "ab"):
            s.revive(*"abc")
            s.make("gtp", "t0", "b", "a")
            index = ifindex(s.b, "t0")
            gtp = Gtp(s.b)
            for num in range(50):
                ksft_eq(strerror(gtp.add(index, num)), "success")
            ksft_eq(strerror(gtp.add(index, 7)), "EEXIST")
            gtp.sock.close()
            s.deleted()
            if what == "del":
                s.ip("b", "link del t0")
            elif what == "move":
                s.ip("b", f"link set t0 netns {s.c}")
                s.kill("a")
                s.check_deleted(b=["t0"], c=["t0"])
            else:
                s.kill(*what)
            s.check_left(what)


def _open_char(module, path, major, minor):
    """ A device node, which we make for a moment if there is none """
    subprocess.run(["modprobe", "-q", module], check=False)
    made = not os.path.exists(path)
    if made:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(major, minor))
    try:
        return os.open(path, os.O_RDWR)
    except OSError as err:
        if err.errno in (errno.ENXIO, errno.ENODEV):
            raise KsftSkipEx(f"the kernel has no {module}") from err
        raise
    finally:
        if made:
            os.unlink(path)


def _ppp(s, by_netlink=False):
    """ A unit in A with a device in B. Returns the file. """
    file = _open_char("ppp_generic", "/dev/ppp", 108, 0)
    if by_netlink:
        with NetnsFd(s.b) as fd:
            err = s.rtnl["a"].add("dev0", "ppp", fd, [(IFLA_PPP_DEV_FD, file)])
        ksft_eq(strerror(err), "success")
    else:
        with NetNSEnter(s.a):
            unit = fcntl.ioctl(file, PPPIOCNEWUNIT, struct.pack("=i", -1))
        s.ip("a", f"link set ppp{struct.unpack('=i', unit)[0]} "
             f"netns {s.b} name dev0")
    return file


def _tap(s):
    """ Made in A, and moved to B. Returns the file. """
    with NetNSEnter(s.a):
        file = _open_char("tun", "/dev/net/tun", 10, 200)
        fcntl.ioctl(file, TUNSETIFF,
                    struct.pack("=16sH22x", b"dev0", IFF_TAP_NO_PI))
    s.ip("a", f"link set dev0 netns {s.b}")
    return file


@ksft_variants([
    KsftNamedVariant("ppp_ioctl", _ppp, ["a", "b", "ab"]),
    KsftNamedVariant("ppp_netlink", lambda s: _ppp(s, True), ["a", "b", "ab"]),
    # The file keeps A alive
    KsftNamedVariant("tap", _tap, ["b"]),
])
def file_of_device(func, deaths):
    """ The file is closed, before or after the device or a netns dies """
    with Pool() as pool:
        s = Scene(pool)
        for what in ("close", "del", "move", *deaths):
            s.revive(*"abc")
            file = func(s)
            s.ip("b", "link set dev0 up")
            s.deleted()
            if what == "move":
                s.ip("b", f"link set dev0 netns {s.c}")
            elif what == "del":
                s.ip("b", "link del dev0")
            elif what != "close":
                s.kill(*what)
            if what in ("del", *deaths):
                s.check_left(f"{what}, not yet closed")
            os.close(file)
            # Only once, whoever it was
            s.check_gone(what, b=["dev0"],
                         c=["dev0"] if what == "move" else [])


def tap_race():
    """ A tap's file is closed while the tap moves """
    with Pool() as pool:
        s = Scene(pool)
        for _ in range(5):
            file = _tap(s)
            s.deleted()
            with NetnsFd(s.c) as fd:
                pid = os.fork()
                if pid == 0:
                    os.close(file)
                    os._exit(s.rtnl["b"].move("dev0", fd))
                # So that neither is always the first one
                time.sleep(random.random() * 0.005)
                os.close(file)
                err = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            ksft_in(strerror(err), ["success", "ENODEV"])
            s.check_gone(b=["dev0"], c=[] if err else ["dev0"])


def rmnet_bridge():
    """ What is bridged to an upper is free when that dies """
    with Pool() as pool:
        s = Scene(pool)
        for letter, args in (("b", "link del r0"), ("a", "link del low"),
                             ("a", "link set low netns {c}"), ("a", None)):
            s.revive(*"abc")
            s.ip("a", "link add low type dummy")
            s.make("rmnet", "r0", "b", "a", 5, "low")
            s.ip("b", "link add s0 type dummy")
            s.ip("b", "link set s0 master r0")
            if args:
                s.ip(letter, args.format(c=s.c))
            else:
                s.kill(letter)
            ksft_eq(s.left()["b"], ["s0"], args)
            s.make("macvlan_passthru", "u0", "b", "b", 1, "s0")
            s.kill(*s.nets)


def main():
    """ All of the above """
    ksft_run([taken_out, shared_socket, gtp_contexts, rmnet_bridge,
              file_of_device, tap_race])
    ksft_exit()


if __name__ == "__main__":
    main()
