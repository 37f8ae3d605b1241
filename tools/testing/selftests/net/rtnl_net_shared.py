#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0

"""
Test that requests of different namespaces share RTNL.

Each request for an address, a route, a rule, a neighbour, a nexthop, a sysctl or
the state of a link, and each read of a device by sysfs and ethtool, holds RTNL
shared, as the trace events tell, and two namespaces are inside at once. What such
requests leave behind is what they leave one after the other, also while devices
come, go and move elsewhere.
"""

import contextlib
import ctypes
import errno
import fcntl
import itertools
import os
import pathlib
import shutil
import socket
import struct
import subprocess
import tempfile

from lib.py import KsftSkipEx, NetdevFamily, NetNSEnter, ip, ksft_eq, \
    ksft_exit, ksft_run, ksft_true, tool
from rtnl_net_lib import LockTrace, Pool, Rtnl, at_once, busywait, ifindex, \
    inum, most_at_once, stretched, tell_handlers

ROUNDS = int(os.environ.get("ROUNDS", "20"))

SYSCTL = "sysctl -qw net"
SYSFS = "cat /sys/class/net"

RTM_GETADDR = 22
RTM_GETROUTE = 26
RTM_GETNETCONF = 82
IFLA_OPERSTATE = 16
IF_OPER_UP = 6
SOL_PACKET = 263
PACKET_ADD_MEMBERSHIP = 1
PACKET_DROP_MEMBERSHIP = 2
PACKET_RX_RING = 5
PACKET_VERSION = 10
TPACKET_V3 = 2

# PACKET_MR_* and the address
MEMBERSHIPS = {"multicast": (0, b"\x01\x00\x5e\x00\x00\x07"),
               "promiscuous": (1, b""), "allmulti": (2, b""),
               "unicast": (3, b"\x02\x00\x00\x00\x00\x07")}

SIOCSIFFLAGS = 0x8914
SIOCSIFMTU = 0x8922
SIOCSIFNAME = 0x8923
SIOCSIFHWADDR = 0x8924
SIOCSIFHWBROADCAST = 0x8937
SIOCSIFTXQLEN = 0x8943
IFF_UP = 1
ARPHRD_ETHER = 1
LLADDR = b"\x02\0\0\0\0\x07"

SIOCETHTOOL = 0x8946
ETH_SS_STATS = 1
ETHTOOL_COMMANDS = {
    "GDRVINFO": 0x03, "GWOL": 0x05, "GMSGLVL": 0x07, "GLINK": 0x0a,
    "GCOALESCE": 0x0e, "GRINGPARAM": 0x10, "GPAUSEPARAM": 0x12,
    "GSTRINGS": 0x1b, "GSTATS": 0x1d, "GPERMADDR": 0x20, "GUFO": 0x21,
    "GFLAGS": 0x25, "GGRO": 0x2b, "GSSET_INFO": 0x37, "GFEATURES": 0x3a,
    "GCHANNELS": 0x3c, "GET_TS_INFO": 0x41, "GLINKSETTINGS": 0x4c}

