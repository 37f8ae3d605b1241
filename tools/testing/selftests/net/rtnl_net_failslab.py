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
and each time one more allocation passes before one fails, until none fails any
more: the last one must succeed. All others do all or nothing: either the
command fails and the devices in both namespaces are as they were, or it
succeeds and they are as wanted. Names and ports are the same each time, so
nobody may keep them.

The answer itself may be what there is no memory for: then the command says
ENOBUFS, and may have been carried out or not, but not by half.

Moves are not among the commands: from a point on they cannot fail, and stock
warns when device_rename() or netdev_change_owner() has no memory.

Environment: STEP, to let only every STEPth allocation fail.
"""

import collections
import os
import socket
import time

from lib.py import KsftNamedVariant, KsftSkipEx, ksft_eq, ksft_exit, ksft_in, \
    ksft_lt, ksft_pr, ksft_run, ksft_variants
from rtnl_net_lib import Pool, Rtnl, bareudp_data, devices, \
    ipvlan_data, setns, strerror

STEP = int(os.environ.get("STEP", "1"))

FAILSLAB = "/sys/kernel/debug/failslab/"
SETTINGS = {"ignore-gfp-wait": "N", "cache-filter": "N", "verbose": "0"}
# More than any command has
MAX = 5000

PORT = 6635
# EINVAL is what a device in sysfs without memory for its name ends in
ERRORS = ("success", "ENOMEM", "ENOBUFS", "EINVAL")


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
        and whether there were as many as that.
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
        return err, not left


class Home:
    """ Two namespaces and what is in them """

    def __init__(self, pool, kind):
        self.kind = kind
        self.upper = kind in ("ipvlan", "ipvtap")
        self.lower = 0
        self.nets = [os.open(f"/run/netns/{name}", os.O_RDONLY)
                     for name in pool.add("a", "b")]

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
        """ From A: a tunnel with its socket there, an upper on a, or a pair """
        if not self.upper:
            return self.make_base(rtnl)
        return rtnl.add("b", self.kind, self.nets[1], ipvlan_data("l2"),
                        self.lower)

    def make_base(self, rtnl):
        """ From A: that, or what an upper can be put on """
        if self.kind == "bareudp":
            return rtnl.add("b", "bareudp", self.nets[1],
                            bareudp_data(PORT))
        other = 0 if self.upper else 1
        return rtnl.add_veth("a", self.nets[0], "bc"[self.upper],
                             self.nets[other])

    def delete(self, rtnl):
        """ From B """
        return rtnl.delete("b")

    def delete_lower(self, rtnl):
        """ From A """
        return rtnl.delete("a")

    def change(self, rtnl):
        """ From B """
        return rtnl.change("b", self.kind, ipvlan_data("l3"))

    def prepare(self, base, top):
        """ Bring about a state, whatever is there, and without failures """
        have = self.devices()
        with self.rtnl(0) as home, self.rtnl(1) as away:
            if self.upper:
                if base and "a" not in have[0]:
                    ksft_eq(strerror(self.make_base(home)), "success")
                    with setns(self.nets[0]):
                        self.lower = socket.if_nametoindex("a")
                if not base and "a" in have[0]:
                    ksft_eq(strerror(self.delete_lower(home)), "success")
            if top and "b" not in have[1]:
                ksft_eq(strerror(self.make(home)), "success")
            elif top and self.upper:
                ksft_eq(strerror(away.change("b", self.kind,
                                             ipvlan_data("l2"))), "success")
            if not top and "b" in have[1]:
                ksft_eq(strerror(self.delete(away)), "success")
        return self.devices()


CASES = {
    # The command, from which namespace, and what is there before and after:
    # the lower device, if there is one, and what goes across
    "make": (Home.make, 0, (True, False), (True, True)),
    "delete": (Home.delete, 1, (True, True), (True, False)),
    "change": (Home.change, 1, (True, True), (True, True)),
    "delete_lower": (Home.delete_lower, 0, (True, True), (False, False)),
}


@ksft_variants([KsftNamedVariant(f"{kind}_{name}", kind, name)
                for kind, names in (("veth", ("make", "delete")),
                                    ("bareudp", ("make", "delete")),
                                    ("ipvlan", ("make", "change", "delete")),
                                    ("ipvtap", ("make", "delete_lower")))
                for name in names])
def fail(kind, name):
    """ One command """
    command, netns, before, after = CASES[name]
    seen = collections.Counter()
    start = time.monotonic()
    with Injection() as injection, Pool() as pool, Home(pool, kind) as home:
        # That also loads the module
        after = home.prepare(*after)
        before = home.prepare(*before)
        for num in range(1, MAX, STEP):
            with home.rtnl(netns) as rtnl:
                err, failed = injection.run(num, lambda: command(home, rtnl))
            err = strerror(err)
            now = home.devices()
            if not failed:
                break
            seen[err] += 1
            what = f"after {err} for allocation {num}"
            ksft_in(err, ERRORS, f"wrong error {what}")
            if err == "success":
                ksft_eq(now, after, f"wrong devices {what}")
            elif err == "ENOBUFS":
                ksft_in(now, (before, after), f"wrong devices {what}")
            else:
                ksft_eq(now, before, f"wrong devices {what}")
            if now != before or before == after:
                home.prepare(*CASES[name][2])
        ksft_lt(num, MAX - STEP, "it never comes to an end")
        ksft_eq(err, "success", "it fails without a failure")
        ksft_eq(now, after)
        ksft_pr(f"{kind} {name}: {num - 1} allocations, {dict(seen)}, "
                f"{time.monotonic() - start:.0f} s")


def main():
    """ All of the above """
    ksft_run([fail])
    ksft_exit()


if __name__ == "__main__":
    main()
