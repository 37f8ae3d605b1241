# SPDX-License-Identifier: GPL-2.0

"""
Helpers for tests of devices that are unregistered across network namespaces.

Devices are made and deleted with "ip", or over a netlink socket where a test
needs the very error number, two processes at the same moment, or many rounds.
The socket is not an RtnlFamily of lib.py: rt-link.yaml describes the data of
neither veth nor most of the other kinds here, and has no RTM_DELLINK
notification.
"""

import contextlib
import ctypes
import errno
import fcntl
import functools
import gzip
import multiprocessing
import os
import random
import re
import shutil
import socket
import string
import struct
import time

from lib.py import KsftSkipEx, NetNSEnter, NetdevSimDev, Netlink, cmd, ip, \
    ksft_busy_wait, ksft_eq, ksft_in, ksft_pr

CLONE_NEWUSER = 0x10000000
CLONE_NEWNET = 0x40000000
MS_BIND = 4096
MNT_DETACH = 2

# For what is not there yet
NEW = Netlink.NLM_F_CREATE | Netlink.NLM_F_EXCL
REPLACE = Netlink.NLM_F_CREATE | Netlink.NLM_F_REPLACE

RTM_NEWLINK = 16
RTM_DELLINK = 17
RTM_GETLINK = 18
RTM_SETLINK = 19
RTM_NEWADDR = 20
RTM_DELADDR = 21
RTM_NEWROUTE = 24
RTM_DELROUTE = 25
RTM_NEWNEIGH = 28
RTM_DELNEIGH = 29
RTM_NEWRULE = 32
RTM_DELRULE = 33
RTNLGRP_LINK = 1
IFF_UP = 1

IFA_LOCAL = 2
RTA_DST = 1
RTA_OIF = 4
NDA_DST = 1
FRA_SRC = 2
RT_TABLE_MAIN = 254
IFLA_ADDRESS = 1
IFLA_IFNAME = 3
IFLA_MTU = 4
IFLA_LINK = 5
IFLA_TXQLEN = 13
IFLA_LINKINFO = 18
IFLA_IFALIAS = 20
IFLA_GROUP = 27
IFLA_NET_NS_FD = 28
IFLA_CARRIER = 33
IFLA_LINK_NETNSID = 37
IFLA_TARGET_NETNSID = 46
IFLA_INFO_KIND = 1
IFLA_INFO_DATA = 2
VETH_INFO_PEER = 1
IFLA_BAREUDP_PORT = 1
IFLA_BAREUDP_ETHERTYPE = 2
IFLA_IPVLAN_MODE = 1
IFLA_IPVLAN_FLAGS = 2

ETH_P_IP = 0x0800
IPVLAN_MODES = {"l2": 0, "l3": 1, "l3s": 2}
IPVLAN_FLAGS = {"bridge": 0, "private": 1, "vepa": 2}

# Only so that a test that hangs ends with a verdict
WAIT_TIMEOUT = int(os.environ.get("WAIT_TIMEOUT", "120"))

TRACING = "/sys/kernel/tracing"
DELAY = "/sys/kernel/debug/rtnl/delay_us"
HANDLERS = "/sys/kernel/debug/rtnl/handlers"

# A trace event of the group rtnl_net
TRACE_LINE = re.compile(r"^\s*(?P<thread>.+-\d+)\s+\[\d+\]\s+\S+\s+\d+: "
                  r"rtnl_net_(?P<event>\w+): (?P<text>.*)$")
TRACE_FIELD = re.compile(r"(\w+)=((?:sent|at) home|\S+)")

libc = ctypes.CDLL(None, use_errno=True)


def _syscall(name, *args):
    if getattr(libc, name)(*args) < 0:
        err = ctypes.get_errno()
        raise OSError(err, f"{name}: {os.strerror(err)}")


def busywait(cond, what):
    """ Wait until cond() is true; the test case fails if it never is """
    ksft_busy_wait(cond, sleep=0.01, deadline=WAIT_TIMEOUT, comment=what)