# In a namespace with the devices d0 and the pair v0 and v1, which are up
REQUESTS = {
    "address": ["ip addr add 192.0.2.1/24 dev d0",
                "ip addr add 192.0.2.2/24 dev d0 valid_lft 100 preferred_lft 50",
                "ip addr del 192.0.2.1/24 dev d0"],
    "address6": ["ip addr add 2001:db8::1/64 dev d0",
                 "ip addr add 2001:db8::2/64 dev d0 nodad",
                 "ip addr del 2001:db8::1/64 dev d0"],
    "route": ["ip route add 198.51.100.0/24 dev d0",
              "ip route replace 198.51.100.0/24 dev d0 metric 7",
              "ip route del 198.51.100.0/24"],
    "rule": ["ip rule add from 192.0.2.0/24 table 100",
             "ip rule del from 192.0.2.0/24 table 100",
             "ip -6 rule add from 2001:db8::/32 table 100",
             "ip -6 rule del from 2001:db8::/32 table 100"],
    "nexthop": ["ip nexthop add id 7 dev d0",
                "ip nexthop add id 8 group 7",
                "ip nexthop del id 8", "ip nexthop del id 7"],
    "neighbour": ["ip neigh add 192.0.2.9 lladdr 02:00:00:00:00:09 dev d0",
                  "ip neigh del 192.0.2.9 dev d0"],
    "sysctl": [f"{SYSCTL}.ipv4.conf.d0.forwarding=1",
               f"{SYSCTL}.ipv6.conf.d0.disable_ipv6=1",
               f"{SYSCTL}.ipv6.conf.d0.disable_ipv6=0",
               f"{SYSCTL}.ipv6.conf.all.forwarding=1",
               f"{SYSCTL}.ipv6.conf.d0.addr_gen_mode=1"],
    "link": ["ip link show dev d0", "ip link"],
    "sysfs": [f"{SYSFS}/d0/carrier", f"{SYSFS}/lo/carrier",
              f"{SYSFS}/v0/carrier", f"{SYSFS}/v0/speed",
              f"{SYSFS}/v0/duplex", f"{SYSFS}/v0/queues/tx-0/traffic_class",
              f"{SYSFS}/v0/queues/tx-1/xps_rxqs"],
    "statistics": ["ip stats show dev d0 group link",
                   "ip stats show group link"],
    "bridge": ["bridge fdb show", "bridge fdb show dev d0", "bridge link show",
               "bridge vlan show", "bridge mdb show",
               "bridge link set dev d1 hairpin on",
               "bridge link set dev d1 hairpin off"],
}

if shutil.which("ethtool"):
    REQUESTS["ethtool"] = [f"ethtool {option} v0".replace("  ", " ")
                           for option in ("", "-i", "-k", "-S", "-l", "-T")] + \
                          ["ethtool -k d0", "ethtool -T d0", "ethtool -i d0"]


def exclusive(trace, *programs):
    """ Who held RTNL exclusively for a namespace's sake, and why """
    return sorted({(fields["caller"].split("+")[0], fields["rtnl"])
                   for thread, event, fields in trace.events
                   if event == "lock_acquired" and fields["net_inum"] == "0"
                   and fields["rtnl"] != "shared"
                   # ip asks first whether there is such a request
                   and not fields["caller"].startswith("rtnl_newlink+")
                   and thread.startswith(programs)})


def add_devices(netns):
    """ What the requests of the table need """
    ip("link add d0 type dummy", ns=netns)
    ip("link add v0 numtxqueues 2 numrxqueues 2 type veth peer v1", ns=netns)
    for dev in ("d0", "v0", "v1", "lo"):
        ip(f"link set {dev} up", ns=netns)
    # What the new devices have others do
    for dev in ("d0", "v0", "v1", "lo"):
        ip(f"link show dev {dev}", ns=netns)


def requests_hold_rtnl_shared():
    """ No request of the table holds RTNL exclusively """
    with Pool() as pool:
        (netns,) = pool.add("A")
        add_devices(netns)
        ip("link add br0 type bridge", ns=netns)
        ip("link add d1 master br0 type dummy", ns=netns)
        for name, lines in REQUESTS.items():
            with LockTrace() as trace:
                for line in lines:
                    subprocess.run(f"ip netns exec {netns} {line}".split(),
                                   check=True, stdout=subprocess.DEVNULL)
            ksft_eq(exclusive(trace, "ip-", "sysctl-", "cat-", "ethtool-",
                              "bridge-"),
                    [], name)
            shared = [caller for caller, rtnl, net in
                      trace.told("lock_acquired", "caller", "rtnl", "net_inum")
                      if rtnl == "shared" and net == inum(netns)]
            ksft_true(shared, f"{name} takes no lock at all")


@contextlib.contextmanager
def sysfs_of(netns):
    """ Where this process finds a namespace's devices in sysfs """
    with tempfile.TemporaryDirectory() as path:
        with NetNSEnter(netns):
            subprocess.run(["mount", "-t", "sysfs", "sysfs", path], check=True)
        try:
            yield pathlib.Path(path, "class/net")
        finally:
            subprocess.run(["umount", path], check=True)


