#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0

"""
guest.py PLAN: in the guest, run the scenarios of a plan that bench.py
wrote, and print a line of JSON for each as soon as it is done.

A traced run also says what the kernel's own events counted while the scenario
was measured. Two sets of events:

lock:contention_begin/end, rcu:*, sched:sched_wakeup are in every kernel, so
they compare kernels. They tell how long threads waited for a mutex that another
one held, how many grace periods there were, how long threads waited for the
expedited ones, and how many wake-ups; not how long a mutex is held by whom
nobody waits for. RTNL counts as a mutex where it is a rw_semaphore, whose
writers do not say that they spin before they sleep.

rtnl_net:* are there if the kernel has our option. They tell wait and hold of
RTNL and of the mutexes of the namespaces, and what of the waiting for grace
periods was done with one of these held. Without them, those values are null.
Threads that share RTNL hold it at the same time, so the sum of their times may
be longer than the run. Such a thread has RTNL only together with the mutex of
its namespace, so the wait for RTNL holds that for the mutex. Acquisitions of
RTNL that keep all others out are counted by the function that calls for it.
"""

import collections
import json
import os
import re
import subprocess
import sys

TRACING = "/sys/kernel/tracing"
INSTANCE = f"{TRACING}/instances/rtnl_net_bench"

COMMON = ("lock/contention_begin", "lock/contention_end",
          "rcu/rcu_grace_period", "rcu/rcu_exp_grace_period",
          "rcu/rcu_barrier", "sched/sched_wakeup")

# Scenarios with a load generator of their own
OWN = {"cni": f"{os.path.dirname(os.path.abspath(__file__))}/cni_bench.py"}

LOCK_EVENTS = {
    "rtnl_net_lock_request": "request",
    "rtnl_net_lock_acquired": "acquired",
    "rtnl_net_lock_failed": "failed",
    "rtnl_net_lock_release": "release",
}

# Counts of events
COUNTED = {
    "gp_normal": "rcu_grace_period",
    "gp_expedited": "rcu_exp_grace_period",
    "gp_barrier": "rcu_barrier",
    "wakeups": "sched_wakeup",
}

LINE = re.compile(r"^\s*(?P<thread>.+-\d+)\s+\[\d+\]\s+\S+\s+"
                  r"(?P<time>\d+\.\d+): (?P<event>\w+): (?P<text>.*)$")
FIELD = re.compile(r"(\w+)=(\S+)")


def write(path, text):
    """ A file of tracefs """
    with open(path, "w", encoding="ascii") as file:
        file.write(text)


def total(values):
    """ Number, sum and longest of times in seconds, as ns """
    return {"count": len(values), "ns": round(sum(values) * 1e9),
            "max_ns": round(max(values, default=0) * 1e9)}


class Locks:
    """ Pairs up what threads say about locks, which may have many holders """

    def __init__(self, rtnl):
        self.rtnl = rtnl
        self.begun = {}
        self.held = collections.defaultdict(dict)
        self.contention = collections.defaultdict(list)
        self.wait = collections.defaultdict(list)
        self.hold = collections.defaultdict(list)
        self.gp_wait = []
        self.gp_wait_locked = []

    def is_rtnl(self, address):
        """ If its address is known """
        return self.rtnl is not None and int(address, 16) == self.rtnl

    def contention_begin(self, thread, time, text):
        """ A mutex spins first and then sleeps, and says so each time """
        address = text.split()[0]
        if "MUTEX" in text or self.is_rtnl(address):
            self.begun.setdefault((thread, address), time)

    def contention_end(self, thread, time, text):
        """ It has the lock, or gave up """
        address = text.split()[0]
        begin = self.begun.pop((thread, address), None)
        if begin is not None:
            self.contention[address].append(time - begin)

    def request(self, thread, time, lock):
        """ A thread wants it """
        self.begun[(thread, lock)] = time

    def acquired(self, thread, time, lock):
        """ and has it """
        begin = self.begun.pop((thread, lock), None)
        if begin is not None:
            self.wait[kind(lock)].append(time - begin)
        self.held[thread][lock] = time

    def failed(self, thread, _time, lock):
        """ and does not get it """
        self.begun.pop((thread, lock), None)

    def release(self, thread, time, lock):
        """ and no longer """
        begin = self.held[thread].pop(lock, None)
        if begin is not None:
            self.hold[kind(lock)].append(time - begin)

    def grace_period(self, thread, time, step):
        """ synchronize_rcu_expedited() says "snap" first and "done" last """
        if step == "snap":
            self.begun[(thread, None)] = time
            return
        begin = self.begun.pop((thread, None), None)
        if begin is None:
            return
        self.gp_wait.append(time - begin)
        if self.held[thread]:
            self.gp_wait_locked.append(time - begin)


def kind(lock):
    """ RTNL or a namespace's, by its net_inum """
    return "rtnl" if lock == "0" else "netns"


