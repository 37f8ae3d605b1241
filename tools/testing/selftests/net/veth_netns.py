#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0

"""
Delete veth pairs whose ends are in different network namespaces, in every way
that there is, and vxcan pairs in some.

       A                B           C: where ends are moved to
   +---------+     +---------+      Z: where commands come from that concern
   |   a0    |     |   b0    |         only other namespaces; it knows A and B
   +----|----+     +----|----+         by netnsids
        +-------<>------+

When the command returns, both ends are gone, each namespace has its RTM_DELLINK,
and the names are free: none of these checks waits. Only the death of a
namespace is waited for, as "ip netns del" returns before it.

Environment: ROUNDS of deletions and creations with the same names, RACES of
two processes
"""

import errno
import os
import random
import subprocess

from lib.py import KsftNamedVariant, KsftSkipEx, cmd, ip, ksft_disruptive, \
    ksft_eq, ksft_exit, ksft_in, ksft_pr, ksft_run, ksft_true, ksft_variants
from rtnl_net_lib import Nets, NetnsFd, Pool, at_once, devices, ifindex, \
    ip_fails, require_modules, strerror

ROUNDS = int(os.environ.get("ROUNDS", "1000"))
RACES = int(os.environ.get("RACES", "20"))
NETNSID = {"a": 100, "b": 200}


class Setup(Nets):
    """ The namespaces, with what listens in them """

    def __init__(self, pool, kind="veth"):
        super().__init__(pool, "a", "b", "c", "z")
        self.kind = kind
        for end, netnsid in NETNSID.items():
            self.introduce("z", end, netnsid)

    def add(self):
        """ Make the pair. Fails if anything has these names. """
        ip(f"link add a0 netns {self.a} type {self.kind} "
           f"peer b0 netns {self.b}", ns=self.z)

    def check_names_free(self):
        """ The same pair can be made and deleted again, at once """
        self.add()
        ksft_in("a0", devices(self.a))
        ksft_in("b0", devices(self.b))
        ip("link del a0", ns=self.a)
        self.check_left("after the second pair")


def _del_a(s):
    ip("link del a0", ns=s.a)


def _del_b(s):
    ip("link del b0", ns=s.b)


def _del_index(s):
    err = s.rtnl["b"].delete_index(ifindex(s.b, "b0"))
    ksft_eq(strerror(err), "success")


def _del_altname(s):
    ip("link property add b0 altname the-other-name-of-b0", ns=s.b)
    ip("link del the-other-name-of-b0", ns=s.b)


def _del_group(s):
    ip("link set b0 group 7", ns=s.b)
    ip("link del group 7", ns=s.b)


def _del_group_both_ends(s):
    ip("link set a0 group 7", ns=s.a)
    ip("link set b0 group 7", ns=s.b)
    ip("link del group 7", ns=s.a)


def _del_target_netnsid(s):
    ksft_eq(strerror(s.rtnl["z"].delete("b0", NETNSID["b"])), "success")


def _del_up(s):
    ip("addr add 192.0.2.1/24 dev a0", ns=s.a)
    ip("link set a0 up", ns=s.a)
    ip("link set b0 up", ns=s.b)
    ip("link del b0", ns=s.b)


@ksft_variants([
    KsftNamedVariant("by_name_from_a", _del_a),
    KsftNamedVariant("by_name_from_b", _del_b),
    KsftNamedVariant("by_index", _del_index),
    KsftNamedVariant("by_altname", _del_altname),
    KsftNamedVariant("by_group", _del_group),
    KsftNamedVariant("by_group_of_both_ends", _del_group_both_ends),
    KsftNamedVariant("by_target_netnsid", _del_target_netnsid),
    KsftNamedVariant("while_up", _del_up),
])
def delete(func):
    """ One command deletes the pair """
    with Pool() as pool:
        s = Setup(pool)
        s.add()
        s.deleted()
        func(s)
        s.check_gone(a=["a0"], b=["b0"])
        s.check_names_free()


