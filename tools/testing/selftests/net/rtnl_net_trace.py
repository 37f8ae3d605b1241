#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0

"""
Test the trace events rtnl_net:* against what is known to happen.

      A             B             C
   +------+      +-------+     +------+
   |  a0--|--<>--|--b0   |     |      |
   +------+      |   |   |     |      |
                 |   +---|-----|--i0  |
                 +-------+     +------+

a0 and b0 are a veth pair, i0 is an ipvlan on top of b0. Deleting a0 kills b0 on
behalf of A, and that kills i0 on behalf of B. The events have to tell just
that; and those of the locks have to come in pairs, with one holder at a time, or
several that share RTNL.
"""

import contextlib
import os
import re
import time
from collections import Counter

from lib.py import NetNSEnter, ip, ksft_eq, ksft_exit, ksft_ge, ksft_gt, \
    ksft_in, ksft_run, ksft_true
from rtnl_net_lib import LockTrace, Pool, at_once, inum

# ns, with HZ=100
TICK = 10 * 1000 * 1000
ROUNDS = int(os.environ.get("ROUNDS", "20"))

# A lock function of the kernel is not what called it
LOCK_FUNCTIONS = re.compile(r"_*rtnl_(net_)?(try|un)?lock(_killable)?\+")


def add_pair(netns, peer):
    """ a0 and b0, up """
    ip(f"link add a0 type veth peer name b0 netns {peer}", ns=netns)
    ip("link set a0 up", ns=netns)
    ip("link set b0 up", ns=peer)


@contextlib.contextmanager
def traced_deletion(chain):
    """ The events of a deletion, with the numbers of the namespaces """
    with Pool() as pool:
        nets = pool.add("A", "B", "C")
        add_pair(nets[0], nets[1])
        if chain:
            ip(f"link add link b0 name i0 netns {nets[2]} type ipvlan",
               ns=nets[1])
        with LockTrace() as trace:
            begin = time.monotonic_ns()
            ip("link del a0", ns=nets[0])
            trace.took = time.monotonic_ns() - begin
        ksft_eq(pool.extra(), {}, "devices are left")
        yield trace, [inum(name) for name in nets]


def devices_of_a_chain():
    """ Who queued what, where it drained, that it was reaped """
    with traced_deletion(chain=True) as (trace, (a, b, c)):
        queued = trace.told("queued", "dev", "kind", "from_inum", "home_inum",
                            "how")
        ksft_eq(sorted(queued), [("a0", "veth", a, a, "claimed"),
                                 ("b0", "veth", b, b, "claimed"),
                                 ("i0", "ipvlan", b, c, "pending")])
        ksft_eq(trace.told("drained", "net_inum", "count"),
                [(b, "1"), (c, "1")])
        # What was pending was so during the command, give or take a tick
        for wait, in trace.told("drained", "wait_ns"):
            ksft_ge(trace.took + TICK, int(wait))
        ksft_eq(sorted(trace.told("reaped", "dev", "home_inum")),
                [("a0", a), ("b0", b), ("i0", c)])


def locks_of_a_deletion():
    """ RTNL, A's mutex and B's in the order of locks, and nothing of C """
    with traced_deletion(chain=False) as (trace, (a, b, c)):
        me = next(thread for thread, event, _ in trace.events
                  if event == "queued")
        order = [(event, fields["net_inum"]) for thread, event, fields
                 in trace.events if thread == me and event.startswith("lock_")]
        # ip asks A for other things before
        at_b = order.index(("lock_acquired", b))
        first = max(num for num, what in enumerate(order[:at_b])
                    if what == ("lock_request", "0"))
        last = order.index(("lock_release", "0"), at_b)
        inner, outer = (a, b) if ("lock_acquired", a) in order[at_b:last] \
            else (b, a)
        ksft_eq(order[first:last + 1],
                [("lock_request", "0"), ("lock_acquired", "0"),
                 ("lock_request", outer), ("lock_acquired", outer),
                 ("lock_request", inner), ("lock_acquired", inner),
                 ("lock_release", inner), ("lock_release", outer),
                 ("lock_release", "0")])
        ksft_true(("lock_acquired", c) not in order)


def write_sysctl(netns):
    """ It tries RTNL, and starts again if it does not get it """
    with NetNSEnter(netns):
        for num in range(10 * ROUNDS):
            with open("/proc/sys/net/ipv6/conf/all/disable_ipv6", "w",
                      encoding="ascii") as file:
                file.write(str(num % 2))
    return 0


def delete_pairs(netns, peer):
    """ Deletions one after the other """
    for _ in range(ROUNDS):
        add_pair(netns, peer)
        ip("link del a0", ns=netns)
    return 0


def check_locks(events):
    """ What is odd about them; what was under way at the start is left out """
    state, owner, holders, exclusive = {}, {}, set(), False
    after = {"lock_request": (None, "lock_release", "lock_failed"),
             "lock_acquired": ("lock_request",),
             "lock_failed": ("lock_request",),
             "lock_release": ("lock_acquired",)}
    for thread, event, fields in events:
        if event not in after:
            continue
        net = fields["net_inum"]
        was = state.get((thread, net))
        seen = was is not None or event == "lock_request"
        # refcount_dec_and_rtnl_lock() has no request
        counted = event == "lock_acquired" and net == "0" and \
            was != "lock_acquired"
        if seen and not counted and was not in after[event]:
            yield f"{thread}: {event} of {net} after {was}"
        if event == "lock_acquired" and net == "0":
            shared = fields["rtnl"] == "shared"
            if holders and (exclusive or not shared):
                yield f"RTNL is of {holders} and {thread}"
            exclusive = not shared
            holders.add(thread)
        elif event == "lock_acquired":
            if net in owner:
                yield f"{net} is of {owner[net]} and {thread}"
            if holders and thread not in holders:
                yield f"{thread}: {net} without RTNL"
            owner[net] = thread
        elif event == "lock_release" and net == "0":
            holders.discard(thread)
        elif event == "lock_release":
            owner.pop(net, None)
        if LOCK_FUNCTIONS.match(fields["caller"]):
            yield f"{event} names {fields['caller']} as its caller"
        state[thread, net] = event


def locks_come_in_pairs():
    """ Request, acquired or failed, release; holders; a caller of worth """
    with Pool() as pool:
        a, b, c, d, e = pool.add("A", "B", "C", "D", "E")
        with LockTrace() as trace:
            ksft_eq(at_once(lambda: delete_pairs(a, b),
                            lambda: delete_pairs(c, d),
                            lambda: write_sysctl(e)), [0, 0, 0])
        ksft_eq(list(check_locks(trace.events))[:10], [])
        count = Counter(event for _, event, _ in trace.events)
        ksft_gt(count["lock_acquired"], 2 * ROUNDS)
        ksft_gt(count["lock_failed"], 0)
        callers = {caller.split("+")[0] for caller, in
                   trace.told("lock_acquired", "caller")}
        ksft_in("rtnl_dellink", callers)


def main():
    """ All cases """
    ksft_run([devices_of_a_chain, locks_of_a_deletion, locks_come_in_pairs])
    ksft_exit()


if __name__ == "__main__":
    main()
