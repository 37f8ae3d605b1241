#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0

"""
bench.py check: is what the environment asks for possible?
bench.py run NAME=IMAGE... [traced:NAME=IMAGE...]: boot these kernels in turn, again
and again, let guest.py measure in each, and save each result as soon as it is there.
With events on, a kernel that has another image for that is booted from it.

bench.sh says which variables there are.
"""

import collections
import json
import os
import re
import subprocess
import sys
import time

import report

SCENARIOS = report.SCENARIOS
PLACES = ("child-child", "host-child", "host-host")
WORKERS = (1, 2, 4, 8, 16)
DEVICES = 10
# More namespaces than that are measured once
OFTEN = 500
# User-mode Linux has no interrupt for irq_work, so that irq_work_sync() waits
# for a grace period. Whoever frees a rhashtable calls that, so the death of a
# namespace has two more waits, of 20 ms each at its HZ, than on a PC.
UML_ARGS = "rcupdate.rcu_expedited=1"

TOOLS = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
TOP = os.path.dirname(os.path.dirname(TOOLS))

with open(f"{TOOLS}/lib.sh", encoding="ascii") as lib_sh:
    STATUS = {name: int(value) for name, value in
              re.findall(r"^(ST_\w+)=(\d+)", lib_sh.read(), re.M)}

# Cases with another number of possible CPUs have boots of their own
Case = collections.namedtuple("Case", "scenario key args possible",
                              defaults=(None,))


class Error(Exception):
    """ One sentence for the user """


def number(name, default):
    """ A variable that holds a positive number """
    text = os.environ.get(name) or default
    if not re.fullmatch(r"[1-9]\d*", text):
        raise Error(f"{name}={text} is not a number above 0")
    return int(text)