def pending_link_state_is_read_shared():
    """ Reads right after a change of carrier, up to date nevertheless """
    with Pool() as pool:
        (netns,) = pool.add("A")
        add_devices(netns)
        with Rtnl(netns) as rtnl, sysfs_of(netns) as sysfs:
            reads = {
                "RTM_GETLINK": lambda: rtnl.get("v0")[1][IFLA_OPERSTATE] ==
                bytes((IF_OPER_UP,)),
                "carrier": lambda: sysfs.joinpath("v0/carrier").read_text(
                    encoding="ascii") == "1\n",
                "GLINK": lambda: ethtool_ioctl(netns, "v0", "GLINK")}
            for name, read in reads.items():
                wrong = []
                with LockTrace() as trace:
                    for _ in range(ROUNDS):
                        errs = rtnl.set_down("v1"), rtnl.set_up("v1")
                        done = read()
                        state = sysfs.joinpath("v0/operstate").read_text(
                            encoding="ascii")
                        if any(errs) or not done or state != "up\n":
                            wrong.append((errs, done, state))
                held = told_me(trace)
                ksft_eq(wrong, [], name)
                ksft_true(len(held) >= 3 * ROUNDS,
                          f"{name}: {len(held)} sections")
                ksft_eq([how for how in held if how != "shared"], [], name)


def dumps_of_all_families_hold_rtnl_shared():
    """ As "ip addr" asks: each family is dumped with the locks that it needs """
    with Pool() as pool:
        (netns,) = pool.add("A")
        add_devices(netns)
        ip("addr add 192.0.2.1/24 dev d0", ns=netns)
        ip("addr add 2001:db8::1/64 dev d0", ns=netns)
        with Rtnl(netns) as rtnl:
            for kind in (RTM_GETADDR, RTM_GETROUTE, RTM_GETNETCONF):
                with LockTrace() as trace:
                    families = rtnl.dump_all(kind)
                ksft_eq({socket.AF_INET, socket.AF_INET6} - families, set(),
                        f"type {kind}")
                ksft_eq(set(told_me(trace)) - {"shared"}, set(),
                        f"type {kind}")


def dumps_of_page_pools_hold_rtnl_shared():
    """ The pools of a namespace's devices """
    with Pool() as pool:
        (netns,) = pool.add("A")
        with NetNSEnter(netns):
            family = NetdevFamily()
        # Its socket would keep the namespace from dying
        with family, LockTrace() as trace:
            family.page_pool_get({}, dump=True)
        ksft_eq(told_me(trace), ["shared"])


def vlans_of_ports_hold_rtnl_shared():
    """ VLANs of a bridge and its ports, as CNI's plug-in bridge sets them """
    with Pool() as pool:
        (netns,) = pool.add("A")
        ip("link add br0 type bridge", ns=netns)
        ip("link add d0 master br0 type dummy", ns=netns)
        if run_in(netns, "bridge vlan add dev d0 vid 2"):
            raise KsftSkipEx("no VLAN filtering")
        with LockTrace() as trace:
            for line in ("add dev d0 vid 7 pvid untagged master",
                         "add dev d0 vid 10-20", "add dev br0 vid 7 self",
                         "del dev d0 vid 1", "del dev d0 vid 12-14",
                         "del dev br0 vid 7 self"):
                ksft_eq(run_in(netns, f"bridge vlan {line}"), 0, line)
        ksft_eq(exclusive(trace, "bridge-"), [])
        vlans = {entry["ifname"]: {tag for vlan in entry["vlans"] for tag in
                                   range(vlan["vlan"],
                                         vlan.get("vlanEnd", vlan["vlan"]) + 1)}
                 for entry in tool("bridge", "vlan show", json=True, ns=netns)}
        ksft_eq(vlans, {"br0": {1}, "d0": {2, 7, 10, 11, *range(15, 21)}})


def deferred_work_holds_rtnl_shared():
    """ A vlan's addresses reach its lower device in a section of their netns """
    with Pool() as pool:
        (netns,) = pool.add("A")
        ip("link add v0 type veth peer v1", ns=netns)
        ip("link add link v0 name u0 type vlan id 7", ns=netns)
        for dev in ("v0", "v1", "u0"):
            ip(f"link set {dev} up", ns=netns)
        group = socket.inet_aton("224.0.7.7")
        with LockTrace() as trace:
            with NetNSEnter(netns):
                sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            with sock:
                # A command such as ip maddr would do the work itself
                sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP,
                                group + struct.pack("=4xI", ifindex(netns, "u0")))
                busywait(lambda: "01:00:5e:00:07:07" in
                         ip("maddr show dev v0", ns=netns).stdout,
                         "the lower device has the address")
        workers = {fields["rtnl"] for thread, event, fields in trace.events
                   if event == "lock_acquired" and thread.startswith("kworker")
                   and fields["net_inum"] == inum(netns)}
        ksft_eq(workers, {"shared"})