@ksft_variants([
    KsftNamedVariant("by_name_from_a", _del_a),
    KsftNamedVariant("by_name_from_b", _del_b),
    KsftNamedVariant("by_group_of_both_ends", _del_group_both_ends),
    KsftNamedVariant("with_netns", None),
])
def delete_vxcan(func):
    """ The same for vxcan, which shares how a pair is deleted """
    with Pool() as pool:
        s = Setup(pool, "vxcan")
        ret = cmd(f"ip -n {s.z} link add z0 type vxcan peer z1", fail=False)
        if "Unknown device type" in ret.stderr:
            raise KsftSkipEx("the kernel has no vxcan")
        ip("link del z0", ns=s.z)
        s.add()
        s.deleted()
        if func:
            func(s)
            s.check_gone(a=["a0"], b=["b0"])
        else:
            s.kill("a")
            s.check_gone(b=["b0"])
            s.revive("a")
        s.check_names_free()


def delete_group_same_netns():
    """ Both ends in one namespace and in the group that is deleted """
    with Pool() as pool:
        s = Setup(pool)
        ip("link add a0 type veth peer a1", ns=s.a)
        ip(f"link add a2 type veth peer b2 netns {s.b}", ns=s.a)
        for dev in ("a0", "a1", "a2"):
            ip(f"link set {dev} group 7", ns=s.a)
        s.deleted()
        ip("link del group 7", ns=s.a)
        s.check_gone(a=["a0", "a1", "a2"], b=["b2"])
        s.check_names_free()


def delete_after_move():
    """ An end is moved to a third namespace, then either end is deleted """
    with Pool() as pool:
        s = Setup(pool)
        for netns, dev in ((s.c, "a0"), (s.b, "b0")):
            s.add()
            ip(f"link set a0 netns {s.c}", ns=s.a)
            ksft_in("a0", devices(s.c))
            s.deleted()
            ip(f"link del {dev}", ns=netns)
            s.check_gone(c=["a0"], b=["b0"])
        s.check_names_free()


def delete_after_swap():
    """ Each end is moved to where the other one was """
    with Pool() as pool:
        s = Setup(pool)
        s.add()
        ip(f"link set a0 netns {s.b}", ns=s.a)
        ip(f"link set b0 netns {s.a}", ns=s.b)
        s.deleted()
        ip("link del a0", ns=s.b)
        s.check_gone(a=["b0"], b=["a0"])
        s.check_names_free()


@ksft_variants([
    KsftNamedVariant("of_a", "a", "b", "b0"),
    KsftNamedVariant("of_b", "b", "a", "a0"),
])
def netns_death(dies, lives, dev):
    """ The other end goes when a namespace dies, and its name is free """
    with Pool() as pool:
        s = Setup(pool)
        s.add()
        s.deleted()
        s.kill(dies)
        s.check_gone(**{lives: [dev]})
        s.revive(dies)
        s.check_names_free()


def netns_death_of_both():
    """ No namespace is left that hears of it, and both have to go """
    with Pool() as pool:
        s = Setup(pool)
        s.add()
        s.kill("a", "b")
        s.check_gone()


def netns_death_and_delete():
    """ The other end is deleted while a namespace dies with its own """
    with Pool() as pool:
        s = Setup(pool)
        outcomes = set()
        for _ in range(RACES):
            s.add()
            s.deleted()
            s.hold("a").close()
            outcomes.add(strerror(s.rtnl["b"].delete("b0")))
            # Either way it is gone, and announced once
            s.check_gone(b=["b0"])
            s.revive("a")
        ksft_true(outcomes <= {"success", "ENODEV"}, outcomes)