class Options:
    """ The environment """

    def __init__(self):
        env = os.environ
        self.scenarios = (env.get("SCENARIOS") or " ".join(SCENARIOS)).split()
        for name in self.scenarios:
            if name not in SCENARIOS:
                raise Error(f"there is no scenario '{name}', only: "
                            f"{' '.join(SCENARIOS)}")
        self.repeat = number("REPEAT", "5")
        self.budget = number("BUDGET", "1500")
        self.scale = number("SCALE", "100")
        self.timeout = number("TIMEOUT", "1200")
        self.trace = (env.get("TRACE") or "1") != "0"
        self.sizes = sorted(self._sizes(env.get("N") or "100 500 2000"))
        self.possible = self._possible(env.get("POSSIBLE"), number("SMP", "2"))
        self.mem = env.get("MEM") or "4G"
        match = re.fullmatch(r"([1-9]\d*)([MG])", self.mem)
        if not match:
            raise Error(f"MEM={self.mem} is not a size of memory: say MEM=4G, "
                        "for example")
        self.mem_mb = int(match[1]) * (1024 if match[2] == "G" else 1)
        self.build = env.get("BUILD") or f"{TOP}/build"
        self.results = env.get("RESULTS") or f"{TOP}/bench/results"
        self._memory()

    @staticmethod
    def _sizes(text):
        for word in text.split():
            if not re.fullmatch(r"[1-9]\d{0,3}", word):
                raise Error(f"N={text}: {word} is not a number of namespaces "
                            "from 1 to 9999")
            yield int(word)

    @staticmethod
    def _possible(text, online):
        # As vm.sh has it, and the configurations of the kernels. The machine may
        # not be chosen yet.
        most = 255 if os.environ.get("MACHINE") == "qemu" else 256
        if not text:
            return [online] + [cpus for cpus in (64, most) if cpus > online]
        for word in text.split():
            if not re.fullmatch(r"[1-9]\d*", word) or \
                    not online <= int(word) <= most:
                raise Error(f"POSSIBLE={text}: {word} is not a number of CPUs "
                            f"from SMP={online} to {most}")
        return sorted({int(word) for word in text.split()})

    def _memory(self):
        # What rtnl_net_bench.c expects of a kernel, which has its own say
        need = self.sizes[-1] * (150 + 50 * DEVICES) // 1024 + 400
        if "setup" in self.scenarios and need > self.mem_mb:
            raise Error(f"N={self.sizes[-1]} namespaces need {need} MB of "
                        f"memory and the guest gets MEM={self.mem}: say a "
                        "smaller N or a larger MEM")
        with open("/proc/meminfo", encoding="ascii") as file:
            have = int(re.search(r"MemAvailable: +(\d+)", file.read())[1]) // 1024
        if have < self.mem_mb:
            raise Error(f"this machine has {have} MB of memory to give and the "
                        f"guest wants MEM={self.mem}: say a smaller MEM")

    def scaled(self, value):
        """ Of devices, cycles and seconds """
        return max(1, value * self.scale // 100)


def say(text):
    """ As lib.sh's """
    now = int(time.monotonic() - START)
    print(f"[{now // 60:3}:{now % 60:02}] {text}", file=sys.stderr, flush=True)


START = time.monotonic()


def machine():
    """ um or qemu """
    return os.environ.get("MACHINE") or "qemu"


def host():
    """ What all of it runs on """
    with open("/proc/cpuinfo", encoding="ascii") as file:
        model = re.search(r"^model name\s*: (.*)$", file.read(), re.M)
    return {"cpu": model[1] if model else os.uname().machine,
            "cpus": os.cpu_count(), "load": os.getloadavg()[0],
            "guests": machine(),
            "arguments": UML_ARGS if machine() == "um" else ""}


# The cases

def case(scenario, name, **options):
    """ -n for n=... """
    args = [scenario]
    for option, value in options.items():
        args += [f"-{option}", str(value)]
    return Case(scenario, f"{scenario} {name}", args)


def setup(size, workers, place):
    """ One size of setup """
    return case("setup", f"N={size} W={workers} {place}", n=size, w=workers,
                D=DEVICES, p=place)


def setups(size):
    """ One size of setup by any number of workers """
    return (setup(size, workers, PLACES[0]) for workers in WORKERS
            if workers <= size)


def churn(opt, workers, place):
    """ One size of churn """
    return case("churn", f"W={workers} {place}", w=workers, d=opt.scaled(3),
                p=place)


def dismantle(opt, peers):
    """ Peers are where that says """
    return case("dismantle", f"N={opt.sizes[0]} peers={peers}", n=opt.sizes[0],
                D=2, c=opt.scaled(3), q=peers)


def bystander(opt, load, place, exclusive=0):
    """ One load on the others; every so many ms, all wait for one request """
    devices = {"dismantle": 1000, "uppers": 500}
    options = {"L": load, "p": place}
    name = load
    if exclusive:
        options["x"] = exclusive
        name += "+exclusive"
    if load in devices:
        options.update(D=opt.scaled(devices[load]), c=1)
    else:
        options.update(d=opt.scaled(3), w=8)
    return case("bystander", f"{name} {place}", **options)


def delete(opt, length, place):
    """ One length of the chain """
    return case("delete", f"length={length} {place}", l=length,
                c=opt.scaled(30), p=place)


def requests(opt, workers, cycles=5000):
    """ So many namespaces with requests of their own """
    return case("requests", f"W={workers}", w=workers, c=opt.scaled(cycles))


def possible_cases(opt, creations=100, deaths=10):
    """ A pair comes, and a namespace with such goes, by how many CPUs there may be """
    place, peers, devices = PLACES[1], "host", DEVICES
    for cpus in opt.possible:
        yield Case("possible", f"possible={cpus} create {place}",
                   case("create", "", c=opt.scaled(creations), p=place).args, cpus)
        yield Case("possible", f"possible={cpus} death D={devices} peers={peers}",
                   case("dismantle", "", n=1, D=devices, c=opt.scaled(deaths),
                        q=peers).args, cpus)


def cni(opt, plugin, workers, deaths=0, cycles=25):
    """ Networks of containers, beside so many deaths of a large namespace """
    options = {"P": plugin, "w": workers}
    if deaths:
        options.update(L="dismantle", c=deaths, D=opt.scaled(1000))
    else:
        options.update(L="none", c=opt.scaled(cycles))
    return case("cni", f"{plugin} W={workers} {options['L']}", **options)


def cni_cases(opt):
    """ Of all that each boot measures """
    for plugin in ("bridge", "ptp"):
        yield cni(opt, plugin, 1, cycles=10)
        yield cni(opt, plugin, 4)
        yield cni(opt, plugin, 4, deaths=opt.scaled(4))


def regular_cases(opt):
    """ What each boot measures """
    small = opt.sizes[0]
    for size in opt.sizes:
        if size <= OFTEN:
            yield from setups(size)
    yield from (setup(small, 1, place) for place in PLACES[1:])
    for place in PLACES[:2]:
        yield from (churn(opt, workers, place) for workers in WORKERS)
    yield churn(opt, 1, PLACES[2])
    yield from (dismantle(opt, peers) for peers in ("host", "one", "each"))
    yield bystander(opt, "none", PLACES[0])
    for load in ("churn", "dismantle", "uppers"):
        for place in PLACES[:2]:
            yield bystander(opt, load, place)
    yield bystander(opt, "uppers", PLACES[2])
    yield bystander(opt, "dismantle", PLACES[0], exclusive=20)
    yield from (delete(opt, 1, place) for place in PLACES)
    yield from (delete(opt, length, PLACES[0]) for length in (2, 3, 10))
    yield from (requests(opt, workers) for workers in WORKERS[:3])
    yield from possible_cases(opt)
    yield from cni_cases(opt)


def once_cases(opt):
    """ What is measured once, if there is time """
    for size in opt.sizes:
        if size > OFTEN:
            yield from setups(size)


def traced_cases(opt):
    """ What is measured once more, with events on """
    for place in PLACES:
        yield setup(min(opt.sizes[0], 50), 1, place)
        yield churn(opt, 4, place)
        yield delete(opt, 1, place)
    yield from (dismantle(opt, peers) for peers in ("host", "one", "each"))
    yield bystander(opt, "churn", PLACES[0])
    yield bystander(opt, "dismantle", PLACES[0])
    yield bystander(opt, "uppers", PLACES[0])
    # More workers than there are CPUs, so that what stands in line shows
    yield setup(opt.sizes[0], min(opt.sizes[0], 4), PLACES[0])
    yield churn(opt, 16, PLACES[0])
    yield from (requests(opt, workers, 500) for workers in WORKERS[1:3])
    yield from possible_cases(opt, 20, 3)
    yield from (cni(opt, plugin, 4, cycles=5) for plugin in ("bridge", "ptp"))


# Guests

def rtnl_address(image):
    """ Of the mutex or rw_semaphore, in the kernel's own symbols """
    folder = re.sub(r"(/arch/x86/boot/bzImage|/linux)$", "", image)
    try:
        text = subprocess.run(["nm", f"{folder}/vmlinux"], text=True,
                              capture_output=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return None
    match = re.search(r"^([0-9a-f]+) \w rtnl_(?:mutex|sem)$", text, re.M)
    return match and int(match[1], 16)


class Bench:
    """ Boots, and keeps what comes out of them """

    def __init__(self, opt, images, traced):
        self.opt = opt
        self.images = images
        self.traced = {**images, **traced}
        self.folder = os.path.join(opt.build, "bench")
        self.runs = {name: [] for name in opt.scenarios}
        self.machines = {}
        self.host = host()
        self.bad = []
        os.makedirs(opt.results, exist_ok=True)
        os.makedirs(f"{opt.build}/log", exist_ok=True)
        for name in opt.scenarios:
            path = f"{opt.results}/{name}.json"
            if os.path.exists(path):
                os.unlink(path)

    def chosen(self, cases):
        """ Those of the scenarios that are wanted """
        return [case for case in cases if case.scenario in self.opt.scenarios]

    def _save(self, scenario):
        path = f"{self.opt.results}/{scenario}.json"
        with open(f"{path}.new", "w", encoding="ascii") as file:
            json.dump({"scenario": scenario, "kernels": list(self.images),
                       "host": self.host, "machines": self.machines,
                       "runs": self.runs[scenario]}, file, indent=1)
            file.write("\n")
        os.rename(f"{path}.new", path)

    def _plan(self, image, cases, trace):
        plan = f"{self.folder}/plan.json"
        with open(plan, "w", encoding="ascii") as file:
            json.dump({"generator": f"{self.folder}/rtnl_net_bench",
                       "trace": trace, "rtnl": rtnl_address(image),
                       "cases": [{"key": case.key, "args": case.args}
                                 for case in cases]}, file)
        script = f"{self.folder}/script.sh"
        with open(script, "w", encoding="ascii") as file:
            file.write(f"exec '{TOOLS}/bench/guest.py' '{plan}'\n")
        return script

    def _env(self, image, script, log):
        env = {name: value for name, value in os.environ.items()
               if name not in ("CONFIG", "GUEST_ENV", "KERNEL_ARGS", "STRICT",
                               "MODULES", "POSSIBLE")}
        env.update(KERNEL=image, SCRIPT=script,
                   LOG=f"{log}-console.log", MACHINE="qemu", MEM=self.opt.mem,
                   TIMEOUT=str(self.opt.timeout))
        if machine() == "um":
            env.update(MACHINE="um", KERNEL_ARGS=UML_ARGS)
        return env

    def boot(self, kernel, cases, repeat, trace=False):
        """ One boot that measures these; returns seconds """
        begin = time.monotonic()
        cases = self.chosen(cases)
        if not cases:
            return 0
        image = (self.traced if trace else self.images)[kernel]
        script = self._plan(image, cases, trace)
        log = f"{self.opt.build}/log/bench-{kernel}"
        env = self._env(image, script, log)
        if cases[0].possible:
            env.update(POSSIBLE=str(cases[0].possible))
        missing = {case.key: case for case in cases}
        ended = False
        with open(f"{log}.log", "a", encoding="utf-8") as errors, \
             subprocess.Popen([f"{TOOLS}/vm.sh"], stdout=subprocess.PIPE,
                              stderr=errors, stdin=subprocess.DEVNULL,
                              env=env, text=True, errors="replace") as guest:
            for line in guest.stdout:
                try:
                    data = json.loads(line)
                except ValueError:
                    print(line, end="", file=errors, flush=True)
                    continue
                ended |= "end" in data
                self._take(kernel, repeat, trace, data, missing)
        self._judge(kernel, guest.returncode, ended, missing, log)
        return time.monotonic() - begin

    def _take(self, kernel, repeat, trace, data, missing):
        if "machine" in data:
            self.machines[kernel] = data["machine"]
        elif "note" in data:
            say(f"{kernel}: {data['note']}")
        elif "error" in data:
            missing.pop(data["key"])
            self.bad.append(f"{kernel}, {data['key']}: {data['error']}")
            say(self.bad[-1])
        elif "result" in data:
            done, result = missing.pop(data["key"]), data["result"]
            if done.possible:
                result.update(scenario=done.scenario, what=done.args[0],
                              possible=done.possible)
            self.runs[done.scenario].append(
                {"key": data["key"], "kernel": kernel, "repeat": repeat,
                 "traced": trace, "result": result})
            self._save(done.scenario)

    def _judge(self, kernel, status, ended, missing, log):
        why = {STATUS["ST_DEAD"]: "it died",
               STATUS["ST_TIME"]: f"{self.opt.timeout} s were over"}
        if status in why or not ended:
            next_key = next(iter(missing), "the end")
            raise Error(f"the guest '{kernel}' was lost at '{next_key}' "
                        f"({why.get(status, f'vm.sh said {status}')}); what was "
                        f"measured before is in {self.opt.results}, its log is "
                        f"{log}-console.log")
        if status in (STATUS["ST_LOG"], STATUS["ST_LEAK"]):
            self.bad.append(f"{kernel}: " + (
                "the kernel log holds a report" if status == STATUS["ST_LOG"] else
                "the guest ended with devices or namespaces left") +
                f", see {log}.log")
            say(self.bad[-1])

    def round(self, cases, repeat, trace=False):
        """ Each kernel once for each number of CPUs; returns seconds """
        took = 0
        boots = collections.defaultdict(list)
        for one in cases:
            boots[one.possible].append(one)
        for possible, part in boots.items():
            cpus = f" with {possible} possible CPUs" if possible else ""
            for kernel in self.images:
                seconds = self.boot(kernel, part, repeat, trace)
                if seconds:
                    say(f"{'traced' if trace else f'repeat {repeat}'}: {kernel}"
                        f"{cpus} took {seconds:.0f} s")
                took += seconds
        return took

    def once_seconds(self, cases):
        """ How long the largest of setup will take, by the next smaller one """
        known = {run["result"]["workers"]: run["result"]
                 for run in self.runs.get("setup", [])
                 if run["result"]["place"] == PLACES[0]}
        took = 0
        for case in cases:
            size, workers = int(case.args[2]), int(case.args[4])
            if workers in known:
                last = known[workers]
                each = last["each_ns"] + last["teardown_ns"] / last["namespaces"]
                # It grows a bit with the number
                took += size * each * 1.3e-9
        return took * len(self.images)

    def run(self):
        """ All of it """
        opt = self.opt
        left = opt.budget
        regular = list(regular_cases(opt))
        took = self.round(regular, 1)
        left -= took

        once = self.chosen(once_cases(opt))
        expected = self.once_seconds(once)
        if once and expected > left - took:
            self.bad.append(f"setup with N={opt.sizes[-1]} would take about "
                            f"{expected:.0f} s more than BUDGET={opt.budget} "
                            "leaves: it was left out")
            say(self.bad[-1])
        else:
            left -= self.round(once, 1)

        # The traced ones are about half of a round
        fit = 1 + max(0, int((left - took / 2 * opt.trace) / max(took, 1)))
        repeat = min(opt.repeat, max(fit, min(opt.repeat, 2)))
        if repeat < opt.repeat:
            say(f"a repeat takes {took:.0f} s, so there will be {repeat} and "
                f"not REPEAT={opt.repeat} within BUDGET={opt.budget}")
        for num in range(2, repeat + 1):
            self.round(regular, num)
        if opt.trace:
            self.round(list(traced_cases(opt)), 1, trace=True)


def run(words):
    """ NAME=IMAGE..., and others for the traced boots """
    images, traced = {}, {}
    for word in words:
        name, image = word.split("=", 1)
        if name.startswith("traced:"):
            traced[name.removeprefix("traced:")] = image
        else:
            images[name] = image
    bench = Bench(Options(), images, traced)
    lost = None
    try:
        bench.run()
    except Error as error:
        lost = error
    if any(bench.runs.values()):
        report.report(bench.opt.results)
    for text in bench.bad:
        print(f"error: {text}", file=sys.stderr)
    if lost:
        raise lost
    sys.exit(1 if bench.bad else 0)


def main():
    """ Two commands """
    try:
        if sys.argv[1:] == ["check"]:
            Options()
        elif sys.argv[1:2] == ["run"] and len(sys.argv) > 2:
            run(sys.argv[2:])
        else:
            sys.exit("usage: bench.py check | run NAME=IMAGE... "
                     "[traced:NAME=IMAGE...]")
    except Error as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