def in_child(func):
    """ Run func() in a process of its own, return its value (0 to 255) """
    pid = os.fork()
    if pid == 0:
        ret = 255
        try:
            ret = func()
        finally:
            os._exit(ret)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def at_once(*funcs):
    """
    Run each of funcs in a process of its own. They start together, once all of
    them are ready, but for a moment that differs from call to call, so that
    not always the same one is first. Return what they return.
    """
    spins = [random.randrange(5000) for _ in funcs]
    barrier = multiprocessing.Barrier(len(funcs))
    results = multiprocessing.Array("i", [-1] * len(funcs))

    def run(num):
        barrier.wait()
        for _ in range(spins[num]):
            pass
        results[num] = funcs[num]()

    procs = [multiprocessing.Process(target=run, args=(num,))
             for num in range(len(funcs))]
    for proc in procs:
        proc.start()
    for proc in procs:
        proc.join()
    return list(results)


def while_dying(held, *funcs):
    """
    Let go of the namespaces in held, and run each of funcs in a process of its
    own meanwhile, sooner or later. Return what they return.
    """
    barrier = multiprocessing.Barrier(len(funcs) + 1)
    results = multiprocessing.Array("i", [-1] * len(funcs))
    # When the kernel gets to the devices differs from machine to machine
    *delays, delay = [random.choice((0, 0.005, 0.02, 0.1)) * random.random()
                      for _ in range(len(funcs) + 1)]

    def run(num):
        held.close()
        barrier.wait()
        time.sleep(delays[num])
        results[num] = funcs[num]()

    procs = [multiprocessing.Process(target=run, args=(num,))
             for num in range(len(funcs))]
    for proc in procs:
        proc.start()
    barrier.wait()
    time.sleep(delay)
    held.close()
    for proc in procs:
        proc.join()
    return list(results)


@contextlib.contextmanager
def setns(fd):
    """ Be in another network namespace for a while """
    with open("/proc/thread-self/ns/net", encoding="ascii") as home:
        _syscall("setns", fd, CLONE_NEWNET)
        try:
            yield
        finally:
            _syscall("setns", home.fileno(), CLONE_NEWNET)


def devices(netns=None):
    """ Names of all devices in a network namespace, or in the current one """
    if netns:
        with NetNSEnter(netns):
            return devices()
    return {name for _, name in socket.if_nameindex()}


def ifindex(netns, dev):
    """ The number of a device in a network namespace """
    with NetNSEnter(netns):
        return socket.if_nametoindex(dev)


@functools.cache
def reports_foreign():
    """
    Whether the kernel reports an unregistration under the mutex of a netns that
    is not the device's. Says so if it does not, or if nobody knows.
    """
    try:
        with gzip.open("/proc/config.gz", "rt") as file:
            config = file.read()
    except OSError:
        ksft_pr("no /proc/config.gz: foreign unregistrations fail a test case "
                "only if the kernel has CONFIG_DEBUG_NET_SMALL_RTNL")
        return True
    for option in ("CONFIG_NET_SMALL_RTNL", "CONFIG_DEBUG_NET_SMALL_RTNL"):
        if f"\n{option}=y\n" not in config:
            ksft_pr(f"no {option}: the kernel does not report foreign "
                    "unregistrations, so no test case can fail for one")
            return False
    return True


class KernelLog:
    """
    What the kernel logs from now on. An unregistration under the mutex of a
    netns that is not the device's leaves no trace but its report there.
    """

    BAD = re.compile(
        r"foreign unregistration|WARNING: |BUG: |Oops|refcount_t: |ODEBUG: "
        r"|INFO: (task|rcu|trying|possible|suspicious)|blocked for more than"
        r"|suspicious RCU usage|list_(add|del) corruption|(KASAN|KCSAN|UBSAN): "
        r"|leaked reference|unregister_netdevice: waiting for")

    def __init__(self):
        self.fd = os.open("/dev/kmsg", os.O_RDWR | os.O_NONBLOCK |
                          os.O_CLOEXEC)
        os.lseek(self.fd, 0, os.SEEK_END)
        reports_foreign()

    def _messages(self):
        while True:
            try:
                record = os.read(self.fd, 8192).decode(errors="replace")
            except BlockingIOError:
                return
            except BrokenPipeError:
                ksft_pr("the kernel's log has lost messages")
                continue
            yield record.partition(";")[2].partition("\n")[0]

    def check(self):
        """ Fail the test case if the kernel has reported a bug. Once only. """
        # A message without a newline cannot be read before the next one
        os.write(self.fd, b"rtnl_net_lib: end of a test case\n")
        ksft_eq([message for message in self._messages()
                 if self.BAD.search(message)], [], "in the kernel's log")
        os.close(self.fd)


