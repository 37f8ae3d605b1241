#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0

"""
Test that requests of different namespaces share RTNL.

Each request for an address, a route, a rule, a neighbour, a nexthop, a sysctl or
the state of a link holds RTNL shared, as the trace events tell, and two
namespaces are inside at once. What such requests leave behind is what they leave
one after the other, also while devices come, go and move elsewhere.
"""

import os
import subprocess

from lib.py import KsftSkipEx, ip, ksft_eq, ksft_exit, ksft_pr, ksft_run, \
    ksft_true
from rtnl_net_lib import LockTrace, Pool, Rtnl, at_once, ifindex, inum

ROUNDS = int(os.environ.get("ROUNDS", "20"))

HANDLERS = "/sys/kernel/debug/rtnl/handlers"
SYSCTL = "sysctl -qw net"

# In a namespace with the device d0, which is up
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
}


def exclusive(trace):
    """ Who held RTNL exclusively for a namespace's sake, and why """
    return sorted({(fields["caller"].split("+")[0], fields["rtnl"])
                   for thread, event, fields in trace.events
                   if event == "lock_acquired" and fields["net_inum"] == "0"
                   and fields["rtnl"] != "shared"
                   # ip asks first whether there is such a request
                   and not fields["caller"].startswith("rtnl_newlink+")
                   and thread.startswith(("ip-", "sysctl-"))})


def requests_hold_rtnl_shared():
    """ No request of the table holds RTNL exclusively """
    with Pool() as pool:
        (netns,) = pool.add("A")
        ip("link add d0 type dummy", ns=netns)
        ip("link set d0 up", ns=netns)
        ip("link set lo up", ns=netns)
        # What the new device has others do
        ip("link show dev d0", ns=netns)
        for name, lines in REQUESTS.items():
            with LockTrace() as trace:
                for line in lines:
                    subprocess.run(f"ip netns exec {netns} {line}".split(),
                                   check=True, stdout=subprocess.DEVNULL)
            ksft_eq(exclusive(trace), [], name)
            shared = [caller for caller, rtnl, net in
                      trace.told("lock_acquired", "caller", "rtnl", "net_inum")
                      if rtnl == "shared" and net == inum(netns)]
            ksft_true(shared, f"{name} takes no lock at all")


def change_addresses(netns, times):
    """ Add and delete the same address again and again """
    index = ifindex(netns, "d0")
    with Rtnl(netns) as rtnl:
        for _ in range(times):
            for add in (True, False):
                if rtnl.address(index, "192.0.2.1", add):
                    return 1
    return 0


def most_at_once(trace):
    """ How many threads held RTNL at the same moment """
    inside, most = set(), 0
    for thread, event, fields in trace.events:
        if event == "lock_acquired" and fields["net_inum"] == "0":
            inside.add(thread)
            most = max(most, len(inside))
        elif event == "lock_release" and fields["net_inum"] == "0":
            inside.discard(thread)
    return most


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


def main():
    """ All cases """
    if os.path.exists(HANDLERS):
        with open(HANDLERS, encoding="ascii") as file:
            ksft_pr(f"handlers that are not audited: {file.read() or 'none'}")
    ksft_run([requests_hold_rtnl_shared, namespaces_are_inside_at_once,
              requests_beside_each_other])
    ksft_exit()


if __name__ == "__main__":
    main()
