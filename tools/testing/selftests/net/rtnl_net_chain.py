#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0

"""
One deletion that goes through a chain of network namespaces.

      A             B             C             D
  +-------+     +-------+     +-------+     +-------+
  |       |     |       |     |  d2   |     |  d3   | ...
  |       |     |       |     |  |    |     |  |    |
  |  d0 --|--<>-|- d1 --|-----|--+----|-----|--+    |
  +-------+     +-------+     +-------+     +-------+
       veth pair      d2 is on top of d1, d3 on top of d2, ...

d1 dies with its peer d0, d2 with its lower d1, and so on. When the command
returns, all of them are gone, from names, lookups and notifications, and can
be made again; none of this is waited for. Each device from d2 on holds a
reference on the one below, so the one above has to be unregistered before the
one below can be freed, whichever namespaces they are in.
"""

from lib.py import KsftNamedVariant, ip, ksft_eq, ksft_exit, ksft_run, \
    ksft_variants
from rtnl_net_lib import NetNSEnter, Pool, busywait

MACVLAN = "macvlan mode bridge"
IPVLAN = "ipvlan mode l2"

# Kinds of d2, d3, ... A device can have 8 levels below it, itself included. A
# macvlan on a macvlan and an ipvlan on an ipvlan are put on what is below.
CHAINS = {
    "vlan": ["vlan"],
    "macvlan": [MACVLAN],
    "ipvlan": [IPVLAN],
    "vlan_macvlan": ["vlan", MACVLAN],
    "vlan_ipvlan": ["vlan", IPVLAN],
    "macvlan_vlan": [MACVLAN, "vlan"],
    "ipvlan_ipvlan": [IPVLAN, IPVLAN],
    "macvlan_macvlan": [MACVLAN, MACVLAN],
    "vlan_x7": ["vlan"] * 7,
    "mixed_x7": ["vlan", MACVLAN, "vlan", "vlan", MACVLAN, "vlan", IPVLAN],
}


class Chain:
    """ A chain of as many namespaces as it takes """

    def __init__(self, pool, kinds, up=False):
        self.pool = pool
        self.kinds = kinds
        self.up = up
        self.nets = pool.add(*["n"] * (len(kinds) + 2))

    def build(self):
        """ Fails if one of the names is in use """
        nets = self.nets
        ip(f"link add d0 type veth peer d1 netns {nets[1]}", ns=nets[0])
        for num, kind in enumerate(self.kinds, 2):
            if kind == "vlan":
                kind = f"vlan id {num}"
            ip(f"link add link d{num - 1} name d{num} netns {nets[num]} "
               f"type {kind}", ns=nets[num - 1])
        if self.up:
            self._up()

    def _up(self):
        for num, netns in enumerate(self.nets):
            ip(f"addr add 192.0.2.{num + 1}/24 dev d{num}", ns=netns)
            ip(f"link set d{num} up", ns=netns)
        for netns in self.nets:
            busywait(lambda netns=netns: self._settled(netns),
                     f"addresses in {netns} are settled")

    @staticmethod
    def _settled(netns):
        with NetNSEnter(netns), open("/proc/thread-self/net/if_inet6",
                                     encoding="ascii") as file:
            flags = [int(line.split()[4], 16) for line in file]
        # lo is down. 0x40 is IFA_F_TENTATIVE.
        return flags and not any(flag & 0x40 for flag in flags)

    def monitors(self):
        """ What tells who was announced dead, by number of the device """
        return [self.pool.monitor(netns) for netns in self.nets]


@ksft_variants([KsftNamedVariant(f"{name}{suffix}", kinds, up)
                for name, kinds in CHAINS.items()
                for suffix, up in (("", False), ("_up", True))
                if not up or len(kinds) != 2])
def delete(kinds, up):
    """ Delete the first device, twice in a row """
    with Pool() as pool:
        chain = Chain(pool, kinds, up)
        monitors = chain.monitors()
        for _ in range(2):
            chain.build()
            for monitor in monitors:
                monitor.deleted()
            ip("link del d0", ns=chain.nets[0])
            ksft_eq(pool.extra(), {}, "devices are left")
            for num, monitor in enumerate(monitors):
                ksft_eq(monitor.deleted(), [f"d{num}"], "wrong notifications")


def delete_tree():
    """ Many uppers on d1, each in its own namespace """
    with Pool() as pool:
        first, second = pool.add("n", "n")
        uppers = pool.add(*["u"] * 9)
        for _ in range(2):
            ip(f"link add d0 type veth peer d1 netns {second}", ns=first)
            for num, netns in enumerate(uppers, 2):
                kind = f"vlan id {num}" if num % 2 else MACVLAN
                ip(f"link add link d1 name d2 netns {netns} type {kind}",
                   ns=second)
            ip("link del d0", ns=first)
            ksft_eq(pool.extra(), {}, "devices are left")


@ksft_variants([
    # Which namespaces of the chain die
    KsftNamedVariant("first", slice(0, 1)),
    KsftNamedVariant("second", slice(1, 2)),
    KsftNamedVariant("third", slice(2, 3)),
    KsftNamedVariant("first_half", slice(0, 5)),
    KsftNamedVariant("second_half", slice(5, None)),
    KsftNamedVariant("every_other", slice(0, None, 2)),
    KsftNamedVariant("all", slice(0, None)),
])
def netns_death(which):
    """
    Some namespaces die together. What was above their devices, or was the
    peer, is gone when they are, and the rest of the chain can be deleted.
    """
    kinds = CHAINS["mixed_x7"]
    with Pool() as pool:
        chain = Chain(pool, kinds)
        nets = list(chain.nets)
        chain.build()
        dead = nets[which]
        pool.kill(*dead)
        pool.wait_freed()

        # d1 dies with d0, and the other way round
        lowest = nets.index(dead[0])
        gone = 0 if lowest < 2 else lowest
        ksft_eq(pool.extra(),
                {netns: [f"d{num}"] for num, netns in enumerate(nets)
                 if num < gone}, "wrong devices are left")
        if gone:
            ip("link del d0", ns=nets[0])
            ksft_eq(pool.extra(), {}, "devices are left")

        # All names are free where there still is a namespace
        chain.nets = [pool.add("n")[0] if netns in dead else netns
                      for netns in nets]
        chain.build()
        ip("link del d1", ns=chain.nets[1])
        ksft_eq(pool.extra(), {}, "devices of the second chain are left")


def netns_death_one_by_one():
    """ All namespaces die, in a row, without waiting for each other """
    with Pool() as pool:
        for step in (1, -1):
            chain = Chain(pool, CHAINS["mixed_x7"])
            chain.build()
            for netns in chain.nets[::step]:
                pool.kill(netns)
            pool.wait_freed()


def main():
    """ All of the above """
    ksft_run([delete, delete_tree, netns_death, netns_death_one_by_one])
    ksft_exit()


if __name__ == "__main__":
    main()