class Held:
    """ Network namespaces held by consecutive file descriptors """

    def __init__(self, names):
        fds = [self._open(name) for name in names]
        self.first = min(fds, default=0)
        self.end = self.first + len(fds)
        assert fds == list(range(self.first, self.end))

    @staticmethod
    def _open(name):
        # Above what else is open, which has holes
        with open(f"/run/netns/{name}", encoding="ascii") as file:
            return fcntl.fcntl(file, fcntl.F_DUPFD_CLOEXEC, 300)

    def close(self):
        """ With one system call """
        if self.end > self.first:
            os.closerange(self.first, self.end)


class Pool:
    """
    Network namespaces with names that "ip -n" knows.

    "ip netns del" returns before a namespace is gone, and nothing tells when
    it is, except for one: it counts against the limit of the user namespace
    that made it until the very end. So they are made by a helper process in a
    user namespace of its own, whose count is nobody else's.

    A report in the kernel's log while there is a pool fails the test case.
    """

    def __init__(self):
        self.log = KernelLog()
        self.live = {}
        self.sockets = []
        self.lock = multiprocessing.Lock()
        self.count = multiprocessing.Value("i", 0)
        self.sock, helper = socket.socketpair(socket.AF_UNIX,
                                              socket.SOCK_SEQPACKET)
        self.pid = os.fork()
        if self.pid == 0:
            self.sock.close()
            self._serve(helper)
        helper.close()
        os.makedirs("/run/netns", exist_ok=True)

    # The helper process

    @staticmethod
    def _serve(sock):
        try:
            _syscall("unshare", CLONE_NEWUSER)
            while True:
                request = sock.recv(100).decode().split()
                if not request:
                    break
                if request[0] == "add":
                    in_child(lambda: Pool._serve_add(sock))
                else:
                    Pool._serve_limit(sock, request[1])
        finally:
            os._exit(0)

    @staticmethod
    def _serve_add(sock):
        _syscall("unshare", CLONE_NEWNET)
        with open("/proc/self/ns/net") as netns:
            socket.send_fds(sock, [b"netns"], [netns.fileno()])
        return 0

    @staticmethod
    def _serve_limit(sock, limit):
        def try_one():
            return 1 if libc.unshare(CLONE_NEWNET) < 0 else 0

        def set_limit(value):
            with open("/proc/sys/user/max_net_namespaces", "w") as file:
                file.write(str(value))

        set_limit(limit)
        failed = in_child(try_one)
        set_limit(1 << 20)
        sock.send(b"over" if failed else b"ok")

    # Our side

    def make(self, name):
        """ Make a network namespace and give it just that name """
        with self.lock:
            self.sock.send(b"add")
            _, fds, _, _ = socket.recv_fds(self.sock, 100, 1)
            self.count.value += 1
        path = f"/run/netns/{name}"
        with open(path, "x"):
            pass
        _syscall("mount", f"/proc/self/fd/{fds[0]}".encode(), path.encode(),
                 b"none", MS_BIND, None)
        os.close(fds[0])

    def unmake(self, name):
        """ Take a network namespace's name away """
        _syscall("umount2", f"/run/netns/{name}".encode(), MNT_DETACH)
        os.unlink(f"/run/netns/{name}")
        with self.lock:
            self.count.value -= 1

    def add(self, *prefixes):
        """ Make network namespaces, return their names """
        names = []
        for prefix in prefixes:
            suffix = "".join(random.choices(string.ascii_lowercase, k=6))
            name = f"{prefix}-{suffix}"
            self.make(name)
            self.live[name] = devices(name)
            names.append(name)
        return names

    def hold(self, *names):
        """
        Take the names of network namespaces away. What is returned holds the
        namespaces: its close() lets them die, all at the same time.
        """
        held = Held(names)
        for name in names:
            self.unmake(name)
            del self.live[name]
        self.close_sockets(*names)
        return held

    def kill(self, *names):
        """ Let network namespaces die, all at the same time """
        self.hold(*names).close()

    def close_sockets(self, *names):
        """ Close what holds these network namespaces """
        for sock in [s for s in self.sockets if s.netns in names]:
            sock.close()
            self.sockets.remove(sock)

    def wait_freed(self):
        """ Wait until all but those that have a name are really gone """
        def freed():
            with self.lock:
                self.sock.send(f"limit {self.count.value + 1}".encode())
                return self.sock.recv(100) == b"ok"

        busywait(freed, "all dead network namespaces are freed")

    def extra(self):
        """ Devices that were not there when their namespaces were new """
        return {name: extra for name, first in self.live.items()
                if (extra := sorted(devices(name) - first))}

    def rtnl(self, netns):
        """ A netlink socket in a network namespace """
        return self._track(Rtnl(netns))

    def monitor(self, netns):
        """ A socket that receives a network namespace's notifications """
        return self._track(Monitor(netns))

    def _track(self, sock):
        self.sockets.append(sock)
        return sock

    def __enter__(self):
        return self

    def __exit__(self, exc_type, exc_value, traceback):
        try:
            self.kill(*self.live)
            if not exc_type:
                self.wait_freed()
        finally:
            self.sock.close()
            os.waitpid(self.pid, 0)
            self.log.check()


