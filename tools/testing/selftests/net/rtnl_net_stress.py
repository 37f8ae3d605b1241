#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0

"""
Make, move and delete devices over many network namespaces, from several
processes, while the namespaces die and are replaced.

        slot 0        slot 1        slot 2     ...     slot N
     +----------+  +----------+  +----------+       +----------+
     | the test |  |          |  |          |       |          |
     |  itself  |  |          |  |          |       |          |
     +----------+  +----------+  +----------+       +----------+

Each of WORKERS processes has a few objects: a pair of devices, with up to four
further devices on top of its ends or of each other, or a tunnel whose socket is
in another slot; of all kinds of rtnl_net_devs.py that the kernel has. In each
of ROUNDS it picks one of them: it makes what is not there, with each
device in a random slot and from a random slot; else it moves or deletes a
random device of it, sets it up or down, gives or takes an address, changes the
mode of an ipvlan, or does what shares RTNL: a rule, a route, a neighbour, sysctls,
and to show the device. Now and then it kills the namespace of a slot and puts a
new one there.

A worker holds the namespaces that it works with, so no command may fail. A
deletion takes along all that is on top, and the other end, so their names are
free at once. In the end, when all dead namespaces are freed, no device may be
left. A namespace takes with it the tunnels whose sockets it has, once the last
worker lets go of it.

The random numbers of each worker depend on SEED alone, but not what has become
of its objects meanwhile, nor when it does what.

If an operation of one worker fails, all workers stop, and the test fails.

Environment: WORKERS, ROUNDS (of each worker), SLOTS, SEED, and KINDS, a list of
keys of the table below with commas or spaces between them, or "all": then it is
a failure if the kernel has not all of them.
"""

import collections
import contextlib
import glob
import multiprocessing
import multiprocessing.connection
import os
import random
import socket
import stat
import time
import traceback

from lib.py import ksft_eq, ksft_exit, ksft_pr, ksft_run
from rtnl_net_devs import KINDS as DEVS, STACKED, TUNNEL, make, present
from rtnl_net_lib import IPVLAN_FLAGS, IPVLAN_MODES, Pool, Rtnl, devices, \
    ipvlan_data, setns, strerror

WORKERS = int(os.environ.get("WORKERS", "4"))
ROUNDS = int(os.environ.get("ROUNDS", "150"))
SLOTS = int(os.environ.get("SLOTS", "12"))
SEED = int(os.environ.get("SEED", "0")) or time.time_ns() & 0xffffffff

KILL = 0.03
# Seconds for the other workers to delete their devices once one has failed
STOP_WAIT = 30

# What is done to a whole object, and how often. What does not fit is a move,
# and what is left is a deletion.
OPS = (("move", 0.20), ("up", 0.12), ("down", 0.04), ("address", 0.09),
       ("requests", 0.15), ("mode", 0.08), ("tap", 0.05))

IPVLANS = ("ipvlan", "ipvtap")
MACVLANS = ("macvlan", "macvlan_source", "macvtap")
FLAGS = list(IPVLAN_FLAGS)
ENOTSUPP = 524

# On top of the pair "a" and "b", which is of veth if nothing else is said, each
# device in turn by its kind and what it is on. "c" is the first. A tunnel is a
# device "a" alone.
KIND_TABLE = {key: [] for key, kind in DEVS.items() if kind.how != STACKED}
KIND_TABLE |= {key: [f"{key} a"] for key, kind in DEVS.items()
               if kind.how == STACKED}
