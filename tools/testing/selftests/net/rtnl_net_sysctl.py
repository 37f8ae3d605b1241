#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0

"""
Write sysctls of a device again and again while a deletion in another network
namespace takes it down.

       A              B           Z
   +-------+      +-------+   +-------+
   |  a0 --|--<>--|-- b0  |   |       |
   +-------+      +-------+   +-------+
   writers of     deletes     makes the pair, deletes b0
   conf/a0/*      b0          by its netnsid

Unregistering a device waits for its sysctl handlers to return, and some of
these take RTNL. A handler whose rtnl_unlock() unregistered the device would
wait for itself.

Each round makes the pair, waits until every writer has written, and deletes the
pair from B or Z. Nothing may hang, and the pair has to be gone when the command
returns. The same is done with an ipvlan a0 whose lower device is in B.

Environment: ROUNDS
"""

import multiprocessing
import os

from lib.py import KsftNamedVariant, NetNSEnter, ip, ksft_eq, ksft_exit, \
    ksft_pr, ksft_run, ksft_variants
from rtnl_net_lib import NetnsFd, Pool, busywait, ifindex, ipvlan_data, \
    strerror

ROUNDS = int(os.environ.get("ROUNDS", "40"))
NETNSID_B = 100


class Writer:
    """ A process that writes values to a file in turn, if it is there """

    def __init__(self, netns, path, values):
        self.path = path
        self.values = values
        self.stop = multiprocessing.Event()
        self.writes = multiprocessing.Value("L", 0, lock=False)
        self.proc = multiprocessing.Process(target=self._run, args=(netns,))
        self.proc.start()

    def _run(self, netns):
        with NetNSEnter(netns):
            while not self.stop.is_set():
                for value in self.values:
                    self._write(value)

    def _write(self, value):
        try:
            with open(self.path, "w", encoding="ascii") as file:
                file.write(value)
        except OSError:
            # No device yet, or no more
            return
        self.writes.value += 1

    def end(self):
        """ Let the process end after this write """
        self.stop.set()
        self.proc.join()


def wait_for_writes(writers):
    """ Wait until each of them has written once more """
    before = [writer.writes.value for writer in writers]
    busywait(lambda: all(writer.writes.value > first
                         for writer, first in zip(writers, before)),
             "every writer has written")


def _conf(family, name, *values):
    return (f"/proc/sys/net/{family}/conf/a0/{name}", values)


@ksft_variants([
    KsftNamedVariant("disable_ipv6",
                     [_conf("ipv6", "disable_ipv6", "1", "0")] * 4),
    KsftNamedVariant("ipv6",
                     [_conf("ipv6", "disable_ipv6", "1", "0"),
                      _conf("ipv6", "forwarding", "1", "0"),
                      _conf("ipv6", "proxy_ndp", "1", "0"),
                      _conf("ipv6", "mtu", "1300", "1400"),
                      _conf("ipv6", "addr_gen_mode", "1", "0")]),
    KsftNamedVariant("ipv4",
                     [_conf("ipv4", "forwarding", "1", "0"),
                      _conf("ipv4", "promote_secondaries", "1", "0"),
                      _conf("ipv4", "proxy_arp", "1", "0")]),
])
def write_while_dying(files):
    """ Writers in A, deletions in B and in Z """
    with Pool() as pool:
        net_a, net_b, net_z = pool.add("a", "b", "z")
        ip(f"netns set {net_b} {NETNSID_B}", ns=net_z)
        rtnl_a, rtnl_b, rtnl_z = map(pool.rtnl, (net_a, net_b, net_z))
        writers = [Writer(net_a, *file) for file in files]
        try:
            with NetnsFd(net_a) as fd_a, NetnsFd(net_b) as fd_b:
                for num in range(ROUNDS):
                    err = rtnl_z.add_veth("a0", fd_a, "b0", fd_b)
                    ksft_eq(strerror(err), "success", f"in round {num}")
                    rtnl_a.set_up("a0")
                    wait_for_writes(writers)
                    err = (rtnl_z.delete("b0", NETNSID_B) if num % 2 else
                           rtnl_b.delete("b0"))
                    ksft_eq(strerror(err), "success", f"in round {num}")
                    ksft_eq(pool.extra(), {}, f"in round {num}")
        finally:
            for writer in writers:
                writer.end()
        total = sum(writer.writes.value for writer in writers)
        ksft_pr(f"{total} writes in {ROUNDS} rounds")


def write_while_lower_dies():
    """ a0 is an ipvlan on low, which is deleted in B """
    with Pool() as pool:
        net_a, net_b = pool.add("a", "b")
        rtnl_a, rtnl_b = map(pool.rtnl, (net_a, net_b))
        writers = [Writer(net_a, *_conf("ipv6", "disable_ipv6", "1", "0"))
                   for _ in range(3)]
        try:
            with NetnsFd(net_a) as fd_a, NetnsFd(net_b) as fd_b:
                for num in range(ROUNDS):
                    err = rtnl_b.add("low", "dummy", fd_b)
                    ksft_eq(strerror(err), "success", f"in round {num}")
                    err = rtnl_b.add("a0", "ipvlan", fd_a, ipvlan_data("l2"),
                                     link=ifindex(net_b, "low"))
                    ksft_eq(strerror(err), "success", f"in round {num}")
                    rtnl_a.set_up("a0")
                    wait_for_writes(writers)
                    err = rtnl_b.delete("low")
                    ksft_eq(strerror(err), "success", f"in round {num}")
                    ksft_eq(pool.extra(), {}, f"in round {num}")
        finally:
            for writer in writers:
                writer.end()


def netns_death_while_writing():
    """ B dies, and with it the pair """
    with Pool() as pool:
        net_a, = pool.add("a")
        rtnl_a = pool.rtnl(net_a)
        writers = [Writer(net_a, *_conf("ipv6", "disable_ipv6", "1", "0"))
                   for _ in range(3)]
        try:
            for _ in range(max(ROUNDS // 4, 1)):
                net_b, = pool.add("b")
                ip(f"link add a0 type veth peer b0 netns {net_b}", ns=net_a)
                rtnl_a.set_up("a0")
                wait_for_writes(writers)
                pool.kill(net_b)
                pool.wait_freed()
                ksft_eq(pool.extra(), {})
        finally:
            for writer in writers:
                writer.end()


def main():
    """ All of the above """
    ksft_run([write_while_dying, write_while_lower_dies,
              netns_death_while_writing])
    ksft_exit()


if __name__ == "__main__":
    main()