def ethtool_ioctl(netns, dev, command):
    """ SIOCETHTOOL in a namespace. Returns whether the driver has it. """
    buf = ctypes.create_string_buffer(1 << 16)
    struct.pack_into("=I", buf, 0, ETHTOOL_COMMANDS[command])
    if command == "GSSET_INFO":
        struct.pack_into("=Q", buf, 8, 1 << ETH_SS_STATS)
    elif command == "GSTRINGS":
        struct.pack_into("=I", buf, 4, ETH_SS_STATS)
    elif command == "GPERMADDR":
        struct.pack_into("=I", buf, 4, 32)
    request = struct.pack("@16sP16x", dev.encode(), ctypes.addressof(buf))
    with NetNSEnter(netns), socket.socket(socket.AF_INET,
                                          socket.SOCK_DGRAM) as sock:
        try:
            fcntl.ioctl(sock, SIOCETHTOOL, request)
        except OSError as err:
            if err.errno != errno.EOPNOTSUPP:
                raise
            return False
    return True


def ethtool_ioctls_hold_rtnl_shared():
    """ Nor does a command of SIOCETHTOOL that reads """
    me = f"-{os.getpid()}"
    with Pool() as pool:
        (netns,) = pool.add("A")
        add_devices(netns)
        for command in ETHTOOL_COMMANDS:
            for dev in ("d0", "v0", "lo"):
                with LockTrace() as trace:
                    ethtool_ioctl(netns, dev, command)
                told = {fields["rtnl"] for thread, event, fields
                        in trace.events if thread.endswith(me)
                        and event == "lock_acquired"}
                # A dummy has a lock of its own, which is enough for most
                ksft_eq(told | {"shared"}, {"shared"}, f"{command} of {dev}")
        for command in ("GSTRINGS", "GSTATS", "GCHANNELS", "GLINKSETTINGS"):
            ksft_true(ethtool_ioctl(netns, "v0", command), command)


def device_ioctls_hold_rtnl_shared():
    """ Nor does an ioctl that changes a device, as ifconfig uses it """
    def ifreq(dev, kind, *values):
        return struct.pack(f"=16s{kind}",
                           dev.encode(), *values).ljust(40, b"\0")

    with Pool() as pool:
        (netns,) = pool.add("A")
        add_devices(netns)
        for dev, family in itertools.product(
                ("d0", "v0"), (socket.AF_INET, socket.AF_INET6)):
            with NetNSEnter(netns):
                sock = socket.socket(family, socket.SOCK_DGRAM)
            calls = {
                "down": (SIOCSIFFLAGS, ifreq(dev, "H", 0)),
                "up": (SIOCSIFFLAGS, ifreq(dev, "H", IFF_UP)),
                "MTU": (SIOCSIFMTU, ifreq(dev, "i", 1400)),
                "address": (SIOCSIFHWADDR,
                            ifreq(dev, "H6s", ARPHRD_ETHER, LLADDR)),
                "broadcast": (SIOCSIFHWBROADCAST,
                              ifreq(dev, "H6s", ARPHRD_ETHER, b"\xff" * 6)),
                "queue length": (SIOCSIFTXQLEN, ifreq(dev, "i", 500)),
                "rename": (SIOCSIFNAME, ifreq(dev, "16s", b"other"))}
            with sock:
                for name, (command, request) in calls.items():
                    with LockTrace() as trace:
                        fcntl.ioctl(sock, command, request)
                    ksft_eq(told_me(trace), ["shared"], f"{name} of {dev}")
                link, = ip("link show dev other", json=True, ns=netns)
                ksft_eq([link[key] for key in ("mtu", "address", "txqlen")],
                        [1400, LLADDR.hex(":"), 500], dev)
                ksft_true("UP" in link["flags"], dev)
                fcntl.ioctl(sock, SIOCSIFNAME,
                            ifreq("other", "16s", dev.encode()))