KIND_TABLE |= {
    "ipvlan": ["ipvlan a", "ipvlan a", "ipvlan a"],
    "ipvtap": ["ipvtap a", "ipvlan a", "ipvtap a"],
    "macvlan": ["macvlan a", "macvtap a", "macvlan_source a"],
    "vlan": ["vlan a", "vlan a", "vlan b"],
    "macsec": ["macsec a", "macsec a"],
    "rmnet": ["rmnet a", "rmnet a"],
    # What is put on an ipvlan is in truth on what is below that
    "ipvlan_ipvlan": ["ipvlan a", "ipvlan c", "ipvtap d"],
    "macvlan_macvlan": ["macvlan a", "macvlan c", "macvtap d"],
    "vlan_ipvlan": ["vlan a", "ipvlan a", "ipvlan c"],
    "vlan_macvlan": ["vlan a", "macvlan c", "macvlan c", "vlan d"],
    "macvlan_ipvlan": ["macvlan a", "ipvlan c", "ipvtap c"],
    "ends_ipvlan": ["ipvlan a", "ipvtap b", "ipvlan b", "vlan b"],
    "macsec_vlan": ["macsec a", "vlan c", "vlan a", "macsec e"],
    "vxlan_macvlan": ["vxlan_lower a", "macvlan c", "vlan c", "vxlan_lower e"],
    "ends_mixed": ["macvlan a", "macsec b", "vxlan_lower c", "vlan d"],
}
KINDS = (os.environ.get("KINDS") or "").replace(",", " ").split()


def netns_objects():
    """ How many struct net there are, or None if the kernel does not tell """
    dirs = glob.glob("/sys/kernel/debug/ref_tracker/net_notrefcnt@*")
    if dirs:
        return len(dirs)
    try:
        with open("/proc/slabinfo", encoding="ascii") as file:
            return next((int(line.split()[1]) for line in file
                         if line.startswith("net_namespace ")), None)
    except OSError:
        return None


class Slots:
    """ Network namespaces that can be replaced under everybody's feet """

    def __init__(self, pool):
        self.pool = pool
        self.prefix = f"stress-{os.getpid()}"
        self.lock = multiprocessing.Lock()
        self.age = multiprocessing.Array("i", SLOTS + 1, lock=False)
        self.home = os.open("/proc/self/ns/net", os.O_RDONLY)
        self.before = devices()
        for slot in range(1, SLOTS + 1):
            pool.make(self.name(slot))

    def name(self, slot, age=None):
        """ Name of the namespace that is there now, or was there """
        age = self.age[slot] if age is None else age
        return f"{self.prefix}-{slot}-{age}"

    def open(self, slot):
        """ A file descriptor that holds the namespace, and its age """
        while True:
            age = self.age[slot]
            if slot == 0:
                return os.dup(self.home), age
            try:
                fd = os.open(f"/run/netns/{self.name(slot, age)}", os.O_RDONLY)
            except FileNotFoundError:
                continue
            # It gets older before it loses its name
            if self.age[slot] == age:
                return fd, age
            os.close(fd)

    def kill(self, slot):
        """ Let the namespace die, unless somebody holds it """
        with self.lock:
            age = self.age[slot]
            self.pool.make(self.name(slot, age + 1))
            self.age[slot] = age + 1
            self.pool.unmake(self.name(slot, age))

    def open_tap(self, minor):
        """ A file descriptor of an ipvtap, if there is one of that number """
        with open("/proc/devices", encoding="ascii") as file:
            majors = [int(line.split()[0]) for line in file
                      if line.endswith(" ipvtap\n")]
        if not majors:
            return None
        path = f"/dev/{self.prefix}-{os.getpid()}"
        os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(majors[0], minor))
        try:
            return os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except OSError as ex:
            check(ex.errno, f"open tap {minor}", "ENODEV", "ENXIO")
            return None
        finally:
            os.unlink(path)

    def live(self):
        """ Names of the namespaces """
        return [self.name(slot) for slot in range(1, SLOTS + 1)]