def summarise(lines, names, rtnl=None):
    """ What the lines of a trace come to, with the names of events that exist """
    count = collections.Counter()
    exclusive = collections.Counter()
    locks = Locks(rtnl)
    for line in lines:
        match = LINE.match(line)
        if not match:
            continue
        thread, event, text = match["thread"], match["event"], match["text"]
        time = float(match["time"])
        if event in ("contention_begin", "contention_end"):
            getattr(locks, event)(thread, time, text)
        elif event in LOCK_EVENTS:
            fields = dict(FIELD.findall(text))
            getattr(locks, LOCK_EVENTS[event])(thread, time,
                                               fields["net_inum"])
            if kind(fields["net_inum"]) == "rtnl" and \
                    fields.get("rtnl", "").startswith("exclusive"):
                exclusive[fields["caller"].partition("+")[0]] += 1
        elif event == "rcu_grace_period":
            count["gp_normal"] += text.split()[-1] == "start"
        elif event == "rcu_exp_grace_period":
            step = text.split()[-1]
            count["gp_expedited"] += step == "start"
            if step in ("snap", "done"):
                locks.grace_period(thread, time, step)
        elif event == "rcu_barrier":
            count["gp_barrier"] += text.split()[1] == "Begin"
        elif event == "sched_wakeup":
            count["wakeups"] += 1

    result = {name: count[name] if event in names else None
              for name, event in COUNTED.items()}
    mutexes = locks.contention.items()
    result["contended_rtnl"] = rtnl and total(
        [value for address, values in mutexes if locks.is_rtnl(address)
         for value in values])
    result["contended_other"] = total(
        [value for address, values in mutexes if not locks.is_rtnl(address)
         for value in values])
    if "contention_begin" not in names:
        result["contended_rtnl"] = result["contended_other"] = None
    ours = "rtnl_net_lock_acquired" in names
    for name in ("rtnl", "netns"):
        result[f"wait_{name}"] = total(locks.wait[name]) if ours else None
        result[f"hold_{name}"] = total(locks.hold[name]) if ours else None
    result["exclusive"] = dict(exclusive.most_common()) if ours else None
    rcu = "rcu_exp_grace_period" in names
    result["gp_wait"] = total(locks.gp_wait) if rcu else None
    result["gp_wait_locked"] = (total(locks.gp_wait_locked)
                                if rcu and ours else None)
    return result


class Trace:
    """ A tracing instance, which the load generator turns on and off """

    def __init__(self, rtnl):
        self.rtnl = rtnl
        os.mkdir(INSTANCE)
        write(f"{INSTANCE}/tracing_on", "0")
        write(f"{INSTANCE}/trace_clock", "mono")
        write(f"{INSTANCE}/buffer_size_kb", "32768")
        # Addresses as they are, to know RTNL's
        write(f"{INSTANCE}/options/hash-ptr", "0")
        self.names = []
        for event in COMMON:
            self._enable(event)
        ours = f"{TRACING}/events/rtnl_net"
        if os.path.isdir(ours):
            for name in sorted(os.listdir(ours)):
                if name in LOCK_EVENTS:
                    self._enable(f"rtnl_net/{name}")

    def _enable(self, event):
        path = f"{INSTANCE}/events/{event}/enable"
        if os.path.exists(path):
            write(path, "1")
            self.names.append(event.split("/")[1])

    def _overrun(self):
        lost = 0
        for cpu in os.listdir(f"{INSTANCE}/per_cpu"):
            with open(f"{INSTANCE}/per_cpu/{cpu}/stats",
                      encoding="ascii") as file:
                for line in file:
                    if line.startswith(("overrun:", "dropped events:")):
                        lost += int(line.split(":")[1])
        return lost

    def result(self):
        """ And start again """
        lost = self._overrun()
        try:
            if lost:
                return {"lost_events": lost}
            with open(f"{INSTANCE}/trace", encoding="ascii",
                      errors="replace") as file:
                return summarise(file, self.names, self.rtnl)
        finally:
            write(f"{INSTANCE}/trace", "")


def config():
    """ What the kernel's own configuration says that matters for times """
    text = subprocess.run(["zcat", "/proc/config.gz"], capture_output=True,
                          text=True, check=False).stdout
    wanted = re.compile(r"^(CONFIG_(?:HZ|PREEMPT|PREEMPT_(?:NONE|VOLUNTARY|LAZY|"
                        r"RT|DYNAMIC)|NET_SMALL_RTNL|DEBUG_NET_SMALL_RTNL|"
                        r"PROVE_LOCKING))=(.*)$", re.M)
    return dict(wanted.findall(text))


def machine():
    """ What it runs on """
    with open("/proc/meminfo", encoding="ascii") as file:
        memory = int(file.readline().split()[1])
    uts = os.uname()
    return {"release": uts.release, "arch": uts.machine,
            "cpus": os.cpu_count(), "memory_kb": memory, "config": config()}


def say(**fields):
    """ A line for bench.py """
    print(json.dumps(fields), flush=True)


def main():
    """ Run the plan """
    with open(sys.argv[1], encoding="ascii") as file:
        plan = json.load(file)
    say(machine=machine())
    trace = None
    if plan["trace"]:
        if os.path.isdir(f"{TRACING}/instances"):
            trace = Trace(plan["rtnl"])
        else:
            say(note="this kernel has no tracefs, so nothing is traced")
    for case in plan["cases"]:
        command = [OWN.get(case["args"][0], plan["generator"]), *case["args"], "-i"]
        if trace:
            command += ["-T", INSTANCE]
        done = subprocess.run(command, capture_output=True, text=True,
                              check=False)
        if done.returncode:
            say(key=case["key"], error=(done.stderr.strip() or
                                        f"it ended with {done.returncode}"))
            continue
        result = json.loads(done.stdout)
        if plan["trace"]:
            result["trace"] = trace.result() if trace else None
        say(key=case["key"], result=result)
    if trace:
        os.rmdir(INSTANCE)
    say(end=True)


if __name__ == "__main__":
    main()
