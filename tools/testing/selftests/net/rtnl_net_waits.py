#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0

"""
Count what the creation and the deletion of a device wait for RCU.

Both are asked for over netlink, and done by the thread that asks: its calls that
wait for a grace period, or for callbacks, are counted, and nobody else's.
"""

import os

from lib.py import NetNSEnter, cmd, ip, ksft_eq, ksft_exit, ksft_ge, ksft_run
from rtnl_net_lib import Pool, Trace, VETH_INFO_PEER, pair_data

IFLA_NUM_TX_QUEUES = 31
IFLA_NUM_RX_QUEUES = 32

ROUNDS = int(os.environ.get("ROUNDS", "5"))

# The first event of each call, in the thread that calls
CALLS = {
    ("rcu_barrier", "Begin"): "barrier",
    ("rcu_exp_grace_period", "snap"): "gp",
    ("rcu_sr_normal", "request"): "gp",
}


class RcuTrace(Trace):
    """ How often threads wait for RCU while it is entered """

    def __init__(self, **settings):
        super().__init__("rcu", "events/rcu/rcu_barrier", "CONFIG_RCU_TRACE",
                         **settings)
        self.count = {"barrier": 0, "gp": 0}

    def __exit__(self, exc_type, exc_value, traceback):
        self.set(self.enable, "0")
        for line in self.lines():
            for (event, what), name in CALLS.items():
                if f" {event}: " in line and what in line.split():
                    self.count[name] += 1
        super().__exit__(exc_type, exc_value, traceback)


def waits(func, *args):
    """ How often this thread waits in a function, that returns 0 """
    with RcuTrace(set_event_pid=str(os.getpid())) as trace:
        err = func(*args)
    ksft_eq(err, 0)
    return trace.count


def num_cpus():
    """ As many as there can be """
    with open("/sys/devices/system/cpu/possible", encoding="ascii") as file:
        return int(file.read().replace("-", ",").split(",")[-1]) + 1


def queues(netns, dev):
    """ The queues of a device: as in sysfs, and how many there can be. What a
    kernel tells of those that receive depends on CONFIG_RPS. """
    names = cmd(f"ls /sys/class/net/{dev}/queues", ns=netns).stdout.split()
    info = ip(f"-d link show {dev}", json=True, ns=netns)[0]
    return (len([name for name in names if name.startswith("tx-")]),
            info["num_tx_queues"])


def queues_of_a_pair():
    """ None is made to be removed. The first device decides for both """
    most = num_cpus()
    asked = [(IFLA_NUM_TX_QUEUES, 3), (IFLA_NUM_RX_QUEUES, 2)]
    with Pool() as pool:
        a, = pool.add("A")
        rtnl = pool.rtnl(a)
        with NetNSEnter(a), open("/proc/thread-self/ns/net",
                                 encoding="ascii") as fd:
            netns = fd.fileno()
            # What is said of each of the two, what queues it has then
            for first, second, has, peer_has in (
                    ([], [], (1, most), (1, most)),
                    (asked, [], (3, 3), (most, most)),
                    ([], asked, (1, most), (1, 3)),
                    (asked, asked, (3, 3), (3, 3))):
                ksft_eq(waits(rtnl.add, "a0", "veth", netns,
                              pair_data(VETH_INFO_PEER, "a1", netns, *second),
                              0, first), {"barrier": 0, "gp": 0})
                ksft_eq(queues(a, "a0"), has)
                ksft_eq(queues(a, "a1"), peer_has)
                ksft_eq(rtnl.delete("a0"), 0)


def barriers_of_a_deletion(*commands, sysctl=None):
    """ The fewest of some rounds, for a dummy after these commands """
    counts = []
    with Pool() as pool:
        a, = pool.add("A")
        if sysctl:
            cmd(f"sysctl -q -w {sysctl}", ns=a)
        rtnl = pool.rtnl(a)
        for _ in range(ROUNDS):
            ksft_eq(rtnl.add("d0", "dummy", None), 0)
            for command in commands:
                ip(command, ns=a)
            count = waits(rtnl.delete, "d0")
            # There is something to count
            ksft_ge(count["gp"], 1)
            counts.append(count["barrier"])
        ksft_eq(pool.extra(), {}, "devices are left")
    return min(counts)


def plain_device():
    """ No reference is left, so nothing waits for callbacks """
    ksft_eq(barriers_of_a_deletion(), 0)


def addresses():
    """ They put their references, and those of their routes, at once """
    ksft_eq(barriers_of_a_deletion("addr add 192.0.2.1/24 dev d0"), 0)
    # A message may be on its way. It holds the device, but not in each round.
    ksft_eq(barriers_of_a_deletion("addr add 192.0.2.1/24 dev d0",
                                   "addr add 2001:db8::1/64 dev d0",
                                   "link set d0 up"), 0)


def addresses_of_a_router():
    """ The same with the anycast addresses that a router has """
    ksft_eq(barriers_of_a_deletion("addr add 2001:db8::1/64 dev d0",
                                   "link set d0 up",
                                   sysctl="net.ipv6.conf.all.forwarding=1"), 0)


def pending_link_state():
    """ An end that has just got its carrier does not wait for callbacks, though
    link watch looks at it within a second only, and has a reference until then """
    counts = []
    with Pool() as pool:
        a, b = pool.add("A", "B")
        rtnl = pool.rtnl(a)
        with open(f"/run/netns/{b}", encoding="ascii") as fd:
            for _ in range(ROUNDS):
                ksft_eq(rtnl.add_veth("a0", None, "b0", fd.fileno()), 0)
                ip("link set b0 up", ns=b)
                ip("link set a0 up", ns=a)
                counts.append(waits(rtnl.delete, "a0")["barrier"])
        ksft_eq(pool.extra(), {}, "devices are left")
    ksft_eq(min(counts), 0)


def dead_namespace():
    """ The thread that frees it waits for callbacks once, not for its lo before """
    counts = []
    with Pool() as pool:
        for _ in range(ROUNDS):
            a, = pool.add("A")
            with RcuTrace() as trace:
                pool.kill(a)
                pool.wait_freed()
            counts.append(trace.count["barrier"])
    ksft_eq(min(counts), 1)


def main():
    """ Ksft boiler plate main """
    ksft_run([queues_of_a_pair, plain_device, addresses,
              addresses_of_a_router, pending_link_state,
              dead_namespace])
    ksft_exit()


if __name__ == "__main__":
    main()
