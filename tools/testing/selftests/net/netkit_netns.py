#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0

"""
Delete netkit devices across network namespaces: pairs, single ones, and those
that lease queues of a device which dies.

       P              B              C           D: where b0 is moved to
   +--------+     +--------+     +--------+
   |  phys  |<----|-- b0 --|-----|-- c0   |
   +--------+     +--------+     +--------+

phys is a netdevsim, the lessor. The lessee, b0, dies with phys, and so does
b0's peer, c0. When the command returns, all of them are gone, and each netns
has one RTM_DELLINK for each of its devices: none of these checks waits. Only
the death of a netns is waited for. If the lessee dies, its queues of phys can
be leased again.

Environment: RACES of two processes
"""

import contextlib
import errno
import itertools
import os
import random
import time

from lib.py import KsftNamedVariant, KsftSkipEx, NetNSEnter, NetdevFamily, \
    NlError, ip, ksft_eq, ksft_exit, ksft_in, ksft_run, ksft_variants
from rtnl_net_lib import Nets, NetnsFd, Nsim, Pool, at_once, ifindex, \
    pair_data, pr_outcomes, strerror, while_dying

RACES = int(os.environ.get("RACES", "3"))
NETNSID_P = 100
QUEUES = 4

IFLA_MASTER = 10
IFLA_NUM_RX_QUEUES = 32
IFLA_NETKIT_PEER_INFO = 1
IFLA_NETKIT_PAIRING = 10
NETKIT_DEVICE_SINGLE = 1


class Setup(Nets):
    """ The namespaces, with what listens in them """

    def __init__(self, pool):
        super().__init__(pool, "p", "b", "c")
        self.phys = None
        # Commands come from a netns that is none of these
        self.here = pool.rtnl(None)

    def add_pair(self, dev="b0", home="b", peer="c0", away="c", *attrs):
        """ A pair, of which the first end can lease. Returns the error. """
        with NetnsFd(self.nets[home]) as fd, \
                NetnsFd(self.nets[away]) as away_fd:
            return self._add(peer, away_fd, pair_data(
                IFLA_NETKIT_PEER_INFO, dev, fd, (IFLA_NUM_RX_QUEUES, QUEUES)),
                *attrs)

    def add_single(self, dev="b0", home="b"):
        """ One that has no peer """
        with NetnsFd(self.nets[home]) as fd:
            return self._add(dev, fd, [(IFLA_NETKIT_PAIRING,
                                        NETKIT_DEVICE_SINGLE)],
                             (IFLA_NUM_RX_QUEUES, QUEUES))

    def _add(self, dev, fd, data, *attrs):
        err = self.here.add(dev, "netkit", fd, data, attrs=attrs)
        if err == errno.EOPNOTSUPP and IFLA_MASTER not in dict(attrs):
            raise KsftSkipEx("the kernel has no netkit")
        return err

    def add(self, home="b", away="c", up=False):
        """ b0, and c0 unless it is single. Succeeds. """
        err = self.add_pair("b0", home, "c0", away) if away else \
            self.add_single("b0", home)
        assert not err, strerror(err)
        for dev, where in (("b0", home), ("c0", away)):
            if up and where:
                ip(f"link set {dev} up", ns=self.nets[where])
        self.deleted()

    def left(self):
        """ The same, but for phys """
        return self._hide_phys(super().left())

    def deleted(self):
        """ The same, but for phys """
        return self._hide_phys(super().deleted())

    def _hide_phys(self, found):
        if not self.phys:
            return found
        return {name: rest for name, devs in found.items() if (rest := [
            dev for dev in devs if (name, dev) != ("p", self.phys.name)])}

    @contextlib.contextmanager
    def lessor(self):
        """ phys, up """
        with Nsim(self.p, QUEUES) as phys:
            ip(f"link set {phys.name} up", ns=self.p)
            self.phys = phys
            yield phys
        self.phys = None

    def leased(self):
        """ Which queues of phys are leased """
        with NetNSEnter(self.p), NetdevFamily() as nl:
            queues = nl.queue_get({"ifindex": self.phys.index}, dump=True)
        return sorted(queue["id"] for queue in queues if "lease" in queue)

    @contextlib.contextmanager
    def lessee(self, home="b"):
        """ What lets b0 lease a queue of phys, by its number """
        self.introduce(home, "p", NETNSID_P)
        with NetNSEnter(self.nets[home]):
            family = NetdevFamily()
        index = ifindex(self.nets[home], "b0")
        with family:
            yield lambda queue: family.queue_create({
                "ifindex": index, "type": "rx",
                "lease": {"ifindex": self.phys.index,
                          "queue": {"id": queue, "type": "rx"},
                          "netns-id": NETNSID_P}})

    def lease(self, *queues, home="b"):
        """ b0 leases queues of phys. Succeeds. """
        with self.lessee(home) as lease:
            try:
                for queue in queues:
                    lease(queue)
            except NlError as err:
                if -err.nl_msg.error == errno.EOPNOTSUPP:
                    raise KsftSkipEx("the kernel has no leases") from err
                raise