@ksft_disruptive
def rmmod():
    """ The module goes, and with it pairs between many namespaces """
    require_modules("veth")
    with Pool() as pool:
        s = Nets(pool, *(f"m{num}" for num in range(8)))
        names = list(s.nets.values())
        for num, name in enumerate(names):
            ip(f"link add next type veth peer prev netns {names[num - 1]}",
               ns=name)
            ip("link set next up", ns=name)
        s.deleted()
        subprocess.run(["rmmod", "veth"], check=True)
        s.check_gone(**{name: ["next", "prev"] for name in s.nets})
        ip(f"link add next type veth peer prev netns {names[1]}", ns=names[0])
        ip("link del next", ns=names[0])


def race_both_ends():
    """ Two processes, each in its namespace, delete the two ends """
    with Pool() as pool:
        s = Setup(pool)
        for _ in range(RACES):
            s.add()
            s.deleted()
            errs = at_once(lambda: s.rtnl["a"].delete("a0"),
                           lambda: s.rtnl["b"].delete("b0"))
            # One may find its end dead already, not both
            ksft_in(0, errs)
            ksft_true(set(errs) <= {0, errno.ENODEV}, errs)
            s.check_gone(a=["a0"], b=["b0"])
        s.check_names_free()


def race_move():
    """ One end moves while the other one is deleted """
    with Pool() as pool:
        s = Setup(pool)
        moved = 0
        for _ in range(RACES):
            s.add()
            s.deleted()
            with NetnsFd(s.c) as netns:
                err_move, err_delete = at_once(
                    lambda: s.rtnl["a"].move("a0", netns),
                    lambda: s.rtnl["b"].delete("b0"))
            ksft_eq(strerror(err_delete), "success")
            ksft_in(strerror(err_move), ["success", "ENODEV"])
            # A move is announced as a death in the old namespace
            s.check_gone(a=["a0"], b=["b0"], c=[] if err_move else ["a0"])
            moved += not err_move
        ksft_pr(f"the move came first in {moved} of {RACES} rounds")
        s.check_names_free()


@ksft_variants([
    # what is in the way and where, options of either end, the error
    KsftNamedVariant("name_taken", "a", "a0", "", "", "File exists"),
    KsftNamedVariant("peer_name_taken", "b", "b0", "", "", "File exists"),
    # Both ends are registered when it is found out
    KsftNamedVariant("bad_master", None, None, "master lo", "",
                     "not supported"),
    # The peer is registered, and cannot be up without the other end
    KsftNamedVariant("peer_up", None, None, "", "up", "not connected"),
])
def newlink_fails(where, name, option, peer_option, message):
    """ Nothing is left of a half-built pair, in neither namespace """
    with Pool() as pool:
        s = Setup(pool)
        if where:
            ip(f"link add {name} type dummy", ns=s.nets[where])
        before = pool.extra()
        for _ in range(3):
            ip_fails(f"-n {s.z} link add a0 {option} netns {s.a} type veth "
                     f"peer b0 netns {s.b} {peer_option}", message)
            ksft_eq(pool.extra(), before, "devices are left")
        if where:
            ip(f"link del {name}", ns=s.nets[where])
        s.check_names_free()


def names_free():
    """ Delete from a random side, create again with the same names """
    with Pool() as pool:
        s = Setup(pool)
        s.ignore()
        rng = random.Random(1)
        with NetnsFd(s.a) as fd_a, NetnsFd(s.b) as fd_b:
            for num in range(ROUNDS):
                err = s.rtnl["z"].add_veth("a0", fd_a, "b0", fd_b)
                if err:
                    break
                dev = rng.choice(("a0", "b0"))
                err = s.rtnl[dev[0]].delete(dev)
                if err:
                    break
            ksft_eq(strerror(err), "success", f"in round {num}")
        s.check_gone()


def main():
    """ All of the above """
    ksft_run([delete, delete_vxcan, delete_group_same_netns,
              delete_after_move, delete_after_swap, netns_death,
              netns_death_of_both, netns_death_and_delete, race_both_ends,
              race_move, newlink_fails, names_free, rmmod])
    ksft_exit()


if __name__ == "__main__":
    main()