def nlattr(kind, value):
    """ A netlink attribute, or with a list a nest of them """
    if isinstance(value, list):
        value = b"".join(nlattr(*sub) for sub in value)
        kind |= 0x8000
    elif isinstance(value, int):
        value = struct.pack("=I", value)
    elif isinstance(value, str):
        value = value.encode() + b"\0"
    data = struct.pack("=HH", len(value) + 4, kind) + value
    return data + b"\0" * (-len(data) % 4)


def _ifinfomsg(index=0, up=0, change=0):
    return struct.pack("=BxHiII", socket.AF_UNSPEC, 0, index, up, up | change)


def _messages(data):
    """ Type and content of each netlink message """
    while len(data) >= 16:
        length, kind = struct.unpack_from("=IH", data)
        yield kind, data[16:length]
        data = data[(length + 3) & ~3:]


def _links(data):
    """ Type, flags and attributes of each message about a link """
    for kind, body in _messages(data):
        if kind not in (RTM_NEWLINK, RTM_DELLINK) or \
                body[0] != socket.AF_UNSPEC:
            continue
        flags, = struct.unpack_from("=I", body, 8)
        body = body[16:]
        attrs = {}
        while body:
            size, attr = struct.unpack_from("=HH", body)
            attrs[attr & 0x3fff] = body[4:size]
            body = body[(size + 3) & ~3:]
        yield kind, flags, attrs


def _name(attrs):
    return attrs[IFLA_IFNAME].rstrip(b"\0").decode()


def pair_data(kind, name, netns, *attrs):
    """ What Rtnl.add() has to say for the other end of a pair """
    return [(kind, _ifinfomsg() + nlattr(IFLA_IFNAME, name) +
             nlattr(IFLA_NET_NS_FD, netns) +
             b"".join(nlattr(*attr) for attr in attrs))]


def bareudp_data(port):
    """ What Rtnl.add() has to say for a bareudp device """
    return [(IFLA_BAREUDP_PORT, struct.pack("!H", port)),
            (IFLA_BAREUDP_ETHERTYPE, struct.pack("!H", ETH_P_IP))]


def ipvlan_data(mode, flag="bridge"):
    """ What Rtnl.add() and Rtnl.change() have to say for ipvlan and ipvtap """
    return [(IFLA_IPVLAN_MODE, struct.pack("=H", IPVLAN_MODES[mode])),
            (IFLA_IPVLAN_FLAGS, struct.pack("=H", IPVLAN_FLAGS[flag]))]