def read_file(netns, path):
    """ What cat says of a file of sysfs, in a namespace """
    return subprocess.run(["ip", "netns", "exec", netns, "cat", path],
                          check=False, capture_output=True,
                          text=True).stdout.strip()


def what_is_below_a_device_counts():
    """ A speed that a lower device tells may make a section exclusive """
    with Pool() as pool:
        a, b = pool.add("A", "B")
        add_devices(a)
        ip("link add br0 type bridge", ns=a)
        ip("link set v0 master br0", ns=a)
        ip("link set br0 up", ns=a)
        ip(f"link add mv0 link v1 netns {b} type macvlan mode private", ns=a)
        ip("link set mv0 up", ns=b)
        ip("link add mv1 link v1 type macvlan mode private", ns=a)
        ip("link set mv1 up", ns=a)
        for netns, dev in ((a, "br0"), (b, "mv0"), (a, "mv1")):
            ip(f"link show dev {dev}", ns=netns)
            for name, why in (("speed", "exclusive:foreign" if dev == "mv0"
                               else "shared"), ("carrier", "shared")):
                with LockTrace() as trace:
                    value = read_file(netns, f"/sys/class/net/{dev}/{name}")
                ksft_eq(value, "10000" if name == "speed" else "1",
                        f"{name} of {dev}")
                told = [fields["rtnl"] for thread, event, fields
                        in trace.events if event == "lock_acquired"
                        and thread.startswith("cat-")
                        and fields["net_inum"] == inum(netns)]
                ksft_eq(told[-1:], [why], f"{name} of {dev}")


def change_addresses(netns, times):
    """ Add and delete the same address again and again """
    index = ifindex(netns, "d0")
    with Rtnl(netns) as rtnl:
        for _ in range(times):
            for add in (True, False):
                if rtnl.address(index, "192.0.2.1", add):
                    return 1
    return 0


def namespaces_are_inside_at_once():
    """ Two namespaces change addresses side by side """
    if len(os.sched_getaffinity(0)) < 2:
        raise KsftSkipEx("one CPU: two sections hardly meet")
    with Pool() as pool:
        nets = pool.add("A", "B")
        for netns in nets:
            ip("link add d0 type dummy", ns=netns)
        # They meet by chance; KUnit has them wait for each other
        for _ in range(100):
            with LockTrace() as trace:
                ksft_eq(at_once(*[lambda netns=netns:
                                  change_addresses(netns, 50)
                                  for netns in nets]), [0, 0])
            if most_at_once(trace) > 1:
                return
        ksft_true(False, "two sections never met")


def reads_pass_a_held_section():
    """ A read does not wait for the section of another namespace """
    reads = {
        "carrier": lambda netns: read_file(
            netns, "/sys/class/net/v0/carrier") != "1",
        "speed": lambda netns: read_file(
            netns, "/sys/class/net/v0/speed") != "10000",
        "GSTATS": lambda netns: not ethtool_ioctl(netns, "v0", "GSTATS")}
    if shutil.which("ethtool"):
        reads["features"] = lambda netns: subprocess.run(
            ["ip", "netns", "exec", netns, "ethtool", "-k", "v0"],
            check=False, stdout=subprocess.DEVNULL).returncode

    with Pool() as pool:
        nets = pool.add("A", "B")
        for netns in nets:
            add_devices(netns)
        for name, read in reads.items():
            with stretched(300000), LockTrace() as trace:
                ksft_eq(at_once(*[lambda netns=netns: int(read(netns))
                                  for netns in nets]), [0, 0], name)
            ksft_true(most_at_once(trace) >= 2, name)


def packet_socket(netns):
    """ A packet socket in a namespace """
    with NetNSEnter(netns):
        return socket.socket(socket.AF_PACKET, socket.SOCK_RAW)


def membership(sock, index, name, option=PACKET_ADD_MEMBERSHIP):
    """ Join or leave what is in MEMBERSHIPS """
    kind, address = MEMBERSHIPS[name]
    sock.setsockopt(SOL_PACKET, option,
                    struct.pack("=iHH8s", index, kind, len(address), address))


def promiscuity(netns, dev):
    """ How many have made a device promiscuous """
    return ip(f"-d link show dev {dev}", json=True, ns=netns)[0]["promiscuity"]


