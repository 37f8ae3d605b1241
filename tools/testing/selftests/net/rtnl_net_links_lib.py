# SPDX-License-Identifier: GPL-2.0

"""
Helpers for tests of how requests and dying namespaces hold RTNL.

OwnTrace and sections() read from trace events how RTNL was held, and which
namespaces' mutexes were held with it. counters() reads from debugfs how often
it was held how. A Crew has processes race.

Environment: RACES scales the numbers of rounds
"""

import contextlib
import dataclasses
import errno
import itertools
import multiprocessing
import os
import random
import threading

from lib.py import KsftFailEx, KsftSkipEx, ksft_eq, ksft_ge, ksft_true
from rtnl_net_lib import DELAY, LockTrace, NetnsFd, Nets, Pool, Rtnl, \
    busywait, devices, ifindex, inum, most_at_once, pair_data, strerror, \
    stretched

RACES = int(os.environ.get("RACES", "20"))
# Of what is not a race. An exclusive section that has nothing to do with the
# test may happen once, but not each time.
REPEAT = max(3, RACES // 5)
# Microseconds
STRETCH = 20000
STRETCH_RACE = 1000

SECTIONS = "/sys/kernel/debug/rtnl/sections"
FALLBACK = "/proc/sys/net/core/fb_tunnels_only_for_init_net"

IFLA_MACVLAN_MODE = 1
MACVLAN_MODE_BRIDGE = 4

MAC = b"\x02\x00\x00\x00\x00\x07"

# Of a thread that has waited for references for more than a second
WAITERS = ("netdev_wait_allrefs_any", "netdev_rebroadcast_unregister",
           "netdev_reap", "netdev_run_todo")


@dataclasses.dataclass
class Kind:
    """ What a test needs to know about a kind that is audited """
    peer: int = 0
    data: list = dataclasses.field(default_factory=list)
    # What "ip link set type" can say
    change: list = dataclasses.field(default_factory=list)
    moves: bool = True


@dataclasses.dataclass
class Section:
    """ What a thread did while it held RTNL, and right after """
    rtnl: str
    caller: str
    # Numbers of the namespaces whose mutexes are held, after each acquisition
    held: list = dataclasses.field(default_factory=lambda: [frozenset()])
    # Namespaces and names of the devices that it unregistered
    reaped: list = dataclasses.field(default_factory=list)

    def holds(self, nets):
        """ Whether it held the mutexes of all these at the same time """
        return any(nets <= held for held in self.held)


def sections(events):
    """ The sections that a LockTrace tells of, as they began """
    found = []
    # By thread: the last one, and whether it is still held
    last, inside = {}, set()
    for thread, event, fields in events:
        net = fields.get("net_inum")
        if event == "lock_acquired" and net == "0":
            caller = fields["caller"].split("+")[0]
            if not caller.startswith(WAITERS):
                last[thread] = Section(fields["rtnl"], caller)
                found.append(last[thread])
                inside.add(thread)
        elif event == "lock_release" and net == "0":
            inside.discard(thread)
        elif event == "lock_acquired" and thread in inside:
            last[thread].held.append(last[thread].held[-1] | {net})
        elif event == "lock_release" and thread in inside:
            last[thread].held.append(last[thread].held[-1] - {net})
        elif event == "reaped" and thread in last:
            last[thread].reaped.append((fields["home_inum"], fields["dev"]))
    return found


def told(found):
    """ Who held RTNL how """
    return sorted({(section.caller, section.rtnl) for section in found})


def reaped_by(found, netns):
    """ The names of a namespace's devices that sections unregistered """
    return sorted(name for section in found for home, name in section.reaped
                  if home == netns)


def counters():
    """ How many sections there were, by what they were """
    try:
        with open(SECTIONS, encoding="ascii") as file:
            return {name: int(count) for name, count in map(str.split, file)}
    except FileNotFoundError as err:
        raise KsftSkipEx(f"the kernel has no {SECTIONS}: no debugfs, or no "
                         "CONFIG_NET_SMALL_RTNL") from err


def grown(before):
    """ How many sections there were since then """
    return {name: count - before[name] for name, count in counters().items()}


class OwnTrace(LockTrace):
    """ How this very thread holds RTNL, request by request """

    def __init__(self):
        super().__init__(set_event_pid=str(os.getpid()))
        self.asked = 0

    def ask(self, what, func, *args, **kwargs):
        """ Do one request, that has to succeed. Returns its sections. """
        self.set("trace", "")
        self.asked += 1
        err = func(*args, **kwargs)
        found = sections(self.read())
        ksft_eq(strerror(err), "success", what)
        ksft_true(found, f"{what} takes no lock at all")
        return found

    def ask_shared(self, what, nets, func, *args, **kwargs):
        """ The same. The locks of these namespaces are enough for it. """
        found = self.ask(what, func, *args, **kwargs)
        ksft_eq([pair for pair in told(found) if pair[1] != "shared"], [],
                what)
        held = [sorted(max(section.held, key=len)) for section in found]
        ksft_true(any(section.holds(nets) for section in found),
                  f"{what} needs the mutexes of {sorted(nets)}, has {held}")
        return found


class Crew:
    """
    Processes that do something at the same moment, again and again. Each calls
    its function with the number of the round, which returns an error number.
    """

    def __init__(self, *funcs):
        self.funcs = funcs
        self.usecs = (0, STRETCH_RACE)
        self.barrier = multiprocessing.Barrier(len(funcs) + 1)
        self.results = multiprocessing.Array("i", len(funcs))
        self.procs = [multiprocessing.Process(target=self._run, args=(me,))
                      for me in range(len(funcs))]

    def _run(self, me):
        with contextlib.suppress(threading.BrokenBarrierError):
            for num in itertools.count():
                self.barrier.wait()
                for _ in range(random.randrange(5000)):
                    pass
                try:
                    self.results[me] = self.funcs[me](num)
                finally:
                    self.barrier.wait()

    def go(self, also=None):
        """ One round. Returns what they return. """
        self.results[:] = [-1] * len(self.funcs)
        usecs = random.choice(self.usecs)
        with stretched(usecs) if usecs and os.path.exists(DELAY) else \
                contextlib.nullcontext():
            self.barrier.wait()
            if also:
                also()
            self.barrier.wait()
        if -1 in self.results[:]:
            raise KsftFailEx("a process has failed")
        return self.results[:]

    def __enter__(self):
        for proc in self.procs:
            proc.start()
        return self

    def __exit__(self, exc_type, exc_value, traceback):
        # They wait for the next round
        self.barrier.abort()
        for proc in self.procs:
            proc.join()


def names(errs):
    """ Error numbers in words """
    return [strerror(err) for err in errs]


def first_error(errs):
    """ Of what several requests return, 0 if there is none """
    return next(filter(None, errs), 0)


def pass_each_other(s, pool, funcs, *others, rounds=1):
    """
    Run each of funcs, for namespaces of its own, beside the others. Two of
    funcs have to hold RTNL at the same moment, and nothing may be left.
    """
    with Crew(*funcs, *others) as crew:
        crew.usecs = (STRETCH,)
        with LockTrace() as trace:
            for _ in range(rounds):
                ksft_eq(names(crew.go()), ["success"] * len(crew.procs))
        pids = {proc.pid for proc in crew.procs[:len(funcs)]}
    pool.wait_freed()
    s.check_left()
    ksft_ge(most_at_once(trace, pids), 2, "they wait for each other")


def require_kind(pool, kind, data=(), lower=None):
    """ Skip what needs a kind that the kernel does not have. Loads it. """
    netns, = pool.add("K")
    with Rtnl(netns) as rtnl:
        link = 0
        if lower:
            ksft_eq(strerror(rtnl.add("l0", lower, None)), "success")
            link = ifindex(netns, "l0")
        err = rtnl.add("k0", kind, None, data, link)
    pool.kill(netns)
    pool.wait_freed()
    if err == errno.EOPNOTSUPP:
        raise KsftSkipEx(f"the kernel has no {kind}")
    ksft_eq(strerror(err), "success", kind)


@contextlib.contextmanager
def fallback_tunnels(value):
    """ In all namespaces: 0; in none: 2 """
    with contextlib.ExitStack() as stack:
        if os.path.exists(FALLBACK):
            with open(FALLBACK, "r+", encoding="ascii") as file:
                old = file.read()
                file.seek(0)
                file.write(value)
            stack.callback(write_file, FALLBACK, old)
        yield


@contextlib.contextmanager
def no_fallback_tunnels():
    """ Have nothing but a loopback device in new namespaces """
    with fallback_tunnels("2"):
        with Pool() as pool:
            netns, = pool.add("K")
            there = devices(netns)
        if there != {"lo"}:
            raise KsftSkipEx(f"a new namespace has {sorted(there)}")
        yield


@contextlib.contextmanager
def nets_for(kind, data, *nets):
    """ New namespaces with nothing in them, if the kernel has this kind """
    counters()
    with no_fallback_tunnels(), Pool() as pool:
        require_kind(pool, kind, data)
        s = Nets(pool, *nets)
        s.ignore()
        yield s, pool


def in_new_namespaces(pool, rounds, func):
    """
    Make namespaces, and delete them with what func(rtnl, netns, num) makes.
    Returns the first error.
    """
    for num in range(rounds):
        name = f"new-{os.getpid()}-{num}"
        pool.make(name)
        try:
            with Rtnl(name) as rtnl, NetnsFd(name) as netns:
                err = func(rtnl, netns, num)
        finally:
            pool.unmake(name)
        if err:
            return err
    return 0


def write_file(path, text):
    """ Write a file of proc """
    with open(path, "w", encoding="ascii") as file:
        file.write(text)


def die(s, pool, ends_with):
    """ Let A die. Returns the sections meanwhile. """
    held = s.hold("a")
    with LockTrace() as trace:
        held.close()
        busywait(lambda: devices(s.b) == {"lo"} | ends_with, "peers are gone")
        # These are all: no wait makes up for one that is late
        pool.wait_freed()
    return sections(trace.events)


def change_more(s, trace, kind, what):
    """ Make a device in A, whose peer is in B, change it and delete it """
    a, b, c = inum(s.a), inum(s.b), inum(s.c)
    peer = {b} if what.peer else set()
    with NetnsFd(s.a) as fd_a, NetnsFd(s.b) as fd_b, NetnsFd(s.c) as fd_c:
        data = what.data + (pair_data(what.peer, "y0", fd_b) if peer else [])
        trace.ask_shared("creation", {a} | peer, s.rtnl["a"].add, "x0", kind,
                         fd_a, data)
        if peer:
            trace.ask_shared("up, the peer", {b}, s.rtnl["b"].set_up, "y0")
        trace.ask_shared("up", {a}, s.rtnl["a"].set_up, "x0")
        if what.change:
            trace.ask_shared("change", {a}, s.rtnl["a"].change, "x0", kind,
                             what.change)
        trace.ask_shared("down", {a}, s.rtnl["a"].set_down, "x0")
        home = "a"
        if what.moves:
            trace.ask_shared("move", {a, c}, s.rtnl["a"].move, "x0", fd_c)
            home = "c"
    found = trace.ask_shared("deletion", {inum(s.nets[home])} | peer,
                             s.rtnl[home].delete, "x0")
    ksft_eq(reaped_by(found, inum(s.nets[home])), ["x0"])
    ksft_eq(reaped_by(found, b), ["y0"] if peer else [])


def live_and_die(kind, what):
    """ Life of a device of this kind, and its death with its namespace """
    with nets_for(kind, what.data, *"abc") as (s, pool):
        with OwnTrace() as trace:
            for _ in range(REPEAT):
                change_more(s, trace, kind, what)
        s.check_left()

        with NetnsFd(s.a) as fd_a, NetnsFd(s.b) as fd_b:
            peer = pair_data(what.peer, "y0", fd_b) if what.peer else []
            errs = [s.rtnl["a"].add("x0", kind, fd_a, what.data + peer),
                    s.rtnl["a"].set_up("x0") if not peer else 0]
        ksft_eq(names(errs), ["success"] * 2)
        a, b = inum(s.a), inum(s.b)
        found = die(s, pool, set())
        s.check_left()
        ksft_true("x0" in reaped_by(found, a), "no section reaped the device")
        ksft_eq(reaped_by(found, b), ["y0"] if peer else [])
        ksft_eq([pair for pair in told(
            section for section in found if section.holds({a}))
                 if pair[1] != "shared"], [])