class Object:
    """ Some devices that die together, and where they are """

    def __init__(self, slots, num, kind, modes):
        self.slots = slots
        self.num = num
        self.prefix = f"rs{num}_"
        self.base = kind if kind in DEVS and DEVS[kind].how != STACKED \
            else "veth"
        self.tunnel = DEVS[self.base].how == TUNNEL
        # Part: its kind, and the part that it is on
        self.uppers = {chr(ord("c") + num): upper.split()
                       for num, upper in enumerate(KIND_TABLE[kind])}
        self.modes = modes
        self.life = 0
        self.where = {}
        # The slot of the tunnel's socket, and its age
        self.socket = None
        self.addresses = set()
        self.tap_fd = None

    def name(self, part):
        """ Name of the device that is the one or other end, or an upper """
        return f"{self.prefix}{self.life}{part}"

    def lower(self, part):
        """ What this upper goes down with """
        lower = self.uppers[part][1]
        if any(self.kind(part) in same and self.kind(lower) in same
               for same in (IPVLANS, MACVLANS)):
            return self.lower(lower)
        return lower

    def kind(self, part):
        """ Kind of the device """
        return self.uppers.get(part, [self.base])[0]

    def run(self, op, numbers):
        """ Do something to it, as the random numbers say """
        with Hold(self.slots) as hold:
            places = list(self.where.values())
            places += [self.socket] if self.socket else []
            if self.where and not all([hold.get(slot, age)
                                       for slot, age in places]):
                self.scrap(hold)
                return "scrap"
            if not self.where:
                self.make(hold, numbers)
                return "make"
            missing = sorted(set(self.uppers) - set(self.where))
            if missing and numbers[0] % 2:
                self.make_upper(hold, missing[0], numbers)
                return "make upper"
            part = sorted(self.where)[numbers[0] % len(self.where)]
            for what, share in OPS:
                op -= share
                if op < 0:
                    return self.do(hold, what, part, numbers[1:])
            self.delete(hold, part)
            if not self.where and numbers[1] % 2:
                self.make(hold, numbers)
                return "delete and make"
            return "delete"

    def do(self, hold, what, part, numbers):
        """ Something else than to make or delete it """
        ipvlans = [part for part in sorted(self.where)
                   if self.kind(part) in IPVLANS]
        if what == "up":
            self.up(hold, part)
        elif what == "down":
            with hold.rtnl(self.where[part][0]) as rtnl:
                check(rtnl.set_down(self.name(part)), f"{self.name(part)} down")
        elif what == "address":
            self.address(hold, part)
        elif what == "requests":
            self.requests(hold, part)
        elif what == "mode" and ipvlans:
            self.mode(hold, ipvlans[numbers[0] % len(ipvlans)], numbers[1:])
        elif what == "tap" and self.modes:
            return self.tap(hold, numbers)
        else:
            self.move(hold, part, numbers[0])
            return "move"
        return what

    def make(self, hold, numbers):
        """ The pair from a random slot, uppers from where their lowers are """
        place = dict(zip("ab", numbers))
        if self.tunnel:
            del place["b"]
        with hold.rtnl(numbers[2]) as rtnl:
            err = make(rtnl, self.base, self.name("a"), hold.fd(place["a"]),
                       self.number("a"),
                       peer=(self.name("b"), hold.fd(numbers[1])))
        # Of some kinds, a netns has one only
        if DEVS[self.base].one and strerror(err) in ("EADDRINUSE", "EEXIST"):
            return
        check(err, f"make {self.name('a')} in {place}")
        if self.tunnel:
            self.socket = (numbers[2], hold.age(numbers[2]))
        self.where = {part: (slot, hold.age(slot))
                      for part, slot in place.items()}
        for part in self.uppers:
            self.make_upper(hold, part, numbers)

    def number(self, part):
        """ Unlike those of 63 other objects, and of this one's other parts """
        return ((self.life * 8 + ord(part) - ord("a")) * 64 + self.num) % 64000

    def make_upper(self, hold, part, numbers):
        """ One of the uppers that are not there """
        kind, lower = self.uppers[part]
        if lower not in self.where:
            lower = self.lower(part)
        if lower not in self.where:
            part, kind, lower = lower, *self.uppers[lower]
        if lower not in self.where:
            return
        slot = numbers[ord(part) - ord("a")]
        with hold.rtnl(self.where[lower][0]) as rtnl:
            index = hold.index(self.where[lower][0], self.name(lower))
            err = make(rtnl, kind, self.name(part), hold.fd(slot),
                       self.number(part), index)
            check(err, f"make {kind} {self.name(part)} in {slot}")
        self.where[part] = (slot, hold.age(slot))

    def ipvlan(self, numbers):
        """ A mode and flags """
        return ipvlan_data(self.modes[numbers[0] % len(self.modes)],
                           FLAGS[numbers[1] % len(FLAGS)])

    def move(self, hold, part, slot):
        """ One device goes elsewhere, without its addresses """
        if DEVS[self.kind(part)].fixed:
            return
        with hold.rtnl(self.where[part][0]) as rtnl:
            check(rtnl.move(self.name(part), hold.fd(slot)),
                  f"move {self.name(part)} to {slot}")
        if self.where[part][0] == slot:
            return
        self.addresses.discard(part)
        self.where[part] = (slot, hold.age(slot))
        # Some uppers do not survive that
        gone = [self.doomed(other) for other in self.where
                if other in self.uppers and self.lower(other) == part and
                DEVS[self.kind(other)].follows]
        self.gone(hold, part, set().union(*gone))

    def up(self, hold, part):
        """ Set it up. Some want their lower to be up. """
        others = ["ENETDOWN"] if part in self.uppers else []
        with hold.rtnl(self.where[part][0]) as rtnl:
            check(rtnl.set_up(self.name(part)), f"{self.name(part)} up",
                  *others)

    def address(self, hold, part):
        """ Give it its one address, or take it away """
        if self.base == "vxcan":
            return
        slot = self.where[part][0]
        address = f"10.{self.num}.0.{ord(part)}"
        with hold.rtnl(slot) as rtnl:
            check(rtnl.address(hold.index(slot, self.name(part)), address,
                               part not in self.addresses),
                  f"address of {self.name(part)}")
        self.addresses ^= {part}

    def requests(self, hold, part):
        """ What shares RTNL with other namespaces, and is undone at once """
        slot, name = self.where[part][0], self.name(part)
        index = hold.index(slot, name)
        address = f"10.{self.num}.1.{ord(part)}"
        with hold.rtnl(slot) as rtnl:
            check(rtnl.show(index), f"show {name}")
            check(rtnl.rule(address), f"rule of {name}")
            err = rtnl.route(index, address)
            # It may be down, or have no IPv4
            check(err, f"route to {name}", "ENETDOWN", "EINVAL")
            if not err:
                check(rtnl.route(index, address, False), f"no route to {name}")
            err = rtnl.neighbour(index, address)
            check(err, f"neighbour at {name}", "EINVAL")
            if not err:
                # A device that goes down loses its neighbours
                check(rtnl.neighbour(index, address, False),
                      f"no neighbour at {name}", "ENOENT")
            check(rtnl.rule(address, False), f"no rule of {name}")
        with setns(hold.fd(slot)):
            for conf in ("ipv4/conf/{}/forwarding", "ipv6/conf/{}/disable_ipv6",
                         "ipv6/conf/{}/forwarding"):
                self.toggle("/proc/sys/net/" + conf.format(name))

    @staticmethod
    def toggle(path):
        """ Write another value, and the old one again, if the file is there """
        with contextlib.suppress(FileNotFoundError), \
                open(path, "r+", encoding="ascii", buffering=1) as file:
            old = file.read()
            for value in (str(1 - int(old)), old):
                file.seek(0)
                file.write(value)
                file.flush()

    def mode(self, hold, part, numbers):
        """ Of all ipvlans that have this one's lower """
        with hold.rtnl(self.where[part][0]) as rtnl:
            check(rtnl.change(self.name(part), self.kind(part),
                              self.ipvlan(numbers)),
                  f"mode of {self.name(part)}")

    def tap(self, hold, numbers):
        """ Close a tap's file, or open some tap's from some slot """
        if self.close_tap():
            return "close tap"
        with setns(hold.fd(numbers[0])):
            self.tap_fd = self.slots.open_tap(1 + numbers[1])
        return "open tap" if self.tap_fd else "no tap"

    def close_tap(self):
        """ Whether there was one """
        fd, self.tap_fd = self.tap_fd, None
        if fd:
            os.close(fd)
        return fd

    def doomed(self, part):
        """ What goes when this one goes """
        if part in "ab":
            return set(self.where)
        return {part}.union(*[self.doomed(other) for other in self.where
                              if other in self.uppers and
                              self.lower(other) == part])

    def delete(self, hold, part):
        """ It, and all that goes down with it """
        with hold.rtnl(self.where[part][0]) as rtnl:
            check(rtnl.delete(self.name(part)), f"delete {self.name(part)}")
        self.gone(hold, part, self.doomed(part))

    def gone(self, hold, part, others):
        """ What happened to one device took these along """
        for other in sorted(others):
            slot, _ = self.where.pop(other)
            self.addresses.discard(other)
            if hold.index(slot, self.name(other)):
                raise AssertionError(f"{self.name(other)} outlives "
                                     f"{self.name(part)} in {slot}")

    def scrap(self, hold):
        """ One of its namespaces has died: what is left may be dying """
        for part, (slot, age) in self.where.items():
            if hold.get(slot, age):
                with hold.rtnl(slot) as rtnl:
                    check(rtnl.delete(self.name(part)),
                          f"scrap {self.name(part)}", "ENODEV")
        self.where = {}
        self.socket = None
        self.addresses = set()
        self.life += 1

    def end(self):
        """ Delete it, however it is """
        self.close_tap()
        with Hold(self.slots) as hold:
            self.scrap(hold)