def told_me(trace):
    """ How this process held RTNL, each time """
    return [fields["rtnl"] for thread, event, fields in trace.events
            if event == "lock_acquired" and fields["net_inum"] == "0"
            and thread.endswith(f"-{os.getpid()}")]


def packet_sockets_hold_rtnl_shared():
    """ Memberships, rings and close() of packet sockets """
    with Pool() as pool:
        (netns,) = pool.add("A")
        add_devices(netns)
        ip("link add link v0 name u0 type vlan id 7", ns=netns)
        ip("link set u0 up", ns=netns)
        # u0 passes its addresses and modes on to v0
        for dev, name in itertools.product(("d0", "v0", "u0"), MEMBERSHIPS):
            index = ifindex(netns, dev)
            with packet_socket(netns) as sock, LockTrace() as trace:
                membership(sock, index, name)
                membership(sock, index, name, PACKET_DROP_MEMBERSHIP)
                membership(sock, index, name)
            ksft_eq(told_me(trace), ["shared"] * 3, f"{name}, {dev}")
            ksft_eq(promiscuity(netns, dev), 0, f"{name}, {dev}")
            with packet_socket(netns) as sock:
                membership(sock, index, name)
                if name == "promiscuous":
                    ksft_eq(promiscuity(netns, dev), 1, dev)
                with LockTrace() as trace:
                    sock.close()
            ksft_eq(told_me(trace), ["shared"], f"{name}, {dev}, close")
            ksft_eq(promiscuity(netns, dev), 0, f"{name}, {dev}, close")
        with packet_socket(netns) as sock:
            with NetNSEnter(netns):
                sock.bind(("d0", 0))
            sock.setsockopt(SOL_PACKET, PACKET_VERSION, TPACKET_V3)
            with LockTrace() as trace:
                sock.setsockopt(SOL_PACKET, PACKET_RX_RING,
                                struct.pack("=7I", 1 << 16, 1, 1 << 11, 32,
                                            0, 0, 0))
        ksft_eq(told_me(trace), ["shared"], "ring")


def what_is_below_a_packet_socket_counts():
    """ What a vlan passes on to another namespace makes a section exclusive """
    with Pool() as pool:
        a, b = pool.add("A", "B")
        ip("link add d0 type dummy", ns=a)
        ip("link set d0 up", ns=a)
        ip(f"link add link d0 name u0 netns {b} type vlan id 7", ns=a)
        ip("link set u0 up", ns=b)
        index = ifindex(b, "u0")
        for name in MEMBERSHIPS:
            why = "shared" if name == "multicast" else "exclusive:foreign"
            with packet_socket(b) as sock:
                with LockTrace() as trace:
                    membership(sock, index, name)
                ksft_eq(told_me(trace)[-1:], [why], name)
                if name == "promiscuous":
                    ksft_eq(promiscuity(a, "d0"), 1)
                with LockTrace() as trace:
                    sock.close()
            ksft_eq(told_me(trace)[-1:], [why], f"{name}, close")
            ksft_eq(promiscuity(a, "d0"), 0, name)


def run_in(netns, line):
    """ Status of a command in a namespace """
    return subprocess.run(f"ip netns exec {netns} {line}".split(), check=False,
                          stdout=subprocess.DEVNULL).returncode


def packets_and_tables_pass_a_held_section():
    """ They do not wait for the section of another namespace """
    def join(netns):
        with packet_socket(netns) as sock:
            membership(sock, ifindex(netns, "d0"), "promiscuous")
        return 0

    callers = {
        "membership": join,
        "statistics": lambda netns: run_in(
            netns, "ip stats show dev d0 group link"),
        "fdb": lambda netns: run_in(netns, "bridge fdb show")}
    with Pool() as pool:
        nets = pool.add("A", "B")
        for netns in nets:
            ip("link add d0 type dummy", ns=netns)
            ip("link set d0 up", ns=netns)
        for name, caller in callers.items():
            with stretched(300000), LockTrace() as trace:
                ksft_eq(at_once(*[lambda netns=netns: caller(netns)
                                  for netns in nets]), [0, 0], name)
            ksft_true(most_at_once(trace) >= 2, name)


def batch(netns, lines):
    """ Status of an ip that does all of lines """
    return subprocess.run(["ip", "-n", netns, "-batch", "-"],
                          input="\n".join(lines) + "\n", text=True,
                          check=False, stdout=subprocess.DEVNULL).returncode


