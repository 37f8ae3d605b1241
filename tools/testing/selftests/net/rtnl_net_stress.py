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

Each of WORKERS processes has a few objects: a pair of devices, or a pair with
a further device on top of one end. In each of ROUNDS it picks one of them: it
makes what is not there, with each device in a random slot and from a random
slot; else it moves or deletes a random device of it. Now and then it kills the
namespace of a slot and puts a new one there.

A worker holds the namespaces that it works with, so no command may fail. A
deletion takes the whole object along, so its names are free at once. In the
end, when all dead namespaces are freed, no device may be left.

The random numbers of each worker depend on SEED alone, but not what has become
of its objects meanwhile, nor when it does what.

Environment: WORKERS, ROUNDS (of each worker), SLOTS, SEED, and KINDS, a list of
keys of the table below.
"""

import collections
import multiprocessing
import os
import random
import socket
import struct
import time
import traceback

from lib.py import ksft_eq, ksft_exit, ksft_in, ksft_pr, ksft_run
from rtnl_net_lib import Pool, Rtnl, devices, setns, strerror

WORKERS = int(os.environ.get("WORKERS", "4"))
ROUNDS = int(os.environ.get("ROUNDS", "150"))
SLOTS = int(os.environ.get("SLOTS", "12"))
SEED = int(os.environ.get("SEED", "0")) or time.time_ns() & 0xffffffff
KINDS = os.environ.get("KINDS", "veth macvlan vlan").split()

OBJECTS = 4
KILL = 0.03
MOVE = 0.35


def upper(kind, attr, fmt, value):
    """ What makes a device on top of another one, with one option """
    def add(rtnl, name, netns, lower):
        return rtnl.add(name, kind, netns, [(attr, struct.pack(fmt, value))],
                        link=lower)
    return add


# To add a kind: what makes the pair, and what makes the upper device, if any
KIND_TABLE = {
    "veth": (Rtnl.add_veth, None),
    "macvlan": (Rtnl.add_veth, upper("macvlan", 1, "=I", 4)),
    "vlan": (Rtnl.add_veth, upper("vlan", 1, "=H", 5)),
    "ipvlan": (Rtnl.add_veth, upper("ipvlan", 1, "=H", 0)),
}


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

    def live(self):
        """ Names of the namespaces """
        return [self.name(slot) for slot in range(1, SLOTS + 1)]


class Object:
    """ Some devices that die together, and where they are """

    def __init__(self, slots, worker, num, kind):
        self.slots = slots
        self.prefix = f"rs{worker}_{num}_"
        self.add_pair, self.add_upper = KIND_TABLE[kind]
        self.life = 0
        self.where = {}

    def name(self, part):
        """ Name of the device that is the one or other end, or the upper """
        return f"{self.prefix}{self.life}{part}"

    def run(self, op, numbers):
        """ Do something to it, as the random numbers say """
        with Hold(self.slots) as hold:
            if self.where and not all([hold.get(slot, age)
                                       for slot, age in self.where.values()]):
                self.scrap(hold)
                return "scrap"
            if not self.where:
                self.make(hold, *numbers)
                return "make"
            part = sorted(self.where)[numbers[0] % len(self.where)]
            if op < MOVE:
                self.move(hold, part, numbers[1])
                return "move"
            self.delete(hold, part)
            if part != "u" and numbers[1] % 2:
                self.make(hold, *numbers)
                return "delete and make"
            return "delete"

    def make(self, hold, *numbers):
        """ The pair from a random slot, the upper from where its lower is """
        place = dict(zip("abu", numbers[:3]))
        with hold.rtnl(numbers[3]) as rtnl:
            check(self.add_pair(rtnl, self.name("a"), hold.fd(place["a"]),
                                self.name("b"), hold.fd(place["b"])),
                  f"make {self.name('a')} and {self.name('b')} in {place}")
        self.where = {part: (place[part], hold.age(place[part]))
                      for part in "ab"}
        if self.add_upper:
            with hold.rtnl(place["a"]) as rtnl:
                index = hold.index(place["a"], self.name("a"))
                check(self.add_upper(rtnl, self.name("u"),
                                     hold.fd(place["u"]), index),
                      f"make {self.name('u')} in {place}")
            self.where["u"] = (place["u"], hold.age(place["u"]))

    def move(self, hold, part, slot):
        """ One device goes elsewhere """
        with hold.rtnl(self.where[part][0]) as rtnl:
            check(rtnl.move(self.name(part), hold.fd(slot)),
                  f"move {self.name(part)} to {slot}")
        self.where[part] = (slot, hold.age(slot))

    def delete(self, hold, part):
        """ The upper, or all """
        with hold.rtnl(self.where[part][0]) as rtnl:
            check(rtnl.delete(self.name(part)), f"delete {self.name(part)}")
        gone = "u" if part == "u" else list(self.where)
        for other in gone:
            slot, _ = self.where.pop(other)
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
        self.life += 1

    def end(self):
        """ Delete it, however it is """
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


def work(slots, worker, results):
    """ All that a worker does """
    rng = random.Random(f"{SEED} {worker}")
    objects = [Object(slots, worker, num, KINDS[num % len(KINDS)])
               for num in range(OBJECTS)]
    done = collections.Counter()
    failure = None
    try:
        for num in range(ROUNDS):
            # As many random numbers in each round, whatever happens
            obj = rng.choice(objects)
            op = rng.random()
            numbers = [rng.randrange(SLOTS + 1) for _ in range(4)]
            if rng.random() < KILL:
                slots.kill(numbers[0] or 1)
                done["kill"] += 1
            else:
                done[obj.run(op, numbers)] += 1
    except Exception:
        failure = f"worker {worker}, round {num}: {traceback.format_exc()}"
    for obj in objects:
        try:
            obj.end()
        except Exception:
            failure = failure or f"worker {worker}: {traceback.format_exc()}"
    results.put((done, failure))


def stress():
    """ The whole of it """
    ksft_pr(f"WORKERS={WORKERS} ROUNDS={ROUNDS} SLOTS={SLOTS} SEED={SEED} "
            f"KINDS='{' '.join(KINDS)}'")
    for kind in KINDS:
        ksft_in(kind, KIND_TABLE)
    with Pool() as pool:
        slots = Slots(pool)
        new = devices(slots.name(1))
        results = multiprocessing.SimpleQueue()
        procs = [multiprocessing.Process(target=work,
                                         args=(slots, num, results))
                 for num in range(WORKERS)]
        total = collections.Counter()
        try:
            for proc in procs:
                proc.start()
            for _ in procs:
                done, failure = results.get()
                total += done
                ksft_eq(failure, None)
            for proc in procs:
                proc.join()
        finally:
            pool.live = {name: new for name in slots.live()}
        ksft_pr(f"done: {dict(sorted(total.items()))}")
        ksft_eq(total.total(), WORKERS * ROUNDS, "rounds are missing")

        pool.wait_freed()
        ksft_eq(pool.extra(), {}, "devices are left")
        ksft_eq(devices() - slots.before, set(), "devices are left here")


def main():
    """ The one case """
    ksft_run([stress])
    ksft_exit()


if __name__ == "__main__":
    main()