class Rtnl:
    """
    A netlink socket. Each method returns 0, or the error number.
    """

    def __init__(self, netns=None):
        self.netns = netns
        if netns:
            with NetNSEnter(netns):
                self.sock = self._open()
        else:
            self.sock = self._open()

    def _open(self):
        sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW,
                             socket.NETLINK_ROUTE)
        sock.bind((0, 0))
        return sock

    def close(self):
        """ Let go of the network namespace """
        self.sock.close()

    def __enter__(self):
        return self

    def __exit__(self, exc_type, exc_value, traceback):
        self.close()

    def request(self, kind, flags, *attrs, index=0, up=0, change=0):
        """ Send a link message, return the error number of the answer """
        return self._ask(kind, flags, _ifinfomsg(index, up, change), attrs)

    def _send(self, kind, flags, body):
        self.sock.send(struct.pack("=IHHII", len(body) + 16, kind,
                                   flags | Netlink.NLM_F_REQUEST, 1, 0) + body)

    def _ask(self, kind, flags, body, attrs):
        self._send(kind, flags | Netlink.NLM_F_ACK,
                   body + b"".join(nlattr(*attr) for attr in attrs))
        answer = self.sock.recv(65536)
        assert struct.unpack_from("=H", answer, 4)[0] == Netlink.NLMSG_ERROR
        return -struct.unpack_from("=i", answer, 16)[0]

    def add(self, name, kind, netns, data=(), link=0, attrs=()):
        """ ip link add [link LINK] NAME [netns NETNS] type KIND """
        return self.request(RTM_NEWLINK, NEW,
                            (IFLA_IFNAME, name),
                            *([(IFLA_NET_NS_FD, netns)] if netns else []),
                            *([(IFLA_LINK, link)] if link else []), *attrs,
                            (IFLA_LINKINFO, [(IFLA_INFO_KIND, kind),
                                             (IFLA_INFO_DATA, list(data))]))

    def add_veth(self, name, netns, peer, peer_netns):
        """ ip link add NAME netns NETNS type veth peer PEER netns NETNS """
        return self.add(name, "veth", netns,
                        pair_data(VETH_INFO_PEER, peer, peer_netns))

    def delete(self, name, target_netnsid=None):
        """ ip link del NAME """
        attrs = [(IFLA_IFNAME, name)]
        if target_netnsid is not None:
            attrs.append((IFLA_TARGET_NETNSID, target_netnsid))
        return self.request(RTM_DELLINK, 0, *attrs)

    def delete_index(self, index):
        """ The same by index, for which ip has no words """
        return self.request(RTM_DELLINK, 0, index=index)

    def set_up(self, name):
        """ ip link set NAME up """
        return self.request(RTM_NEWLINK, 0, (IFLA_IFNAME, name), up=IFF_UP)

    def set_down(self, name):
        """ ip link set NAME down """
        return self.request(RTM_NEWLINK, 0, (IFLA_IFNAME, name), change=IFF_UP)

    def change(self, name, kind, data):
        """ ip link set NAME type KIND """
        return self.request(RTM_NEWLINK, 0, (IFLA_IFNAME, name),
                            (IFLA_LINKINFO, [(IFLA_INFO_KIND, kind),
                                             (IFLA_INFO_DATA, list(data))]))

    def address(self, index, address, add=True):
        """ ip addr add (or del) ADDRESS/32 dev INDEX, IPv4 only """
        body = struct.pack("=BBBBi", socket.AF_INET, 32, 0, 0, index)
        return self._ask(RTM_NEWADDR if add else RTM_DELADDR,
                         NEW if add else 0, body,
                         [(IFA_LOCAL, socket.inet_aton(address))])

    def route(self, index, dest, add=True):
        """ ip route add (or del) DEST/32 dev INDEX """
        # rtmsg: scope link, protocol static, type unicast
        body = struct.pack("=BBBBBBBBI", socket.AF_INET, 32, 0, 0,
                           RT_TABLE_MAIN, 4, 253, 1, 0)
        return self._ask(RTM_NEWROUTE if add else RTM_DELROUTE,
                         NEW if add else 0, body,
                         [(RTA_DST, socket.inet_aton(dest)),
                          (RTA_OIF, index)])

    def neighbour(self, index, address, add=True):
        """ ip neigh add (or del) ADDRESS nud noarp dev INDEX """
        body = struct.pack("=BBHiHBB", socket.AF_INET, 0, 0, index, 0x40, 0, 0)
        # One that was deleted stays while somebody refers to it
        return self._ask(RTM_NEWNEIGH if add else RTM_DELNEIGH,
                         REPLACE if add else 0, body,
                         [(NDA_DST, socket.inet_aton(address))])

    def rule(self, source, add=True):
        """ ip rule add (or del) from SOURCE/32 table main """
        body = struct.pack("=BBBBBBBBI", socket.AF_INET, 0, 32, 0,
                           RT_TABLE_MAIN, 0, 0, 1, 0)
        return self._ask(RTM_NEWRULE if add else RTM_DELRULE,
                         NEW if add else 0, body,
                         [(FRA_SRC, socket.inet_aton(source))])

    def show(self, index):
        """ ip link show dev INDEX """
        self._send(RTM_GETLINK, 0, _ifinfomsg(index))
        answer = self.sock.recv(65536)
        if struct.unpack_from("=H", answer, 4)[0] == Netlink.NLMSG_ERROR:
            return -struct.unpack_from("=i", answer, 16)[0]
        return 0

    def get(self, name):
        """ Flags and attributes of a device, or None: for once no number """
        self._send(RTM_GETLINK, 0, _ifinfomsg() + nlattr(IFLA_IFNAME, name))
        return next(((flags, attrs) for _, flags, attrs
                     in _links(self.sock.recv(65536))), None)

    def _dump(self, kind, body):
        """ Parts of the answer, as they come """
        self._send(kind, Netlink.NLM_F_DUMP, body)
        while True:
            data = self.sock.recv(65536)
            yield data
            for answer, rest in _messages(data):
                if answer in (Netlink.NLMSG_DONE, Netlink.NLMSG_ERROR):
                    err = struct.unpack_from("=i", rest)[0]
                    assert err == 0, strerror(-err)
                    return

    def dump(self):
        """ ip link. Returns the names. """
        return [_name(attrs) for data in self._dump(RTM_GETLINK, _ifinfomsg())
                for _, _, attrs in _links(data)]

    def dump_all(self, kind):
        """ Ask all families at once. Returns those that answer. """
        return {body[0] for data in self._dump(kind, bytes(12))
                for answer, body in _messages(data)
                if answer not in (Netlink.NLMSG_DONE, Netlink.NLMSG_ERROR)}

    def move(self, name, netns):
        """ ip link set NAME netns NETNS """
        return self.request(RTM_NEWLINK, 0, (IFLA_IFNAME, name),
                            (IFLA_NET_NS_FD, netns))


