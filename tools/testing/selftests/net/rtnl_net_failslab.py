#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0

"""
Devices across two network namespaces of which some allocation fails.

        A             B
    +-------+     +-------+
    |       |     |       |
    |  a ---|-----|-- b   |
    +-------+     +-------+

A command makes a device, changes or deletes it. It is done again and again,
and each time another one of its allocations fails, but none the last time:
that must succeed. All others do all or nothing: either the command fails and
the devices in both namespaces are as they were, or it succeeds and they are as
wanted. Names and ports are the same each time, so nobody may keep them.

Devices of each kind are made. The first allocations fail and the last, and
some of those between, others for each kind, as most are the core's. All of
them do for one kind, and for the commands that are not to make a device.

The answer itself may be what there is no memory for: then the command says
ENOBUFS, and may have been carried out or not, but not by half.

Moves are not among the commands: from a point on they cannot fail, and stock
warns when device_rename() or netdev_change_owner() has no memory.

Environment: FAILURES, how many allocations fail where not all do, or "all".
"""

import collections
import functools
import os
import socket
import subprocess
import time

from lib.py import KsftNamedVariant, KsftSkipEx, ksft_eq, ksft_exit, ksft_in, \
    ksft_lt, ksft_pr, ksft_run, ksft_variants
from rtnl_net_devs import KINDS, STACKED, make, present
from rtnl_net_lib import IFLA_LINK_NETNSID, Pool, Rtnl, devices, ipvlan_data, \
    setns, strerror

FAILURES = os.environ.get("FAILURES", "24")

FAILSLAB = "/sys/kernel/debug/failslab/"
SETTINGS = {"ignore-gfp-wait": "N", "cache-filter": "N", "verbose": "0"}
# More than any command has
MAX = 5000
# What B calls A
NSID = 7

# EINVAL is what a device in sysfs without memory for its name ends in, ENFILE
# what a socket without an inode does
ERRORS = ("success", "ENOMEM", "ENOBUFS", "EINVAL", "ENFILE")


class Injection:
    """ One allocation of this process will fail """

    def __init__(self):
        self.before = {}

    def __enter__(self):
        try:
            for name, value in SETTINGS.items():
                with open(FAILSLAB + name, encoding="ascii") as file:
                    self.before[name] = file.read()
                with open(FAILSLAB + name, "w", encoding="ascii") as file:
                    file.write(value)
            self.fd = os.open("/proc/thread-self/fail-nth", os.O_RDWR)
        except FileNotFoundError as ex:
            raise KsftSkipEx(f"no fault injection (CONFIG_FAILSLAB, "
                             f"CONFIG_FAULT_INJECTION_DEBUG_FS): {ex}") from ex
        return self

    def __exit__(self, exc_type, exc_value, traceback):
        os.close(self.fd)
        for name, value in self.before.items():
            with open(FAILSLAB + name, "w", encoding="ascii") as file:
                file.write(value)

    def run(self, num, func):
        """
        Run func() and let its num-th allocation fail. Return its error number,
        and how many more there would have had to be for that.
        """
        os.pwrite(self.fd, b"%d" % num, 0)
        try:
            err = func()
        except OSError as ex:
            # No memory for the request, or for the answer
            err = ex.errno
        finally:
            left = int(os.pread(self.fd, 20, 0))
            os.pwrite(self.fd, b"0", 0)
        return err, left


