# SPDX-License-Identifier: GPL-2.0

"""
What bounds the throughput of a scenario, by the operational laws: no more
operations per second than 1 / the largest serial demand of one, and no more than
CPUs / its demand of CPU time. They need no model of arrivals or of service times.

A demand is seconds per operation. Serial is what only one thread at a time can
have: RTNL held exclusively, and, while it is shared, the mutex of a namespace. An
exclusive section keeps those with any mutex out, so the demand of a namespace is the
sum of both; the largest is that of init_net or of one of the others. How long RTNL is
held shared bounds nothing: it has many holders.

The lock events tell the serial demands, so these come from the traced boot and are
larger than without events. Operations per second and CPU time come from the boots
that are not traced, if these have the case, too. A kernel without lock events, that
with the option off, has the bound by CPU time only.
"""

import collections

CPUS = (2, 8, 64)

# What is counted, and how many of these a result has
OPERATIONS = {
    "setup": ("namespace", lambda result: result["namespaces"]),
    "churn": ("cycle", lambda result: result["cycles"]),
    "dismantle": ("namespace", lambda result: result["namespaces"] *
                  result["latency_ns"]["samples"]),
    "delete": ("command", lambda result: result["latency_ns"]["samples"]),
    "requests": ("request", lambda result: result["operations"]),
    # A creation, or a death
    "possible": ("operation", lambda result: result["latency_ns"]["samples"]),
    "cni": ("container", lambda result: result["operations"]),
    # Of the load: the bystander itself has no throughput, it waits most of the time
    "bystander": ("death", lambda result: result["cycles"] if result["load"] in
                  ("dismantle", "uppers") else 0),
}

Bound = collections.namedtuple("Bound", "rate by")


class Pool:
    """ Results of one case and kernel, as if they were one run """

    def __init__(self, results, cpus):
        count = OPERATIONS[results[0]["scenario"]][1] if results else None
        self.operations = sum(map(count, results)) if results else 0
        window = sum(result["window_ns"] for result in results)
        self.rate = self.operations * 1e9 / window if window else 0
        self.cpu = None
        if self.operations and all("idle_ns" in result for result in results):
            busy = cpus * window - sum(result["idle_ns"] for result in results)
            self.cpu = max(busy, 0) / self.operations / 1e9


class Demand:
    """ Of one case on one kernel: seconds for each operation """

    def __init__(self, traced, timed, cpus):
        self.unit = OPERATIONS[traced["scenario"]][0]
        self.traced = Pool([traced], cpus)
        self.timed = Pool(timed, cpus)
        self.cpus = cpus
        known = self.timed if self.timed.operations else self.traced
        self.rate = known.rate
        self.cpu = known.cpu
        serial = traced["trace"].get("serial")
        self.known = serial is not None
        serial = serial or dict.fromkeys(("exclusive", "init", "other", "others"),
                                         {"ns": 0, "gp_ns": 0, "count": 0})
        count = self.traced.operations * 1e9
        self.exclusive, self.init, self.other = (
            serial[name]["ns"] / count for name in ("exclusive", "init", "other"))
        self.others = serial["others"]["count"]
        largest = "init" if self.init >= self.other else "other"
        self.serial = self.exclusive + max(self.init, self.other)
        waits = (serial["exclusive"]["gp_ns"] + serial[largest]["gp_ns"]) / count
        self.waiting = waits / self.serial if self.serial else 0

    def _serial_by(self):
        if self.exclusive >= max(self.init, self.other):
            return "RTNL"
        return "init_net" if self.init >= self.other else "one netns"

    def _bound(self, cpu, cpus):
        bounds = []
        if self.serial:
            bounds.append(Bound(1 / self.serial, self._serial_by()))
        if cpu:
            bounds.append(Bound(cpus / cpu, "CPUs"))
        return min(bounds, default=None)

    def bound(self, cpus):
        """ Operations per second that so many CPUs are not going to exceed, or None """
        return self._bound(self.cpu, cpus)

    def faults(self):
        """ What was measured although it cannot be, in words """
        for pool, how in ((self.timed, "without events"), (self.traced, "with events")):
            bound = self._bound(pool.cpu, self.cpus) if pool.operations else None
            if bound and pool.rate > bound.rate:
                yield (f"{how}, {pool.rate:.4g} per second were measured, and "
                       f"{bound.rate:.4g} are the bound by {bound.by}" +
                       (f"; with events, {self.traced.rate:.4g} were measured"
                        if pool is self.timed else ""))


def demands(runs, machines):
    """ {key: {kernel: Demand}} of the traced cases that a kernel has lock events of """
    timed = collections.defaultdict(list)
    for run in runs:
        if not run["traced"]:
            timed[run["key"], run["kernel"]].append(run["result"])
    table = {}
    for run in runs:
        result = run["result"]
        trace = run["traced"] and result.get("trace")
        if trace and "lost_events" not in trace and \
                OPERATIONS[result["scenario"]][1](result):
            kernel = run["kernel"]
            table.setdefault(run["key"], {})[kernel] = Demand(
                result, timed[run["key"], kernel],
                machines.get(kernel, {}).get("cpus", 2))
    return {key: row for key, row in table.items()
            if any(demand.known for demand in row.values())}