class Hold:
    """ The namespaces that somebody works with, so that they stay """

    def __init__(self, slots):
        self.slots = slots
        self.held = {}

    def __enter__(self):
        return self

    def __exit__(self, exc_type, exc_value, tb):
        for fd, _ in self.held.values():
            os.close(fd)

    def _hold(self, slot):
        if slot not in self.held:
            self.held[slot] = self.slots.open(slot)
        return self.held[slot]

    def fd(self, slot):
        """ The namespace """
        return self._hold(slot)[0]

    def age(self, slot):
        """ How often it was replaced """
        return self._hold(slot)[1]

    def get(self, slot, age):
        """ Hold it, if it is still that one """
        return self.age(slot) == age

    def rtnl(self, slot):
        """ A socket in it """
        with setns(self.fd(slot)):
            return Rtnl()

    def index(self, slot, name):
        """ Index of a device in it, or 0 """
        with setns(self.fd(slot)):
            return dict(map(reversed, socket.if_nameindex())).get(name, 0)


def check(err, what, *others):
    """ It must have worked """
    if strerror(err) not in ("success", *others):
        raise AssertionError(f"{what}: {strerror(err)}")


def ipvlan_modes(pool):
    """ Those that the kernel has: l3s is an option of its own """
    netns, = pool.add("modes")
    with pool.rtnl(netns) as rtnl, open(f"/run/netns/{netns}", "rb") as file:
        check(rtnl.add_veth("a", file.fileno(), "b", file.fileno()), "make a")
        with setns(file.fileno()):
            index = socket.if_nametoindex("a")
        err = rtnl.add("u", "ipvlan", file.fileno(),
                       ipvlan_data("l3s"), index)
    pool.kill(netns)
    if err != ENOTSUPP:
        check(err, "make an ipvlan")
        return list(IPVLAN_MODES)
    ksft_pr("stress: this kernel has no mode l3s (CONFIG_IPVLAN_L3S)")
    return [mode for mode in IPVLAN_MODES if mode != "l3s"]


