#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0

"""
Each kind of device that can die because something in another network namespace
does, in each way that it can die.

        A                B                C                D
  +------------+   +------------+   +------------+   +------------+
  |  l --------|---|------------|---|------------|---|-- p        |  veth
  |  |---------|---|-- u        |   |            |   |            |
  |  +---------|---|------------|---|-- v        |   |            |  stacked
  |  socket ---|---|-- t        |   |            |   |            |  tunnel
  |  x --------|---|-- y        |   |            |   |            |  pair
  +------------+   +------------+   +------------+   +------------+

A case is a list of steps: devices are deleted, or moved to another namespace,
or one or more namespaces die. Each case is played with all kinds at a time, as
they would meet on a host. After each step, a device is left if a short model of
who depends on whom says so, and each device that is gone was announced dead
once, in its namespace if that lives, and before a lower device came there that
it did not survive the move of. What is left can then be deleted. If no
namespace died, all is played twice, with the same names.

Environment: KINDS, a list of keys of the table in rtnl_net_devs.py, or "all".
Without it, kinds that the kernel does not have are left out.
"""

import os
import subprocess

from lib.py import KsftNamedVariant, KsftSkipEx, ksft_eq, ksft_exit, ksft_lt, \
    ksft_run, ksft_variants
from rtnl_net_devs import KINDS, PAIR, STACKED, TUNNEL, make, present
from rtnl_net_lib import RTM_DELLINK, RTM_NEWLINK, Nets, NetnsFd, Pool, \
    deaths, ifindex, strerror

CASES = {
    PAIR: [
        "del x",
        "del y",
        "kill a",
        "kill b",
        "kill ab",
        "move x b; del x",
        "move x b; kill b",
        "move y c; del x",
        "move y c; kill a",
        "move y c; kill c",
        "move x d; move y c; kill cd",
    ],
    TUNNEL: [
        "del t",
        "kill a",
        "kill b",
        "kill ab",
        "move t a; del t",
        "move t a; kill a",
        "move t c; del t",
        "move t c; kill b; kill a",
        "move t c; kill c",
        "move t c; kill abc",
    ],
    STACKED: [
        "del u",
        "del l",
        "del p",
        "kill a",
        "kill b; del l",
        "kill d",
        "kill ab",
        "kill bd",
        "kill bc; kill a",
        "kill abcd",
        "move u a; del l",
        "move u a; kill a",
        "move u d; del p",
        "move u d; kill d",
        "move l b; del p",
        "move l b; kill b",
        "move l d; kill a; kill d",
    ],
}

WANTED = os.environ.get("KINDS", "").replace(",", " ").split()
if not WANTED or WANTED == ["all"]:
    WANTED = list(KINDS)
FOUND = {}


