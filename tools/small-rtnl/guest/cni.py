#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""
In the guest, networks of containers come and go by the CNI plug-ins that container
runtimes call. First one container for each plug-in, alone, to see how many sections
held RTNL shared and exclusive for it; then WORKERS (4) at once, each for ROUNDS (4)
times through all plug-ins with a netns of its own. An ADD has to give the interface
with its address, a DEL has to remove it. Every other container dies before its DEL,
so that its netns takes the interface along. At the end no device and no address may
be left.
"""

import concurrent.futures
import itertools
import json
import os
import subprocess
import sys
import time

BIN = os.environ.get("CNI_PATH", "/usr/lib/cni")
RUN = "/run/cni"
SECTIONS = "/sys/kernel/debug/rtnl/sections"
PLUGINS = ["bridge", "ptp", "macvlan", "ipvlan", "vlan"]
# These need a device of the host. One each: a device cannot have macvlans and
# ipvlans at once.
MASTERS = {name: f"cni-{name}" for name in ("macvlan", "ipvlan", "vlan")}
BRIDGE = "cni0"
# What of a plug-in's configuration is its own
SPECIFIC = {
    "bridge": {"bridge": BRIDGE, "isGateway": True, "ipMasq": False},
    "ptp": {"ipMasq": False},
    "macvlan": {"master": MASTERS["macvlan"], "mode": "bridge"},
    "ipvlan": {"master": MASTERS["ipvlan"], "mode": "l2"},
    "vlan": {"master": MASTERS["vlan"]},
}
IFNAME = "eth0"
# As long as vm.sh waits for dead netns
WAIT = 60


class Fault(Exception):
    """What a plug-in did or said, and should not have"""


def command(*args):
    """Run a program that has to succeed; what it printed"""
    done = subprocess.run(args, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Fault(f"{' '.join(args)}: {done.stderr.strip()}")
    return done.stdout


def sections():
    """How many sections there were since boot, by reason; none on a stock kernel"""
    try:
        with open(SECTIONS, encoding="ascii") as file:
            return {name: int(count) for name, count in map(str.split, file)}
    except FileNotFoundError:
        return {}


def interfaces(netns=None):
    """The interfaces of a netns, but for lo, with their addresses"""
    where = ["-n", netns] if netns else []
    links = json.loads(command("ip", *where, "-j", "address", "show") or "[]")
    return {link["ifname"]: [f"{a['local']}/{a['prefixlen']}" for a in link["addr_info"]]
            for link in links if link.get("ifname", "lo") != "lo"}


class Container:
    """A netns with one interface, of one plug-in"""

    number = itertools.count(1)

    def __init__(self, plugin):
        self.plugin = plugin
        self.number = next(Container.number)
        self.name = f"c{self.number}"
        self.netns = f"/run/netns/{self.name}"
        # Of each call: how long it took, and the sections before and after it
        self.times = {}
        self.sections = {}
        command("ip", "netns", "add", self.name)

    def call(self, verb):
        """Call the plug-in as a runtime does; its result"""
        config = {
            "cniVersion": "0.4.0", "name": f"net-{self.plugin}", "type": self.plugin,
            "ipam": {
                "type": "host-local", "dataDir": f"{RUN}/ipam",
                "ranges": [[{"subnet": f"10.{100 + PLUGINS.index(self.plugin)}.0.0/16"}]],
            },
        }
        config.update(SPECIFIC[self.plugin])
        if self.plugin == "vlan":
            config["vlanId"] = self.number
        env = {"CNI_COMMAND": verb, "CNI_CONTAINERID": self.name, "CNI_NETNS": self.netns,
               "CNI_IFNAME": IFNAME, "CNI_PATH": BIN, "PATH": os.environ["PATH"]}
        before = sections()
        start = time.monotonic()
        done = subprocess.run([f"{BIN}/{self.plugin}"], input=json.dumps(config), env=env,
                              capture_output=True, text=True, check=False)
        self.times[verb] = time.monotonic() - start
        self.sections[verb] = (before, sections())
        if done.returncode:
            raise Fault(f"{verb} of {self.plugin} ended with {done.returncode}: "
                        f"{done.stdout.strip()} {done.stderr.strip()}")
        return json.loads(done.stdout) if done.stdout.strip() else None

    def add(self):
        """ADD, and is all there that it says?"""
        wanted = [ip["address"] for ip in self.call("ADD")["ips"]]
        have = interfaces(self.name)
        if list(have) != [IFNAME]:
            raise Fault(f"ADD of {self.plugin} left these interfaces in {self.name}: {have}")
        missing = set(wanted) - set(have[IFNAME])
        if missing or not wanted:
            raise Fault(f"ADD of {self.plugin}: {IFNAME} of {self.name} has {have[IFNAME]}, "
                        f"without {missing or 'an address'}")

    def delete(self):
        """DEL, and is all gone?"""
        self.call("DEL")
        have = interfaces(self.name)
        if have:
            raise Fault(f"DEL of {self.plugin} left these interfaces in {self.name}: {have}")
        command("ip", "netns", "delete", self.name)

    def die(self):
        """The netns dies, and a DEL follows that has none to name"""
        command("ip", "netns", "delete", self.name)
        self.netns = ""
        self.call("DEL")


def set_up():
    """What the host has for its containers"""
    os.makedirs(RUN, exist_ok=True)
    for master in MASTERS.values():
        command("ip", "link", "add", master, "type", "dummy")
        command("ip", "link", "set", master, "up")


def tear_down(before):
    """Wait until only these devices are left; what is left in the end"""
    ours = set(MASTERS.values()) | {BRIDGE}
    end = time.monotonic() + WAIT
    while True:
        left = sorted(set(interfaces()) - before - ours)
        if not left or time.monotonic() > end:
            break
        time.sleep(0.2)
    faults = [f"these devices are left: {' '.join(left)}"] if left else []
    for plugin in PLUGINS:
        folder = f"{RUN}/ipam/net-{plugin}"
        leases = [name for name in (os.listdir(folder) if os.path.isdir(folder) else [])
                  if name.startswith("10.")]
        if leases:
            faults.append(f"these addresses of {plugin} are taken: {' '.join(sorted(leases))}")
    for name in sorted(ours & set(interfaces())):
        command("ip", "link", "delete", name)
    return faults


def worker(first, rounds, faults):
    """All plug-ins in turn, from another one than the other workers begin with"""
    for turn in range(rounds):
        for step in range(len(PLUGINS)):
            plugin = PLUGINS[(first + turn + step) % len(PLUGINS)]
            try:
                container = Container(plugin)
                container.add()
                if (turn + step) % 2:
                    container.die()
                else:
                    container.delete()
            except Fault as fault:
                faults.append(str(fault))


def difference(before, after):
    """'3 shared, 2 exclusive (kind 2)', of the sections between two sums"""
    if not after:
        return "has sections that this kernel does not count"
    count = {name: after[name] - before[name] for name in after}
    shared = count.pop("shared")
    why = ", ".join(f"{name} {value}" for name, value in count.items() if value)
    return f"{shared} shared, {sum(count.values())} exclusive" + (f" ({why})" if why else "")


def quiet():
    """Wait until what others do in the background, as the death of a netns, is over"""
    count = None
    while count != sections():
        count = sections()
        time.sleep(0.3)


def alone(plugin):
    """A container that is deleted and one that dies; what sections the first one had"""
    quiet()
    container = Container(plugin)
    quiet()
    container.add()
    quiet()
    container.delete()
    other = Container(plugin)
    other.add()
    other.die()
    return "; ".join(f"{verb} {difference(*container.sections[verb])}" for verb in ("ADD", "DEL"))


def main():
    """Prints TAP"""
    workers = int(os.environ.get("WORKERS", "4"))
    rounds = int(os.environ.get("ROUNDS", "4"))
    faults = []
    count = 0

    def result(name, bad):
        nonlocal count
        count += 1
        for line in bad:
            print(f"# {line}")
        print(f"{'not ok' if bad else 'ok'} {count} {name}", flush=True)
        return bool(bad)

    for name in PLUGINS + ["host-local"]:
        if not os.access(f"{BIN}/{name}", os.X_OK):
            sys.exit(f"error: {BIN}/{name} is missing: install containernetworking-plugins, "
                     "or say in CNI_PATH where it is")
    print("TAP version 13")
    before = set(interfaces())
    set_up()
    failed = 0
    for plugin in PLUGINS:
        try:
            failed += result(f"{plugin} alone: {alone(plugin)}", [])
        except Fault as fault:
            failed += result(f"{plugin} alone", [str(fault)])

    start = sections()
    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        for future in [pool.submit(worker, num, rounds, faults) for num in range(workers)]:
            # What else went wrong in a thread is raised here
            future.result()
    failed += result(f"{workers} workers at once, {rounds} times each plug-in: "
                     f"{difference(start, sections())}", faults)
    failed += result("nothing is left", tear_down(before))
    print(f"1..{count}")
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