def possible(pool):
    """ All objects for which the kernel has what it takes """
    found = present(pool, list(DEVS))
    return [name for name, uppers in KIND_TABLE.items()
            if (name not in DEVS or name in found) and
            all(upper.split()[0] in found for upper in uppers)]


def work(slots, worker, kinds, modes, stop, pipe):
    """
    All that a worker does. It sends a text for each failure at once, and in the
    end, how often it did what.
    """
    objects = []
    done = collections.Counter()

    def failed():
        stop.value = True
        pipe.send(f"worker {worker}, round {done.total()}: "
                  f"{traceback.format_exc()}")

    try:
        rng = random.Random(f"{SEED} {worker}")
        # Enough for one of each kind
        count = max(8, -(-len(kinds) // WORKERS))
        for num in range(worker * count, (worker + 1) * count):
            objects.append(Object(slots, num, kinds[num % len(kinds)], modes))
        while done.total() < ROUNDS and not stop.value:
            # As many random numbers in each round, whatever happens
            obj = rng.choice(objects)
            op = rng.random()
            numbers = [rng.randrange(SLOTS + 1) for _ in range(8)]
            if rng.random() < KILL:
                slots.kill(numbers[0] or 1)
                done["kill"] += 1
            else:
                done[obj.run(op, numbers)] += 1
    except Exception:
        failed()
    for obj in objects:
        try:
            obj.end()
        except Exception:
            failed()
    pipe.send(done)


def collect(workers, stop):
    """
    Wait for the workers, a process for each pipe. Return the sum of what they
    did, and whether one failed.
    """
    total = collections.Counter()
    failed = False
    deadline = None
    while workers:
        wait = None if not failed else max(0, deadline - time.monotonic())
        ready = multiprocessing.connection.wait(list(workers), wait)
        if not ready:
            ksft_pr(f"stress: {len(workers)} workers do not stop")
            break
        for pipe in ready:
            try:
                said = pipe.recv()
            except EOFError:
                # Killed, or ended by something that is no Exception
                proc = workers.pop(pipe)
                proc.join()
                said = f"a worker ended with status {proc.exitcode}"
            if isinstance(said, collections.Counter):
                total += said
                workers.pop(pipe).join()
                continue
            ksft_eq(said, None)
            if not failed:
                failed = stop.value = True
                deadline = time.monotonic() + STOP_WAIT
    return total, failed


def stress():
    """ The whole of it """
    unknown = [kind for kind in KINDS if kind not in (*KIND_TABLE, "all")]
    ksft_eq(unknown, [], f"KINDS: there are all, {', '.join(KIND_TABLE)}")
    if unknown:
        return
    with Pool() as pool:
        kinds = KINDS
        if not KINDS or "all" in KINDS:
            kinds = possible(pool)
        if "all" in KINDS:
            ksft_eq(kinds, list(KIND_TABLE), "the kernel has not all kinds")
        modes = ipvlan_modes(pool) if "ipv" in " ".join(kinds) else []
        ksft_pr(f"stress: WORKERS={WORKERS} ROUNDS={ROUNDS} SLOTS={SLOTS} "
                f"SEED={SEED} KINDS='{' '.join(kinds)}'")
        live = netns_objects()
        start = time.monotonic()
        slots = Slots(pool)
        new = devices(slots.name(1))
        stop = multiprocessing.Value("b", False, lock=False)
        workers = {}
        procs = []
        try:
            for num in range(WORKERS):
                pipe, theirs = multiprocessing.Pipe(duplex=False)
                procs.append(multiprocessing.Process(
                    target=work, args=(slots, num, kinds, modes, stop, theirs)))
                procs[-1].start()
                # Theirs alone, so that it closes when the worker ends
                theirs.close()
                workers[pipe] = procs[-1]
            total, failed = collect(workers, stop)
        finally:
            for proc in procs:
                proc.kill()
                proc.join()
            pool.live = {name: new for name in slots.live()}
        ksft_pr(f"stress: {total.total()} operations in "
                f"{time.monotonic() - start:.0f} s: "
                f"{dict(sorted(total.items()))}")
        if failed:
            return
        ksft_eq(total.total(), WORKERS * ROUNDS, "rounds are missing")

        pool.wait_freed()
        ksft_pr(f"stress: struct net: {live} before, {netns_objects()} now, "
                f"with those of the {SLOTS} slots")
        ksft_eq(pool.extra(), {}, "devices are left")
        ksft_eq(devices() - slots.before, set(), "devices are left here")


def main():
    """ The one case """
    ksft_run([stress])
    ksft_exit()


if __name__ == "__main__":
    main()