def all_requests(netns):
    """ Those of the table, without what is no ip """
    for _ in range(ROUNDS):
        lines = [line.removeprefix("ip ") for name in REQUESTS
                 for line in REQUESTS[name] if line.startswith("ip ")
                 and not line.startswith("ip -6 ")]
        # Deleting the first address of a subnet takes along the second one
        lines += ["addr del 2001:db8::2/64 dev d0",
                  "route del 198.51.100.0/24 metric 7"]
        if batch(netns, lines):
            return 1
    return 0


def change_links(netns, other):
    """ Exclusive requests: devices are created, moved and deleted """
    name = f"from-{netns}"[:15]
    for _ in range(ROUNDS):
        if batch(netns, ["link add v0 type veth peer v1", "link set v0 up",
                         f"link set v1 name {name} netns {other}",
                         "link del v0",
                         "link add d1 type dummy", "link set d1 up",
                         "addr add 203.0.113.1/24 dev d1", "link del d1"]):
            return 1
    return 0


def requests_beside_each_other():
    """ All kinds of requests in many namespaces at once """
    with Pool() as pool:
        *nets, x, y = pool.add("A", "B", "C", "X", "Y")
        for netns in nets:
            ip("link add d0 type dummy", ns=netns)
            ip("link set d0 up", ns=netns)
        ksft_eq(at_once(*[lambda netns=netns: all_requests(netns)
                          for netns in nets],
                        lambda: change_links(x, y),
                        lambda: change_links(y, x)),
                [0] * (len(nets) + 2))
        for netns in nets:
            ksft_eq(len(ip("-4 addr show dev d0", json=True, ns=netns)), 0)
            ksft_eq(ip("-4 route show", json=True, ns=netns), [])
            ksft_eq(len(ip("rule", json=True, ns=netns)), 3)
        ksft_eq(pool.extra(), {netns: ["d0"] for netns in nets})


def read_device(netns, dev):
    """ Read a device that comes, goes and moves """
    for _ in range(ROUNDS):
        for name in ("carrier", "speed", "queues/tx-0/traffic_class"):
            read_file(netns, f"/sys/class/net/{dev}/{name}")
        for command in ("GSTATS", "GLINKSETTINGS", "GLINK", "GFEATURES"):
            with contextlib.suppress(OSError):
                ethtool_ioctl(netns, dev, command)
        if shutil.which("ethtool"):
            subprocess.run(["ip", "netns", "exec", netns, "ethtool", dev],
                           check=False, stdout=subprocess.DEVNULL,
                           stderr=subprocess.DEVNULL)
    return 0


def move_device(home, away):
    """ A pair is made and deleted, one end moves away and back """
    for _ in range(ROUNDS):
        if batch(home, ["link add v0 type veth peer v1", "link set v0 up",
                        "link set v1 up", f"link set v0 netns {away}"]):
            return 1
        if batch(away, ["link set v0 up", f"link set v0 netns {home}"]):
            return 1
        if batch(home, ["link del v1"]):
            return 1
    return 0


def reads_beside_changes():
    """ Devices are read while they come, go and move """
    with Pool() as pool:
        a, b = pool.add("A", "B")
        ksft_eq(at_once(lambda: move_device(a, b),
                        lambda: read_device(a, "v0"),
                        lambda: read_device(b, "v0"),
                        lambda: read_device(a, "v1")), [0] * 4)
        ksft_eq(pool.extra(), {})


def main():
    """ All cases """
    tell_handlers()
    ksft_run([requests_hold_rtnl_shared, pending_link_state_is_read_shared,
              dumps_of_all_families_hold_rtnl_shared,
              dumps_of_page_pools_hold_rtnl_shared,
              vlans_of_ports_hold_rtnl_shared,
              deferred_work_holds_rtnl_shared,
              ethtool_ioctls_hold_rtnl_shared, device_ioctls_hold_rtnl_shared,
              what_is_below_a_device_counts,
              packet_sockets_hold_rtnl_shared,
              what_is_below_a_packet_socket_counts,
              namespaces_are_inside_at_once, reads_pass_a_held_section,
              packets_and_tables_pass_a_held_section,
              requests_beside_each_other, reads_beside_changes])
    ksft_exit()


if __name__ == "__main__":
    main()