class Home:
    """ Two namespaces and what is in them """

    def __init__(self, pool, key):
        self.key = key
        self.kind = KINDS[key]
        self.lower = 0
        names = pool.add("a", "b")
        subprocess.run(["ip", "-n", names[1], "netns", "set", names[0],
                        str(NSID)], check=True)
        self.nets = [os.open(f"/run/netns/{name}", os.O_RDONLY)
                     for name in names]

    def __enter__(self):
        return self

    def __exit__(self, exc_type, exc_value, traceback):
        for fd in self.nets:
            os.close(fd)

    def rtnl(self, num):
        """ A socket in one of them, a new one each time """
        with setns(self.nets[num]):
            return Rtnl()

    def devices(self):
        """ Names of all devices in both """
        names = []
        for fd in self.nets:
            with setns(fd):
                names.append(sorted(devices()))
        return names

    # What is done, and from which of the two

    def make(self, rtnl):
        """ From A: a tunnel with its socket there, an upper on a, a pair """
        if not self.kind.local:
            return make(rtnl, self.key, "b", self.nets[1], 0, self.lower,
                        ("a", self.nets[0]))
        # In one command, as moves are not tested
        return rtnl.add("b", self.kind.kind, self.nets[1], self.kind.data(0),
                        attrs=[(IFLA_LINK_NETNSID, NSID)])

    def delete(self, rtnl):
        """ From B """
        return rtnl.delete("b")

    def delete_lower(self, rtnl):
        """ From A """
        return rtnl.delete("a")

    def change(self, rtnl):
        """ From B """
        return rtnl.change("b", self.key, ipvlan_data("l3"))

    def prepare(self, base, top):
        """ Bring about a state, whatever is there, and without failures """
        have = self.devices()
        with self.rtnl(0) as home, self.rtnl(1) as away:
            if self.kind.how == STACKED:
                if base and "a" not in have[0]:
                    ksft_eq(strerror(home.add_veth("a", self.nets[0], "c",
                                                   self.nets[0])), "success")
                    with setns(self.nets[0]):
                        self.lower = socket.if_nametoindex("a")
                if not base and "a" in have[0]:
                    ksft_eq(strerror(self.delete_lower(home)), "success")
            if top and "b" not in have[1]:
                ksft_eq(strerror(self.make(home)), "success")
            elif top and self.key == "ipvlan":
                ksft_eq(strerror(away.change("b", self.key,
                                             ipvlan_data("l2"))), "success")
            if not top and "b" in have[1]:
                ksft_eq(strerror(self.delete(away)), "success")
        return self.devices()

    def run(self, name, injection, num):
        """
        Do what a case is about and let an allocation fail. Return the error,
        how many more there would have had to be, and all devices.
        """
        command, netns = CASES[name][:2]
        with self.rtnl(netns) as rtnl:
            err, left = injection.run(num, lambda: command(self, rtnl))
        return strerror(err), left, self.devices()


CASES = {
    # The command, from which namespace, and what is there before and after:
    # the lower device, if there is one, and what goes across
    "make": (Home.make, 0, (True, False), (True, True)),
    "delete": (Home.delete, 1, (True, True), (True, False)),
    "change": (Home.change, 1, (True, True), (True, True)),
    "delete_lower": (Home.delete_lower, 0, (True, True), (False, False)),
}

# Those of which all allocations fail
FULL = [("veth", "delete"), ("bareudp", "delete"), ("ipvlan", "make"),
        ("ipvlan", "delete"), ("ipvlan", "change"), ("ipvtap", "delete_lower")]


@functools.cache
def found():
    """ The kinds that the kernel has """
    with Pool() as pool:
        return present(pool, KINDS)


def chosen(key, name, total):
    """ Which of so many allocations fail, and one more than there are """
    if FAILURES == "all" or (key, name) in FULL:
        # Not always are there as many
        return range(1, MAX)
    nums = range(1, total + 1)
    third = int(FAILURES) // 3 or 1
    step = total // third + 1
    return sorted({*nums[:third], *nums[-third:],
                   *nums[list(KINDS).index(key) % step::step], MAX})


@ksft_variants([KsftNamedVariant(f"{key}_{name}", key, name)
                for key in KINDS for name in CASES
                if name == "make" or (key, name) in FULL])
def fail(key, name):
    """ One command """
    if key not in found():
        raise KsftSkipEx(f"no {key} to test")
    seen = collections.Counter()
    start = time.monotonic()
    with Injection() as injection, Pool() as pool, Home(pool, key) as home:
        wanted = home.prepare(*CASES[name][3])
        home.prepare(*CASES[name][2])
        left = home.run(name, injection, MAX)[1]
        for num in chosen(key, name, MAX - left):
            first = home.prepare(*CASES[name][2])
            err, left, now = home.run(name, injection, num)
            what = f"after {err} for allocation {num}"
            ksft_in(err, ERRORS, f"wrong error {what}")
            if err == "success":
                ksft_eq(now, wanted, f"wrong devices {what}")
            elif err == "ENOBUFS":
                ksft_in(now, (first, wanted), f"wrong devices {what}")
            else:
                ksft_eq(now, first, f"wrong devices {what}")
            if left:
                break
            seen[err] += 1
        ksft_lt(0, left, "it never comes to an end")
        ksft_lt(0, seen.total(), "nothing failed")
        ksft_eq(err, "success", "it fails without a failure")
        home.prepare(*CASES[name][2])
    ksft_pr(f"{key} {name}: {seen.total()} of {num - left} allocations, "
            f"{dict(seen)}, {time.monotonic() - start:.0f} s")


def main():
    """ All of the above """
    ksft_run([fail])
    ksft_exit()


if __name__ == "__main__":
    main()
