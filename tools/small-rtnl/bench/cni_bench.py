#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0

"""
cni_bench.py cni -P bridge|ptp -w WORKERS -c CYCLES [-L none|dismantle] [-D DEVICES]
[-T INSTANCE]: in the guest, measure how long container runtimes wait for a CNI
plug-in. Prints a line of JSON, as rtnl_net_bench does, in ns.

Workers make a namespace, ADD a network to it, DEL that and let the namespace go,
again and again, as guest/cni.py has it for the test. With -L none each of them
does that CYCLES times. With -L dismantle they go on while CYCLES namespaces of
DEVICES devices die one after the other, and those calls count that were made while
one was dying, if only in part.

A sysfs that is mounted in a namespace does not keep it alive, and shows which
devices it still has: of these, lo is the last.
"""

import argparse
import concurrent.futures
import json
import os
import subprocess
import sys
import time

TOOLS = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(1, f"{TOOLS}/guest")
sys.dont_write_bytecode = True

# pylint: disable-next=import-error,wrong-import-position
import cni as plugins

VERBS = ("ADD", "DEL")


def idle_ns():
    """ Of all CPUs, since boot """
    with open("/proc/stat", encoding="ascii") as file:
        fields = file.readline().split()
    return sum(map(int, fields[4:6])) * 10**9 // os.sysconf("SC_CLK_TCK")


class Dying:
    """ A namespace with many devices, until it dies """

    def __init__(self, num, devices):
        self.name = f"dying{num}"
        self.sysfs = f"{plugins.RUN}/{self.name}"
        plugins.command("ip", "netns", "add", self.name)
        subprocess.run(["ip", "-n", self.name, "-batch", "-"], check=True, text=True,
                       input="".join(f"link add d{i} up type dummy\n"
                                     for i in range(devices)))
        os.makedirs(self.sysfs)
        plugins.command("nsenter", f"--net=/run/netns/{self.name}", "mount", "-t",
                        "sysfs", "sysfs", self.sysfs)

    def die(self):
        """ To its last device """
        plugins.command("ip", "netns", "delete", self.name)
        while os.path.exists(f"{self.sysfs}/class/net/lo"):
            time.sleep(0.01)
        plugins.command("umount", self.sysfs)
        os.rmdir(self.sysfs)


class Load:
    """ Workers, and what they measured """

    def __init__(self, args):
        self.args = args
        self.times = {verb: [] for verb in VERBS}
        self.window = 0
        self.idle = 0
        self.begin = None
        self.started = 0
        self.stop = False

    def _trace(self, name, text):
        if self.args.T:
            with open(f"{self.args.T}/{name}", "w", encoding="ascii") as file:
                file.write(text)

    def record(self, counts):
        """ From now on it counts, or no more """
        if counts:
            self.idle -= idle_ns()
            self._trace("tracing_on", "1")
            self._trace("trace_marker", "begin")
            self.started += 1
            self.begin = time.monotonic_ns()
        else:
            self.window += time.monotonic_ns() - self.begin
            self.begin = None
            self._trace("trace_marker", "end")
            self._trace("tracing_on", "0")
            self.idle += idle_ns()

    def _cycle(self):
        container = plugins.Container(self.args.P)
        for verb in VERBS:
            counts, started = self.begin is not None, self.started
            container.call(verb)
            if counts or self.started > started:
                self.times[verb].append(round(container.times[verb] * 1e9))
        plugins.command("ip", "netns", "delete", container.name)

    def _worker(self):
        cycles = self.args.c if self.args.L == "none" else sys.maxsize
        while cycles and not self.stop:
            self._cycle()
            cycles -= 1

    def _deaths(self, dying):
        for netns in dying:
            # All workers are at it, the one before is forgotten
            time.sleep(1)
            self.record(True)
            netns.die()
            self.record(False)

    def run(self):
        """ All of it """
        os.makedirs(plugins.RUN, exist_ok=True)
        # Modules, the bridge and its address are there before
        self._cycle()
        dying = [Dying(num, self.args.D) for num in range(self.args.c)] \
            if self.args.L == "dismantle" else []
        with concurrent.futures.ThreadPoolExecutor(self.args.w) as pool:
            if not dying:
                self.record(True)
            workers = [pool.submit(self._worker) for _ in range(self.args.w)]
            try:
                self._deaths(dying)
            finally:
                self.stop = bool(dying)
            for worker in workers:
                worker.result()
            if not dying:
                self.record(False)

    def latency(self, verb):
        """ As rtnl_net_bench has it """
        times = sorted(self.times[verb])
        if not times:
            return {"samples": 0}
        return {"samples": len(times), "p50": times[len(times) // 2],
                "p99": times[len(times) * 99 // 100], "max": times[-1]}


def main():
    """ Options as those of rtnl_net_bench """
    parser = argparse.ArgumentParser()
    parser.add_argument("scenario", choices=["cni"])
    parser.add_argument("-P", choices=["bridge", "ptp"], default="bridge")
    parser.add_argument("-L", choices=["none", "dismantle"], default="none")
    parser.add_argument("-w", type=int, default=4)
    parser.add_argument("-c", type=int, default=10)
    parser.add_argument("-D", type=int, default=1000)
    parser.add_argument("-T")
    # What process 1 of a guest may do, rtnl_net_bench is told
    parser.add_argument("-i", action="store_true")
    args = parser.parse_args()
    load = Load(args)
    try:
        load.run()
        if args.P == "bridge":
            plugins.command("ip", "link", "delete", plugins.BRIDGE)
    except plugins.Fault as fault:
        sys.exit(f"error: {fault}")
    print(json.dumps({
        "scenario": "cni", "plugin": args.P, "load": args.L, "workers": args.w,
        "cycles": args.c, "devices": args.D if args.L == "dismantle" else 0,
        "window_ns": load.window, "idle_ns": load.idle, "operations": len(load.times["ADD"]),
        "add_ns": load.latency("ADD"), "del_ns": load.latency("DEL")}))


if __name__ == "__main__":
    main()