@ksft_variants([
    KsftNamedVariant("delete", lambda s: ip("link del b0", ns=s.b)),
    KsftNamedVariant("netns_death", lambda s: s.kill("b")),
])
def single(func):
    """ A device without a peer dies alone """
    with Pool() as pool:
        s = Setup(pool)
        s.add(away=None, up=True)
        func(s)
        s.check_gone(b=["b0"])


def group():
    """ Both ends, one, and single ones are deleted at the same time """
    with Pool() as pool:
        s = Setup(pool)
        for err in (s.add_pair("b0", "b", "b1", "b"),
                    s.add_pair("b2", "b", "c2", "c"),
                    s.add_pair("c3", "c", "b3", "b"),
                    s.add_single("b4", "b"), s.add_single("b5", "b")):
            ksft_eq(strerror(err), "success")
        for num in range(5):
            ip(f"link set b{num} group 7", ns=s.b)
        s.deleted()
        ip("link del group 7", ns=s.b)
        s.check_left(b=["b5"])
        s.check_deleted(b=[f"b{num}" for num in range(5)], c=["c2", "c3"])


def failed_add():
    """ One end cannot be made, or only too late: nothing is left of it """
    with Pool() as pool:
        s = Setup(pool)
        for letter, dev in (("b", "b0"), ("c", "c0")):
            ip(f"link add {dev} type dummy", ns=s.nets[letter])
            ksft_eq(strerror(s.add_pair()), "EEXIST")
            s.check_left(**{letter: [dev]})
            ip(f"link del {dev}", ns=s.nets[letter])
        # The loopback device is no master, which is found out at the end
        err = s.add_pair("b0", "b", "c0", "c", (IFLA_MASTER, 1))
        ksft_eq(strerror(err), "ENOTSUP")
        s.check_left()
        s.add()
        s.check_left(b=["b0"], c=["c0"])


HOMES = {"apart": ("b", "c"), "lessee_at_lessor": ("p", "c"),
         "peer_at_lessor": ("b", "p"), "all_in_one": ("p", "p"),
         "single": ("b", None)}


@ksft_variants([
    KsftNamedVariant(f"{name}_{dies or 'removed'}", home, away, dies)
    for (name, (home, away)), dies in itertools.product(
        HOMES.items(), ["", "p", "pb", "pbc"])
    if name == "apart" or not dies])
def lessor_dies(home, away, dies):
    """ phys is removed, or its namespace dies, maybe along with others """
    with Pool() as pool:
        s = Setup(pool)
        with s.lessor() as phys:
            s.add(home, away, up=bool(dies))
            s.lease(1, 2, home=home)
            ksft_eq(s.leased(), [1, 2])
            if dies:
                s.kill(*dies)
            else:
                phys.remove()
            expected = {home: ["b0"]}
            if away:
                expected.setdefault(away, []).append("c0")
            s.check_gone(**expected)


def many_lessees():
    """ Devices of several namespaces lease the queues of one """
    with Pool() as pool:
        s = Setup(pool)
        with s.lessor() as phys:
            s.add("b", "c")
            s.lease(1, home="b")
            s.revive("d")
            s.add("d", None)
            s.lease(2, home="d")
            # Not a lessee, it stays
            ksft_eq(strerror(s.add_pair("b7", "b", "c7", "c")), "success")
            ksft_eq(s.leased(), [1, 2])
            s.deleted()
            phys.remove()
            s.check_left(b=["b7"], c=["c7"])
            s.check_deleted(b=["b0"], c=["c0"], d=["b0"])