class Monitor(Rtnl):
    """
    What "ip monitor link" sees. A notification is in the socket before the
    command that causes it returns, so nothing here waits.
    """

    def _open(self):
        sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW,
                             socket.NETLINK_ROUTE)
        sock.bind((0, 1 << (RTNLGRP_LINK - 1)))
        sock.setblocking(False)
        return sock

    def events(self):
        """
        RTM_NEWLINK or RTM_DELLINK, and the name of the device, of all that was
        announced since last asked
        """
        found = []
        while True:
            try:
                data = self.sock.recv(65536)
            except BlockingIOError:
                return found
            found += [(kind, _name(attrs)) for kind, _, attrs in _links(data)]

    def deleted(self):
        """ Names of the devices that were announced dead since last asked """
        return deaths(self.events())


def deaths(events):
    """ Names of the devices that are announced dead by these events """
    return sorted(name for kind, name in events if kind == RTM_DELLINK)


class Nets:
    """
    Network namespaces by names that are short and stay, with a netlink socket
    in each, and what listens there. The name that "ip -n" knows is nets["a"],
    or just the attribute a.
    """

    def __init__(self, pool, *names):
        self.pool = pool
        self.nets = {}
        self.monitors = {}
        self.rtnl = {}
        # Pairs of namespaces, of which the first one knows the second one
        self.known = set()
        self.revive(*names)

    def __getattr__(self, name):
        try:
            return self.nets[name]
        except KeyError:
            raise AttributeError(name) from None

    def revive(self, *names):
        """ Make those that are not there (any more) """
        for name in names:
            if name not in self.nets:
                self.nets[name], = self.pool.add(name)
                self.monitors[name] = self.pool.monitor(self.nets[name])
                self.rtnl[name] = self.pool.rtnl(self.nets[name])

    def introduce(self, where, which, netnsid):
        """ Have a namespace known to another one by its netnsid """
        pair = self.nets[where], self.nets[which]
        if pair not in self.known:
            ip(f"netns set {pair[1]} {netnsid}", ns=pair[0])
            self.known.add(pair)

    def hold(self, *names):
        """ Namespaces that are to die, see Pool.hold() """
        for name in names:
            self.monitors.pop(name, None)
            del self.rtnl[name]
        return self.pool.hold(*(self.nets.pop(name) for name in names))

    def kill(self, *names):
        """ Let namespaces die, and wait until they have done so """
        self.hold(*names).close()
        self.pool.wait_freed()

    def ignore(self):
        """ Collect no notifications: too many would be an error """
        while self.monitors:
            self.monitors.popitem()[1].close()

    def watch(self):
        """ Collect notifications of all these namespaces from now on """
        self.ignore()
        for name, netns in self.nets.items():
            self.monitors[name] = self.pool.monitor(netns)

    def left(self):
        """ Devices that are there, by namespace, if there are any """
        names = {netns: name for name, netns in self.nets.items()}
        return {names.get(netns, netns): devs
                for netns, devs in self.pool.extra().items()}

    def deleted(self):
        """ Devices announced dead, by namespace, if there are any """
        return {name: devs for name, monitor in self.monitors.items()
                if (devs := monitor.deleted())}

    def check_left(self, comment="", **expected):
        """ Exactly these devices are there """
        ksft_eq(self.left(),
                {name: devs for name, devs in expected.items() if devs},
                f"wrong devices {comment}")

    def check_deleted(self, comment="", **announced):
        """ Exactly these were announced dead, to whom is left to hear it """
        ksft_eq(self.deleted(), {name: devs for name, devs in announced.items()
                                 if devs and name in self.monitors},
                f"wrong notifications {comment}")

    def check_gone(self, comment="", **announced):
        """ No device is left, and exactly these were announced dead """
        self.check_left(comment)
        self.check_deleted(comment, **announced)


