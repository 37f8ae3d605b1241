#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0

"""
Count the grace periods that the death of N network namespaces costs.

      host             1         2               N
   +---------------+  +-----+   +-----+         +-----+
   | v1 v2 ... vN  |  | eth |   | eth |   ...   | eth |
   +-|--|-------|--+  +--|--+   +--|--+         +--|--+
     +--|-------|---<>---+         |               |
        +-------|----<>------------+               |
                +------<>--------------------------+

However many namespaces die at once, it is one batch: the calls that wait for
a grace period, made by whichever kernel thread, must not grow with N. They are
counted, not timed, and printed for comparison with other kernels:

   gp N=10 sync=... exp=... barrier=...

To have N namespaces in one batch, another one, with a lot in it, dies first.
Meanwhile the others die, and are all there when the worker comes back for more.

Environment: SIZES, the values of N, smallest first
"""

import os

from lib.py import KsftFailEx, ip, ksft_eq, ksft_exit, ksft_gt, ksft_pr, \
    ksft_run
from rtnl_net_lib import NetnsFd, Pool, TRACING, Trace, strerror

SIZES = [int(size) for size in os.environ.get("SIZES", "10 100").split()]

COUNTED = {
    "sync": "synchronize_rcu",
    "exp": "synchronize_rcu_expedited",
    "barrier": "rcu_barrier",
}
# Called by cleanup_net() for each namespace of a batch
EACH = {"netns": "__ns_common_free"}


class BatchTrace(Trace):
    """ Records when batches begin and end, and the calls of functions """

    GROUP = "rtnl_net_dismantle"
    EVENTS = ("begin", "end", *COUNTED, *EACH)

    def __init__(self):
        super().__init__(self.GROUP, "kprobe_events", "CONFIG_KPROBE_EVENTS")

    @staticmethod
    def _probe(text):
        # Appended, as there may be others, but open(..., "a") would seek
        fd = os.open(f"{TRACING}/kprobe_events", os.O_WRONLY | os.O_APPEND)
        try:
            os.write(fd, text.encode() + b"\n")
        finally:
            os.close(fd)

    def __enter__(self):
        self._probe(f"p:{self.GROUP}/begin cleanup_net")
        self._probe(f"r:{self.GROUP}/end cleanup_net")
        for name, func in (COUNTED | EACH).items():
            self._probe(f"p:{self.GROUP}/{name} {func}")
        return super().__enter__()

    def __exit__(self, exc_type, exc_value, traceback):
        super().__exit__(exc_type, exc_value, traceback)
        for name in self.EVENTS:
            self._probe(f"-:{self.GROUP}/{name}")

    def clear(self):
        """ Forget what was recorded """
        self.set("trace", "")

    def events(self):
        """
        Pairs of the thread and the event, in order. A line of the trace is:
           kworker/u8:2-34   [001] ...1.   12.345678: sync: (...)
        """
        for line in self.lines():
            if not line.startswith("#"):
                words = line.split()
                name = next(word for word in words[2:]
                            if word.rstrip(":") in self.EVENTS)
                yield words[0], name.rstrip(":")

    def batches(self):
        """
        For each batch that is over, the number of each event. Other kernel
        threads may work for cleanup_net(), so theirs count as well.
        """
        done = []
        calls = {}
        worker = None
        for thread, name in self.events():
            if name == "begin":
                worker = thread
                calls = dict.fromkeys((*COUNTED, *EACH), 0)
            elif name == "end":
                if worker:
                    done.append(calls)
                worker = None
            elif worker and (thread == worker or
                             name in COUNTED and thread.startswith("kworker")):
                calls[name] += 1
        return done

    def started(self):
        """ How many batches have begun """
        return sum(name == "begin" for _, name in self.events())


def add_links(pool, host, names):
    """ A veth pair between the host and each of the namespaces, up """
    rtnl = pool.rtnl(host)
    with NetnsFd(host) as host_fd:
        for num, name in enumerate(names):
            with NetnsFd(name) as fd:
                err = rtnl.add_veth(f"v{num}", host_fd, "eth", fd)
            ksft_eq(strerror(err), "success")
            ksft_eq(strerror(rtnl.set_up(f"v{num}")), "success")


def die_at_once(trace, pool, host, size):
    """ Let that many namespaces die, return the numbers of their batch """
    big, = pool.add("big")
    for num in range(20):
        ip(f"link add d{num} type veth peer p{num}", ns=big)
    names = pool.add(*["n"] * size)
    add_links(pool, host, names)

    pool.wait_freed()
    held_big = pool.hold(big)
    held = pool.hold(*names)
    trace.clear()
    held_big.close()
    while not trace.started():
        pass
    held.close()
    pool.wait_freed()
    ksft_eq(pool.extra(), {}, "devices are left on the host")

    batches = trace.batches()
    ksft_pr(f"batches: {[batch['netns'] for batch in batches]}")
    return max(batches, key=lambda batch: batch["netns"])


def measure(trace, pool, host, size):
    """ The same, until it was one batch """
    for _ in range(5):
        calls = die_at_once(trace, pool, host, size)
        if calls["netns"] >= size:
            ksft_pr(f"gp N={size} " +
                    " ".join(f"{name}={calls[name]}" for name in COUNTED))
            return calls
    raise KsftFailEx(f"never saw {size} namespaces in one batch")


def grace_periods():
    """ The number does not depend on how many namespaces die """
    with BatchTrace() as trace, Pool() as pool:
        host, = pool.add("host")
        results = [measure(trace, pool, host, size) for size in SIZES]
        for size, calls in zip(SIZES[1:], results[1:]):
            # One call or two may be another thread's, or depend on timing. A
            # call for each namespace, or for every tenth of them, may not.
            more = (size - SIZES[0]) // 10
            for name in COUNTED:
                ksft_gt(results[0][name] + more, calls[name],
                        f"calls of {COUNTED[name]} grow with N={size}")


def main():
    """ The one case """
    ksft_run([grace_periods])
    ksft_exit()


if __name__ == "__main__":
    main()