def _move_and_delete(s):
    s.revive("d")
    ip(f"link set b0 netns {s.d}", ns=s.b)
    ip("link del b0", ns=s.d)


@ksft_variants([
    KsftNamedVariant("lessee_deleted", lambda s: ip("link del b0", ns=s.b)),
    KsftNamedVariant("peer_deleted", lambda s: ip("link del c0", ns=s.c)),
    KsftNamedVariant("lessee_moved", _move_and_delete),
    KsftNamedVariant("netns_of_lessee", lambda s: s.kill("b")),
    KsftNamedVariant("netns_of_peer", lambda s: s.kill("c")),
    KsftNamedVariant("netns_of_both", lambda s: s.kill("b", "c")),
])
def lessee_dies(func):
    """ phys lives on, and its queues can be leased again """
    with Pool() as pool:
        s = Setup(pool)
        with s.lessor() as phys:
            s.add()
            s.lease(1, 2)
            ksft_eq(s.leased(), [1, 2])
            func(s)
            s.check_left()
            ksft_eq(s.leased(), [])
            s.revive("b", "c")
            s.add()
            s.lease(2)
            ksft_eq(s.leased(), [2])
            phys.remove()
            s.check_gone(b=["b0"], c=["c0"])


def _race_lease(s, phys):
    def remove():
        # So that neither is always the first one
        time.sleep(random.random() * 0.01)
        return phys.remove()

    def lease_all():
        for num in range(1, QUEUES):
            try:
                lease(num)
            except NlError as err:
                assert -err.nl_msg.error in (errno.ENODEV, errno.EINVAL), err
                return num - 1
        return QUEUES - 1

    with s.lessee() as lease:
        err, leased = at_once(remove, lease_all)
    ksft_eq(err, 0)
    ksft_in(leased, range(QUEUES))
    if not leased:
        # They knew nothing of each other
        s.check_left(b=["b0"], c=["c0"])
        s.check_deleted()
        ip("link del b0", ns=s.b)
    s.check_gone(b=["b0"], c=["c0"])
    return f"{leased} leased"


def _race_delete(s, phys):
    s.lease(1)
    letter, dev = random.choice([("b", "b0"), ("c", "c0")])
    failed, err = at_once(phys.remove, lambda: s.rtnl[letter].delete(dev))
    ksft_eq(failed, 0)
    ksft_in(strerror(err), ["success", "ENODEV"])
    s.check_gone(b=["b0"], c=["c0"])
    return f"{dev} {strerror(err)}"


def _race_move(s, phys):
    s.lease(1)
    s.revive("d")
    with NetnsFd(s.d) as fd:
        failed, err = at_once(phys.remove, lambda: s.rtnl["b"].move("b0", fd))
    ksft_eq(failed, 0)
    ksft_in(strerror(err), ["success", "ENODEV"])
    # To B, it is gone either way
    s.check_gone(b=["b0"], c=["c0"], d=[] if err else ["b0"])
    return strerror(err)


def _race_death(letters):
    def race(s, phys):
        s.lease(1)
        ksft_eq(while_dying(s.hold(*letters), phys.remove), [0])
        s.pool.wait_freed()
        s.check_gone(b=["b0"], c=["c0"])
        s.revive(*letters)
        return "dead"
    return race


@ksft_variants([
    KsftNamedVariant("lease", _race_lease),
    KsftNamedVariant("delete", _race_delete),
    KsftNamedVariant("move_lessee", _race_move),
    KsftNamedVariant("netns_of_lessee_dies", _race_death("b")),
    KsftNamedVariant("netns_of_both_dies", _race_death("bc")),
])
def race_lessor_dies(func):
    """ phys is removed while something else happens """
    with Pool() as pool:
        s = Setup(pool)
        outcomes = []
        for _ in range(RACES):
            with s.lessor() as phys:
                s.add()
                outcomes.append(func(s, phys))
                # It was another process that removed it
                phys.there = False
        pr_outcomes(outcomes)


def main():
    """ All of the above """
    ksft_run([single, group, failed_add, lessor_dies, many_lessees,
              lessee_dies, race_lessor_dies])
    ksft_exit()


if __name__ == "__main__":
    main()