class Scene(Nets):
    """
    Devices of some kinds, where they are, and a model of who needs whom. A
    device's name is a letter and the number of its kind.
    """

    def __init__(self, pool, keys):
        super().__init__(pool, *"abcd")
        self.keys = dict(enumerate(keys))
        self.where = {}
        # What a device dies with: a device, or a namespace
        self.needs = {}

    def build(self):
        """ As in the picture, in the namespaces that are there """
        self.ignore()
        for num, key in self.keys.items():
            self._build(num, key)

    def _build(self, num, key):
        if KINDS[key].how == PAIR:
            self._make(key, f"x{num}", "a", "a", peer=(f"y{num}", "b"))
            self.needs |= {f"x{num}": f"y{num}", f"y{num}": f"x{num}"}
        elif KINDS[key].how == TUNNEL:
            self._make(key, f"t{num}", "a", "b", num)
            self.needs[f"t{num}"] = "a"
        else:
            self._build_stack(num, key)

    def _build_stack(self, num, key):
        lower, peer = f"l{num}", f"p{num}"
        with NetnsFd(self.a) as a, NetnsFd(self.d) as d:
            err = self.rtnl["a"].add_veth(lower, a, peer, d)
        ksft_eq(strerror(err), "success")
        self.where |= {lower: "a", peer: "d"}
        self.needs |= {lower: peer, peer: lower}
        index = ifindex(self.a, lower)
        for upper, home in (("u", "b"), ("v", "c")):
            if upper == "v" and KINDS[key].one:
                break
            self._make(key, f"{upper}{num}", "a", home, ord(upper) + num,
                       index)
            self.needs[f"{upper}{num}"] = lower

    def _make(self, key, name, source, home, num=0, link=0, peer=None):
        with NetnsFd(self.nets[home]) as netns, \
                NetnsFd(self.nets[peer[1] if peer else home]) as other:
            err = make(self.rtnl[source], key, name, netns, num, link,
                       (peer[0], other) if peer else None)
        assert not err, f"make {key} {name}: {strerror(err)}"
        self.where[name] = home
        if peer:
            self.where[peer[0]] = peer[1]

    def doomed(self, dead):
        """ A device that dies takes along all that needs it """
        more = {name for name, need in self.needs.items() if need in dead}
        return dead if more <= dead else self.doomed(dead | more)

    def act(self, what, which, home=None):
        """ One step of a case. Returns who has to be gone. """
        if what == "kill":
            return self._kill(which)
        gone = set()
        for name in sorted(name for name in self.where if name[0] == which):
            if what == "del":
                gone |= self.doomed({name})
                err = self.rtnl[self.where[name]].delete(name)
                ksft_eq(strerror(err), "success")
            else:
                gone |= self._move(name, home)
        return gone & set(self.where)

    def _kill(self, letters):
        gone = self.doomed({name for name, home in self.where.items()
                            if home in letters} | set(letters))
        self.kill(*letters)
        return gone & set(self.where)

    def _move(self, name, home):
        kind = KINDS[self.keys[int(name[1:])]]
        if kind.fixed and name[0] == "u":
            return set()
        with NetnsFd(self.nets[home]) as netns:
            err = self.rtnl[self.where[name]].move(name, netns)
        assert not err, f"move {name} to {home}: {strerror(err)}"
        self.where[name] = home
        if kind.follows and name[0] == "l":
            return self.doomed({name}) - {name, self.needs[name]}
        return set()

    def play(self, case):
        """ All steps, and what is left after each """
        for words in case.split(";"):
            self.watch()
            words = words.split()
            moved = dict(self.where) if words[0] == "move" else {}
            gone = self.act(*words)
            announced = {letter: [] for letter in self.nets}
            # Who dies before which device comes to the same namespace
            order = {letter: [] for letter in self.nets}
            for name in sorted(gone):
                lower = self.needs.pop(name)
                home = self.where.pop(name)
                if moved and self.where.get(lower) == home:
                    order[home].append((name, lower))
                if home in announced:
                    announced[home].append(name)
            # One that moves is announced dead where it was
            for name, home in moved.items():
                if name in self.where and self.where[name] != home:
                    announced[home].append(name)
            self.check(case)
            for letter, monitor in self.monitors.items():
                events = monitor.events()
                ksft_eq(deaths(events), sorted(announced[letter]),
                        f"{case}: wrong notifications in {letter}")
                for name, lower in order[letter]:
                    ksft_lt(events.index((RTM_DELLINK, name)),
                            events.index((RTM_NEWLINK, lower)),
                            f"{case}: {lower} comes before {name} dies")

    def check(self, case):
        """ What is left, where """
        left = {letter: [] for letter in self.nets}
        for name, home in sorted(self.where.items()):
            left[home].append(name)
        self.check_left(case, **left)

    def clean(self):
        """ What is left can be deleted """
        for which in "uvtlxy":
            for name in self.act("del", which):
                self.where.pop(name)
                self.needs.pop(name)
        self.check("clean")


def keys_of(how):
    """ The kinds to test """
    if how not in FOUND:
        keys = [key for key in WANTED if KINDS[key].how == how]
        with Pool() as pool:
            FOUND[how] = present(pool, keys)
        if os.environ.get("KINDS"):
            ksft_eq(FOUND[how], keys)
    if not FOUND[how]:
        raise KsftSkipEx(f"no {how} to test")
    return FOUND[how]


@ksft_variants([KsftNamedVariant(f"{how}_{case}".replace("; ", "_")
                                 .replace(" ", "_"), how, case)
                for how, cases in CASES.items() for case in cases])
def die(how, case):
    """ One case with all kinds """
    keys = keys_of(how)
    with Pool() as pool:
        scene = Scene(pool, keys)
        for _ in range(1 if "kill" in case else 2):
            scene.build()
            scene.play(case)
            scene.clean()


@ksft_variants([KsftNamedVariant(key, key) for key in WANTED])
def unload(key):
    """ The module goes while devices of the kind are in several netns """
    kind = KINDS[key]
    if key not in keys_of(kind.how):
        raise KsftSkipEx(f"the kernel has no {key}")
    with Pool() as pool:
        scene = Scene(pool, [key])
        scene.build()
        error = remove(module(kind.kind))
        if error:
            scene.watch()
            scene.clean()
            raise KsftSkipEx(error)
        scene.where = {name: home for name, home in scene.where.items()
                       if name[0] in "lp"}
        scene.needs = {"l0": "p0", "p0": "l0"}
        scene.check("unload")
        scene.watch()
        scene.clean()


def module(kind):
    """ What has the link ops of a kind """
    ret = subprocess.run(["modprobe", "-R", f"rtnl-link-{kind}"], check=False,
                         capture_output=True, text=True)
    return ret.stdout.split()[0] if ret.stdout.split() else kind


def remove(name):
    """ Remove a module, and first those that use it. Returns why not. """
    holders = f"/sys/module/{name}/holders"
    for holder in os.listdir(holders) if os.path.isdir(holders) else []:
        remove(holder)
    ret = subprocess.run(["modprobe", "-r", name], check=False,
                         capture_output=True, text=True)
    return ret.stderr.strip()


def main():
    """ All of the above """
    ksft_run([die, unload])
    ksft_exit()


if __name__ == "__main__":
    main()