class Nsim:
    """
    A netdevsim in a network namespace, while it is entered. If that dies,
    devlink takes it to our own. NetdevSimDev(ns=) wants a NetNS, and udev.
    """

    def __init__(self, netns, queues=1):
        if not shutil.which("devlink"):
            raise KsftSkipEx("there is no devlink")
        cmd("modprobe -q netdevsim", fail=False)
        if not os.path.exists("/sys/bus/netdevsim"):
            raise KsftSkipEx("the kernel has no netdevsim")
        self.num = random.randrange(1 << 15)
        NetdevSimDev.ctrl_write("new_device", f"{self.num} 1 {queues}")
        self.there = True
        try:
            path = f"/sys/bus/netdevsim/devices/netdevsim{self.num}/net"
            busywait(lambda: os.path.exists(path) and os.listdir(path),
                     "netdevsim has a port")
            before = devices(netns)
            cmd(f"devlink dev reload netdevsim/netdevsim{self.num} "
                f"netns {netns}")
            self.name, = devices(netns) - before
            self.index = ifindex(netns, self.name)
        except BaseException:
            self.remove()
            raise

    def remove(self):
        """ Die. Returns 0. """
        NetdevSimDev.ctrl_write("del_device", f"{self.num}")
        self.there = False
        return 0

    def __enter__(self):
        return self

    def __exit__(self, exc_type, exc_value, traceback):
        if self.there:
            self.remove()


class Trace:
    """
    The events of a group in an instance of tracefs, while it is entered.
    needs: a file of tracefs that the config provides. settings: what else to
    write into files of the instance.
    """

    def __init__(self, group, needs, config, **settings):
        if not os.path.isdir(f"{TRACING}/events"):
            cmd(f"mount -t tracefs none {TRACING}", fail=False)
        if not os.path.exists(f"{TRACING}/{needs}"):
            raise KsftSkipEx(f"no {needs}: not root, no tracefs, or no "
                             f"{config}")
        self.enable = f"events/{group}/enable"
        self.settings = settings
        self.instance = f"{TRACING}/instances/{group}-{os.getpid()}"

    def set(self, name, value):
        """ Write into a file of the instance """
        with open(f"{self.instance}/{name}", "w", encoding="ascii") as file:
            file.write(value)

    def lines(self, name="trace"):
        """ Lines of a file of the instance """
        with open(f"{self.instance}/{name}", encoding="ascii") as file:
            yield from file

    def __enter__(self):
        os.mkdir(self.instance)
        for name, value in self.settings.items():
            self.set(name, value)
        self.set(self.enable, "1")
        return self

    def __exit__(self, exc_type, exc_value, traceback):
        self.set(self.enable, "0")
        os.rmdir(self.instance)


