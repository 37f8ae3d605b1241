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

rtnl_net:* are there if the kernel has our option, or is stock with
stock-events.patch. They tell wait and hold of RTNL and of the mutexes of the
namespaces, and what of the waiting for grace periods was done with one of these
held. Without them, those values are null.
Threads that share RTNL hold it at the same time, so the sum of their times may
be longer than the run. Such a thread has RTNL only together with the mutex of
its namespace, so the wait for RTNL holds that for the mutex. Acquisitions of
RTNL that keep all others out are counted by the function that calls for it.

"serial" is the time that only one thread at a time can have, see Serial.
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
          "rcu/rcu_sr_normal", "rcu/rcu_barrier", "sched/sched_wakeup")
# What the load generator writes where a time that is measured begins and ends
MARKER = "tracing_mark_write"
# NET_NS_INIT_INO, for who has no /proc of a guest
INIT_NET = 0xeffffff9

# Scenarios with a load generator of their own
OWN = {"cni": f"{os.path.dirname(os.path.abspath(__file__))}/cni_bench.py"}

LOCK_EVENTS = {
    "rtnl_net_lock_request": "request",
    "rtnl_net_lock_acquired": "acquired",
    "rtnl_net_lock_failed": "failed",
    "rtnl_net_lock_release": "release",
}

SERIAL_EVENTS = ("rtnl_net_lock_acquired", "rtnl_net_lock_release")

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

    def window(self):
        """ Nothing is known of what happened before """
        self.begun.clear()
        self.held.clear()

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


class Serial:
    """
    What stands in line: one section at a time can hold RTNL exclusively, and one
    can hold the mutex of a namespace while RTNL is shared. Exclusive sections hold
    such mutexes as well; nobody else is there to want these, so that this counts as
    RTNL. A section that was under way when the time that is measured began does not
    count, one that was not over when that ended does as far as it got.
    """

    def __init__(self, init_net):
        self.init_net = str(init_net)
        self.held = collections.defaultdict(dict)
        self.begun = {}
        self.time = collections.Counter()
        self.waits = collections.Counter()

    def window(self, text, time):
        """ It begins or ends """
        if text == "end":
            for thread, held in self.held.items():
                self._waited(thread, time)
                for name, begin in held.items():
                    self.time[name] += time - begin
        self.held.clear()
        self.begun.clear()

    def _name(self, fields):
        if fields["net_inum"] == "0":
            return "exclusive"
        if fields["net_inum"] == self.init_net:
            return "init"
        # Inode numbers are used again
        return fields["net_cookie"]

    def acquired(self, thread, time, fields):
        """ RTNL, or the mutex of a namespace """
        shared = fields.get("rtnl") == "shared"
        if shared == (fields["net_inum"] != "0"):
            self.held[thread][self._name(fields)] = time

    def release(self, thread, time, fields):
        """ and no longer """
        name = self._name(fields)
        begin = self.held[thread].pop(name, None)
        if begin is not None:
            self.time[name] += time - begin

    def _waited(self, thread, time):
        begin = self.begun.pop(thread, None)
        if begin is not None:
            for name in self.held[thread]:
                self.waits[name] += time - begin

    def grace_period(self, thread, time, step):
        """ A thread begins or ends to wait for one """
        if step in ("snap", "request"):
            self.begun[thread] = time
        else:
            self._waited(thread, time)

    def _times(self, *names):
        return {"ns": round(sum(self.time[name] for name in names) * 1e9),
                "gp_ns": round(sum(self.waits[name] for name in names) * 1e9)}

    def result(self):
        """ In ns, and what of it was a wait for grace periods """
        others = [name for name in self.time if name not in ("exclusive", "init")]
        largest = max(others, key=lambda name: self.time[name], default=None)
        return {"exclusive": self._times("exclusive"),
                "init": self._times("init"),
                "other": self._times(largest),
                "others": {"count": len(others), **self._times(*others)}}


def kind(lock):
    """ RTNL or a namespace's, by its net_inum """
    return "rtnl" if lock == "0" else "netns"


def summarise(lines, names, rtnl=None, init_net=INIT_NET):
    """ What the lines of a trace come to, with the names of events that exist """
    count = collections.Counter()
    exclusive = collections.Counter()
    locks = Locks(rtnl)
    serial = Serial(init_net)
    for line in lines:
        match = LINE.match(line)
        if not match:
            continue
        thread, event, text = match["thread"], match["event"], match["text"]
        time = float(match["time"])
        if event == MARKER:
            locks.window()
            serial.window(text, time)
        elif event in ("contention_begin", "contention_end"):
            getattr(locks, event)(thread, time, text)
        elif event in LOCK_EVENTS:
            fields = dict(FIELD.findall(text))
            getattr(locks, LOCK_EVENTS[event])(thread, time,
                                               fields["net_inum"])
            if event in SERIAL_EVENTS:
                getattr(serial, LOCK_EVENTS[event])(thread, time, fields)
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
                serial.grace_period(thread, time, step)
        elif event == "rcu_sr_normal":
            serial.grace_period(thread, time, text.rpartition("=")[2])
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
    result["serial"] = serial.result() if ours else None
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
                return summarise(file, self.names, self.rtnl,
                                 os.stat("/proc/1/ns/net").st_ino)
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