class LockTrace(Trace):
    """ All events rtnl_net, while it is entered """

    def __init__(self, **settings):
        # Whatever clock the machine has: the order is what counts
        super().__init__("rtnl_net", "events/rtnl_net",
                         "CONFIG_NET_SMALL_RTNL", buffer_size_kb="16384",
                         trace_clock="counter", **settings)
        self.events = []
        self.took = 0

    def read(self):
        """ The events so far """
        for line in self.lines():
            if match := TRACE_LINE.match(line):
                yield (match["thread"], match["event"],
                       dict(TRACE_FIELD.findall(match["text"])))

    def __exit__(self, exc_type, exc_value, traceback):
        self.set(self.enable, "0")
        self.events = list(self.read())
        lost = sum(int(line.split()[-1])
                   for cpu in os.listdir(f"{self.instance}/per_cpu")
                   for line in self.lines(f"per_cpu/{cpu}/stats")
                   if line.startswith(("overrun:", "dropped")))
        super().__exit__(exc_type, exc_value, traceback)
        ksft_eq(lost, 0, "events were lost")

    def told(self, event, *names):
        """ The values of these fields, for each such event """
        return [tuple(fields[name] for name in names)
                for _, what, fields in self.events if what == event]


def most_at_once(trace, pids=None):
    """ How many threads, or how many of these, held RTNL at the same moment """
    inside, most = set(), 0
    for thread, event, fields in trace.events:
        if pids and int(thread.rpartition("-")[2]) not in pids:
            continue
        if event == "lock_acquired" and fields["net_inum"] == "0":
            inside.add(thread)
            most = max(most, len(inside))
        elif event == "lock_release" and fields["net_inum"] == "0":
            inside.discard(thread)
    return most


def tell_handlers():
    """ Say which handlers keep all sections exclusive """
    if os.path.exists(HANDLERS):
        with open(HANDLERS, encoding="ascii") as file:
            ksft_pr(f"handlers that are not audited: {file.read() or 'none'}")


@contextlib.contextmanager
def stretched(usecs):
    """ Have each shared section last that long """
    if not os.path.exists(DELAY):
        raise KsftSkipEx("no CONFIG_DEBUG_NET_SMALL_RTNL")
    try:
        with open(DELAY, "w", encoding="ascii") as file:
            file.write(str(usecs))
        yield
    finally:
        with open(DELAY, "w", encoding="ascii") as file:
            file.write("0")


def inum(netns):
    """ As the events have it """
    return str(os.stat(f"/run/netns/{netns}").st_ino)


def pr_outcomes(outcomes):
    """ Print how often each was how a race ended """
    ksft_pr(", ".join(f"{outcomes.count(outcome)} times {outcome}"
                      for outcome in sorted(set(outcomes))))


def ip_fails(args, message):
    """ A command that has to fail, and to say why """
    ret = cmd(f"ip {args}", fail=False, expect_fail=True)
    ksft_in(message, ret.stderr)


def encap_route(netns, dest, via, dev):
    """
    A route by way of a tunnel device, to the other end at via. Returns whether
    the kernel has such.
    """
    ret = cmd(f"ip -n {netns} route add {dest} encap ip id 1 dst {via} "
              f"dev {dev}", fail=False)
    if ret.ret and "CONFIG_LWTUNNEL" not in ret.stderr:
        raise OSError(ret.stderr)
    return ret.ret == 0


def udp_in_ip(source, dest, port, data):
    """ An IPv4 packet with a datagram, as it is inside of a tunnel """
    size = len(data) + 8
    words = [0x4500, size + 20, 0, 0, 0x4000 | socket.IPPROTO_UDP, 0,
             *struct.unpack("!4H", socket.inet_aton(source) +
                            socket.inet_aton(dest))]
    check = sum(words)
    while check >> 16:
        check = (check & 0xffff) + (check >> 16)
    words[5] = check ^ 0xffff
    return struct.pack("!14H", *words, port, port, size, 0) + data


def require_modules(*names):
    """ Skip a test that unloads these if one is not there or built in """
    for name in names:
        cmd(f"modprobe -q {name}", fail=False)
        if not os.path.exists(f"/sys/module/{name}/refcnt"):
            raise KsftSkipEx(f"{name} is not a module")


class NetnsFd:
    """ An open network namespace, for IFLA_NET_NS_FD """

    def __init__(self, netns):
        self.fd = os.open(f"/run/netns/{netns}", os.O_RDONLY)

    def __enter__(self):
        return self.fd

    def __exit__(self, exc_type, exc_value, traceback):
        os.close(self.fd)


def strerror(err):
    """ "ENODEV" for a number """
    return errno.errorcode.get(err, str(err)) if err else "success"
