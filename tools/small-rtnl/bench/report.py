#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0

"""
report.py DIR: from the results that bench.py left in DIR, the table of
ratios and the plots.

A ratio compares a kernel with the first one, stock: above 1 is slower. Kernels
are booted in turn, so what disturbs one disturbs the others; still any boot of
one is compared with any boot of the other. The median of these ratios is
printed, with the smallest and the largest as its spread. "!" marks what is
above 1.05 throughout the spread.

Of requests and cni, a second table has the operations, or containers, per second of
each kernel, and its scaling: how many times those of one worker in the same boot.

Of possible, another one has what a creation or a death takes with so many possible
CPUs, and how many times as much as with the fewest of the same kernel.

From the traced boots, serial.md has what bounds the operations per second with more
CPUs, see bounds.py.
"""

import collections
import glob
import json
import os
import shutil
import statistics
import subprocess
import sys

import bounds

SLOWER = 1.05
SCENARIOS = ("setup", "churn", "dismantle", "bystander", "delete",
             "requests", "possible", "cni")
# Of the kernels, the same in all plots
COLORS = {"stock": "#d95f02", "off": "#7f7f7f", "on": "#1f6fb2"}
PLOTTED_CPUS = (2, 4, 8, 16, 32, 64)
# What is done by more and more workers
PARALLEL = ("requests", "cni")

TRACED = (
    ("contended_rtnl", "wait for RTNL held by others"),
    ("contended_other", "wait for other mutexes held by others"),
    ("wait_rtnl", "lock wait, RTNL"),
    ("wait_netns", "lock wait, namespaces' mutexes"),
    ("hold_rtnl", "lock hold, RTNL"),
    ("hold_netns", "lock hold, namespaces' mutexes"),
    ("gp_wait", "wait for expedited grace periods"),
    ("gp_wait_locked", "of that, with a lock held"),
    ("gp_normal", "grace periods, normal"),
    ("gp_expedited", "grace periods, expedited"),
    ("gp_barrier", "rcu_barrier() calls"),
    ("wakeups", "wake-ups"),
)


def spread(values, base):
    """ Median, smallest and largest of all ratios of values to those of base """
    ratios = [value / other for value in values for other in base if other]
    if not ratios:
        return None
    return statistics.median(ratios), min(ratios), max(ratios)


def is_slower(ratio, count=2):
    """ Not by chance, which one measurement of each cannot tell """
    return ratio is not None and count > 1 and ratio[1] > SLOWER


def container_metrics(result):
    """ The same of cni """
    for verb in ("add", "del"):
        latency = result[f"{verb}_ns"]
        if not latency["samples"]:
            continue
        yield f"{verb.upper()} p50", latency["p50"]
        if latency["samples"] >= 100:
            yield f"{verb.upper()} p99", latency["p99"]
        yield f"{verb.upper()} max", latency["max"]
    if result["load"] == "none":
        yield "per container", result["window_ns"] / result["operations"]


def metrics(result):
    """ What is compared of one result, in ns: name and value """
    scenario = result["scenario"]
    latency = result.get("latency_ns")
    if scenario == "setup":
        yield "per namespace", result["each_ns"]
        yield "teardown", result["teardown_ns"]
    elif scenario == "churn":
        if result["cycles"]:
            yield "per cycle", result["freed_ns"] / result["cycles"]
    elif scenario == "dismantle":
        yield "to the last free", latency["mean"]
    elif scenario == "cni":
        yield from container_metrics(result)
    elif scenario == "requests":
        yield "per operation", result["window_ns"] / result["operations"]
    elif latency:
        yield "p50", latency["p50"]
        # Of fewer, it is the largest
        if latency["samples"] >= 100:
            yield "p99", latency["p99"]
        if scenario == "bystander":
            yield "max", latency["max"]
        if "exclusive_ns" in result:
            yield "exclusive p50", result["exclusive_ns"]["p50"]
            yield "exclusive max", result["exclusive_ns"]["max"]


def possible_metrics(run):
    """ The same of possible; or a count, of each creation or death """
    result = run["result"]
    count = result["latency_ns"]["samples"]
    if not run["traced"]:
        yield "p50", result["latency_ns"]["p50"]
        yield "uevents", result["uevents"] / count
        return
    waits = (result.get("trace") or {}).get("gp_wait")
    if waits:
        yield "waits for expedited grace periods", waits["count"] / count


def operations(result):
    """ What there is one of for each namespace, cycle, command or request """
    scenario = result["scenario"]
    if scenario == "setup":
        return result["namespaces"]
    if scenario == "churn":
        return result["cycles"]
    if scenario in PARALLEL:
        return result["operations"]
    return result["latency_ns"]["samples"]


def nice(value):
    """ Nanoseconds to be read """
    for unit, size in (("s", 1e9), ("ms", 1e6), ("us", 1e3)):
        if value >= size:
            return f"{value / size:.3g} {unit}" if value < 1000 * size \
                else f"{value / size:.0f} {unit}"
    return f"{value:.0f} ns"


class Results:
    """ All that was measured, in the order in which it was """

    def __init__(self, folder):
        self.runs = []
        self.kernels = []
        self.machines = {}
        self.host = {}
        for scenario in SCENARIOS:
            path = os.path.join(folder, f"{scenario}.json")
            if not os.path.exists(path):
                continue
            with open(path, encoding="ascii") as file:
                data = json.load(file)
            self.runs += data["runs"]
            self.machines.update(data["machines"])
            self.host = data["host"]
            self.kernels += [name for name in data["kernels"]
                             if name not in self.kernels]

    def values(self):
        """ {(key, metric): {kernel: [values]}}, of runs without tracing """
        table = {}
        for run in self.runs:
            if run["traced"]:
                continue
            for name, value in metrics(run["result"]):
                row = table.setdefault((run["key"], name), {})
                row.setdefault(run["kernel"], []).append(value)
        return table

    def requests(self):
        """ {key: {kernel: [(operations per s, as times of one worker's)]}} """
        table, one = {}, {}
        for run in self.runs:
            result = run["result"]
            if run["traced"] or result["scenario"] not in PARALLEL or \
                    result.get("load", "none") != "none":
                continue
            rate = result["operations"] * 1e9 / result["window_ns"]
            # One worker is the first of a boot
            boot = run["kernel"], run["repeat"], result.get("plugin")
            if result["workers"] == 1:
                one[boot] = rate
            if boot in one:
                row = table.setdefault(run["key"], {})
                row.setdefault(run["kernel"], []).append((rate,
                                                          rate / one[boot]))
        return table

    def possible(self):
        """ {(case, metric): {number of CPUs: {kernel: [values]}}} """
        table = {}
        for run in self.runs:
            if run["result"]["scenario"] != "possible":
                continue
            case = run["key"].partition(" ")[2]
            for name, value in possible_metrics(run):
                row = table.setdefault((case, name), {}).setdefault(
                    run["result"]["possible"], {})
                row.setdefault(run["kernel"], []).append(value)
        # What events counted comes last, and is of the same cases
        return dict(sorted(table.items(), key=lambda item: item[0][0]))

    def traced(self):
        """ {key: {kernel: trace}} """
        table = {}
        for run in self.runs:
            if run["traced"]:
                table.setdefault(run["key"], {})[run["kernel"]] = \
                    run["result"].get("trace")
        return table

    def exclusive(self):
        """ (key, kernel, operations, {caller: acquisitions}) """
        for run in self.runs:
            trace = run["traced"] and run["result"].get("trace")
            if trace and trace.get("exclusive") is not None:
                yield (run["key"], run["kernel"], operations(run["result"]),
                       trace["exclusive"])


def description(results):
    """ What it was measured on, as Markdown """
    host = results.host
    guests = {"um": "User-mode Linux", "qemu": "QEMU"}
    yield f"* Host: {host['cpu']}, {host['cpus']} CPUs, load {host['load']:.1f} before"
    yield f"* Guests: {guests[host['guests']]}" + \
        (f", `{host['arguments']}`" if host["arguments"] else "")
    for name, machine in results.machines.items():
        config = " ".join(f"{key.removeprefix('CONFIG_')}={value}"
                          for key, value in sorted(machine["config"].items()))
        yield (f"* {name}: Linux {machine['release']} {machine['arch']}, "
               f"{machine['cpus']} CPUs, {machine['memory_kb'] // 1024} MB, {config}")
    yield ("* Ratios: median of each boot with each boot, and [smallest-largest]; "
           "above 1 is slower; ! is above 1.05 throughout")


def format_rows(rows):
    """ Columns that are as wide as they have to be, as Markdown """
    widths = [max(len(row[num]) for row in rows) for num in range(len(rows[0]))]
    lines = ["| " + " | ".join(cell.ljust(width) for cell, width in
                               zip(row, widths)) + " |" for row in rows]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines)


def ratio_table(results):
    """ Rows of text, the head first """
    base, *others = results.kernels
    rows = [["case", "metric", f"{base} (+-)"] +
            [f"{name} / {base}" for name in others]]
    for (key, metric), row in results.values().items():
        first = row.get(base, [])
        if not first:
            continue
        median = statistics.median(first)
        noise = (max(first) - min(first)) / 2 / median if median else 0
        cells = [key, metric, f"{nice(median)} ({noise:.0%})"]
        for name in others:
            ratio = spread(row.get(name, []), first)
            cells.append("-" if ratio is None else
                         f"{ratio[0]:.2f} [{ratio[1]:.2f}-{ratio[2]:.2f}]" +
                         (" !" if is_slower(ratio, len(first)) else ""))
        rows.append(cells)
    return rows


def rate_cell(rate):
    """ Operations per second to be read """
    return f"{rate:.0f}" if rate >= 100 else f"{rate:.3g}"


def scaling_cell(values):
    """ Operations per second, and their scaling with its spread """
    if not values:
        return "-"
    speeds, ratios = zip(*values)
    return (f"{rate_cell(statistics.median(speeds))}/s, "
            f"{statistics.median(ratios):.2f} "
            f"[{min(ratios):.2f}-{max(ratios):.2f}]")


def scaling_table(results):
    """ The same for what kernels do in parallel """
    return [["case", *results.kernels]] + \
        [[key] + [scaling_cell(row.get(name)) for name in results.kernels]
         for key, row in results.requests().items()]


def possible_cell(metric, values, least):
    """ A value, and how many times that with the fewest CPUs """
    if not values:
        return "-"
    median = statistics.median(values)
    text = nice(median) if metric == "p50" else f"{median:.1f}"
    ratio = least is not values and spread(values, least or [])
    if ratio:
        text += f", {ratio[0]:.2f} [{ratio[1]:.2f}-{ratio[2]:.2f}]"
    return text


def possible_table(results):
    """ The same by how many CPUs there may be """
    rows = [["case", "metric", "possible CPUs", *results.kernels]]
    for (case, metric), table in results.possible().items():
        least = table[min(table)]
        for cpus, row in sorted(table.items()):
            rows.append([case, metric, str(cpus)] + [
                possible_cell(metric, row.get(name), least.get(name))
                for name in results.kernels])
    return rows


def trace_cell(trace, name):
    """ One value of a traced run """
    if trace is None:
        return "no tracepoints"
    if "lost_events" in trace:
        return "events lost"
    value = trace.get(name)
    if value is None:
        return "no tracepoints"
    if isinstance(value, dict):
        return f"{nice(value['ns'])} in {value['count']}, max {nice(value['max_ns'])}"
    return str(value)


def trace_table(results):
    """ The same for what the events counted """
    rows = [["case", "events", *results.kernels]]
    for key, row in results.traced().items():
        for name, text in TRACED:
            cells = [trace_cell(row[kernel], name) if kernel in row else "-"
                     for kernel in results.kernels]
            if any(cell[0] in "123456789" for cell in cells):
                rows.append([key, text, *cells])
    return rows


def exclusive_table(results):
    """ Who keeps all others out, and how often for each operation """
    rows = [["case", "kernel", "in all", "by caller"]]
    for key, kernel, count, callers in results.exclusive():
        if count:
            rows.append([key, kernel, f"{sum(callers.values()) / count:.2f}",
                         ", ".join(f"{name} {number / count:.2f}"
                                   for name, number in callers.items())])
    return rows


SERIAL_HEAD = """What bounds the operations per second. The demands are the time of one operation:

* RTNL exclusive: it is held so that all others wait, by whatever thread
* init_net, largest other: the mutex of this namespace is held, RTNL being shared; of
  all other namespaces that with the largest demand, of so many
* GP: what of the larger sum, RTNL exclusive and one of these two, is a wait for grace
  periods
* CPU: all CPUs, user space and spinning for a lock included
* no events: with the option off, a kernel does not tell who has RTNL. It has one
  holder at a time, as on stock.

The bound is the smaller of 1 / that sum and CPUs / CPU, with what makes it so small. It
holds for this load: where it is "one netns", a load with more namespaces may have a
higher one. No bound says that so much is reached: threads may also wait for ticks, for
rcu_barrier(), or for each other in turn.

Measured is without events; in brackets, with the lock events that tell the demands. Of
a bound for as many CPUs as were there, "ok" says that both stay below, "WRONG" that one
does not: then the demands or the CPU time were longer than they are.
"""


def serial_rows(results):
    """ Rows of text, the head first; and what is wrong """
    rows = [["case", "kernel", "one is a", "measured /s", "RTNL exclusive", "init_net",
             "largest other", "GP", "CPU"] +
            [f"{cpus} CPUs /s" for cpus in bounds.CPUS] + ["measured < bound"]]
    wrong = []
    for key, row in bounds.demands(results.runs, results.machines).items():
        for kernel in results.kernels:
            if kernel not in row:
                continue
            demand = row[kernel]
            faults = list(demand.faults())
            wrong += [f"{key}, {kernel}: {fault}" for fault in faults]
            cells = [key, kernel, demand.unit,
                     rate_cell(demand.rate) + (
                         f" ({rate_cell(demand.traced.rate)})"
                         if demand.timed.operations else " (only with events)")]
            if demand.known:
                cells += [nice(1e9 * value) if value else "-"
                          for value in (demand.exclusive, demand.init)]
                cells += [f"{nice(1e9 * demand.other)} of {demand.others}"
                          if demand.others else "-", f"{demand.waiting:.0%}"]
            else:
                cells += ["no events"] * 4
            cells.append("-" if demand.cpu is None else nice(1e9 * demand.cpu))
            for cpus in bounds.CPUS:
                bound = demand.bound(cpus)
                cells.append("unknown" if bound is None or
                             not demand.known and cpus > demand.cpus else
                             f"{rate_cell(bound.rate)} {bound.by}")
            rows.append(cells + ["WRONG" if faults else "ok"])
    return rows, wrong


def serial_text(results):
    """ serial.md, or nothing if no kernel has lock events """
    rows, wrong = serial_rows(results)
    if len(rows) == 1:
        return ""
    text = SERIAL_HEAD + "\n" + format_rows(rows) + "\n"
    if wrong:
        text += "\nWRONG, more was measured than the bound allows:\n\n" + \
            "".join(f"* {fault}\n" for fault in wrong)
    return text


def unseen(rows):
    """ What of that no kernel had the events for """
    seen = {row[1] for row in rows}
    return [text for _, text in TRACED if text not in seen]


def write(folder, name, text):
    """ A table in a file and on the terminal """
    with open(os.path.join(folder, name), "w", encoding="ascii") as file:
        file.write(text)
    print(text)


# Plots

def points(results, metric, choose):
    """ {x: {kernel: [values in ms]}}: choose(result) gives x or None """
    table = {}
    for run in results.runs:
        where = None if run["traced"] else choose(run["result"])
        if where is None:
            continue
        value = dict(metrics(run["result"])).get(metric)
        if value is not None:
            row = table.setdefault(where, {})
            row.setdefault(run["kernel"], []).append(value / 1e6)
    return table


def triple(values):
    """ For gnuplot: median, smallest, largest """
    if not values:
        return "NaN NaN NaN"
    return f"{statistics.median(values):.6f} {min(values):.6f} {max(values):.6f}"


def run_gnuplot(path, size, text):
    """ Write an SVG """
    text = f"""set terminal svg size {size} noenhanced background "white"
set output "{path}"
set key top left
set grid ytics
{text}
"""
    done = subprocess.run(["gnuplot"], input=text, text=True, check=False,
                          capture_output=True)
    if done.returncode:
        os.unlink(path)
        sys.exit(f"error: gnuplot does not draw {path}: {done.stderr.strip()}")


def gnuplot(path, commands, table, kernels):
    """ Write an SVG from a table of triples, one for each kernel """
    data = "\n".join(
        (f'"{where}" ' if isinstance(where, str) else f"{where} ") +
        " ".join(triple(row.get(name, [])) for name in kernels)
        for where, row in table.items())
    run_gnuplot(path, "840,480", f"$data << EOD\n{data}\nEOD\n{commands}")


def color(name):
    """ A kernel has the same one everywhere """
    return f'linecolor rgb "{COLORS.get(name, "black")}"'


def lines(kernels):
    """ Over numbers, with the spread """
    return "plot " + ", ".join(
        f'$data using 1:{2 + 3 * num}:{3 + 3 * num}:{4 + 3 * num} '
        f'with yerrorlines lw 2 pt 7 ps 0.5 {color(name)} title "{name}"'
        for num, name in enumerate(kernels))


def rates(kernels):
    """ The same, of how many there are in a ms """
    return "plot " + ", ".join(
        f'$data using 1:(1/${2 + 3 * num}):(1/${4 + 3 * num}):(1/${3 + 3 * num}) '
        f'with yerrorlines lw 2 pt 7 ps 0.5 {color(name)} title "{name}"'
        for num, name in enumerate(kernels))


def bars(kernels):
    """ Over words, with the spread """
    return """set style data histogram
set style histogram errorbars gap 1 lw 1
set style fill solid 0.6
set key outside top center horizontal
set xtics font ",10"
set xlabel offset 0,-2.5
set bmargin 7
plot """ + ", ".join(
        f'$data using {2 + 3 * num}:{3 + 3 * num}:{4 + 3 * num}:xtic(1) '
        f'{color(name)} title "{name}"' for num, name in enumerate(kernels))


def span(values, form):
    """ The smallest and largest of these, as words """
    low, high = (form.format(value) for value in (min(values), max(values)))
    return low if low == high else f"{low} to {high}"


def message(what, style, table, kernels):
    """ What a plot says of the last kernel and the first """
    base, name = kernels[0], kernels[-1]
    ratios = [statistics.median(row[name]) / statistics.median(row[base])
              for row in table.values() if row.get(name) and row.get(base)]
    if name == base or not ratios:
        return what
    if style is rates:
        ratios = span([1 / ratio for ratio in ratios], "{:.2f}")
        return f"{what}:\\n'{name}' does {ratios} times as many as {base}"
    return f"{what}:\\n'{name}' takes {span(ratios, '{:.2f}')} of {base}'s time"


def with_bounds(results):
    """ {unit: {kernel: Demand}}, of each scenario the case with the most workers """
    chosen = {}
    for key, row in bounds.demands(results.runs, results.machines).items():
        words = key.split()
        if words[-1] not in ("child-child", "peers=each") and words[0] != "requests":
            continue
        if words[0] not in ("setup", "churn", "requests", "dismantle") or \
                results.kernels[0] not in row:
            continue
        workers = max((int(word[2:]) for word in words if word.startswith("W=")),
                      default=1)
        if workers >= chosen.get(words[0], (0,))[0]:
            chosen[words[0]] = workers, key, row
    return {key: row for _, key, row in chosen.values()}


def bounds_panel(key, row, kernels):
    """ One case: the bounds as lines, what was measured as a point """
    plots, data, rates_seen = [], "", []
    unit = row[kernels[0]].unit
    for num, name in enumerate(kernels):
        demand = row[name]
        found = {cpus: demand.bound(cpus).rate for cpus in PLOTTED_CPUS}
        rates_seen += [demand.rate, *found.values()]
        data += f"$bound{num} << EOD\n" + \
            "".join(f"{cpus} {rate:.6g}\n" for cpus, rate in found.items()) + \
            f"EOD\n$point{num} << EOD\n{demand.cpus} {demand.rate:.6g}\nEOD\n"
        plots += [f'$bound{num} with lines lw 2 {color(name)} title "{name}"',
                  f'$point{num} with points pt 7 ps 0.8 {color(name)} notitle']
    low, high = min(rates_seen) / 4, max(rates_seen) * 2
    tics = ", ".join(f"{digit}e{power}" for power in range(-3, 8) for digit in (1, 2, 5)
                     if low < float(f"{digit}e{power}") < high)
    return f'{data}set title "{key}"\nset ylabel "{unit}s per second"\n' \
        f"set yrange [{low:.6g}:{high:.6g}]\nset ytics ({tics})\nplot " + \
        ", ".join(plots)


def bounds_plot(results, folder):
    """ What bounds the throughput with more CPUs; returns a list of files """
    kernels = list(dict.fromkeys((results.kernels[0], results.kernels[-1])))
    cases = {key: row for key, row in with_bounds(results).items()
             if all(name in row and row[name].known and row[name].rate and
                    row[name].bound(2) for name in kernels)}
    if not cases:
        return []
    title = "Bounds of the throughput"
    if len(kernels) > 1:
        ratios = [row[kernels[1]].bound(64).rate / row[kernels[0]].bound(64).rate
                  for row in cases.values()]
        title = f"With 64 CPUs, the bound of '{kernels[1]}' is " \
            f"{span(ratios, '{:.2g}')} times that of {kernels[0]}"
    path = os.path.join(folder, "bounds.svg")
    rows = (len(cases) + 1) // 2
    panels = "\n".join(bounds_panel(key, row, kernels) for key, row in cases.items())
    run_gnuplot(path, f"840,{60 + 320 * rows}", f"""
set multiplot layout {rows},2 title "{title}\\n(lines: bounds; points: measured)"
set logscale x 2
set logscale y
set xrange [1.7:76]
set xtics ({", ".join(map(str, PLOTTED_CPUS))})
set xlabel "CPUs"
set key bottom right
{panels}
unset multiplot""")
    return [path]


def numbers(**wanted):
    """ Chooses the results of a scenario that have these values; x is ... """
    def choose(result):
        if all(value is ... or result.get(name) == value
               for name, value in wanted.items()):
            return next(result[name] for name, value in wanted.items()
                        if value is ...)
        return None
    return choose


def two_lines(place):
    """ A label as narrow as bars are """
    return place.replace("-", "-\\n")


def load_of(result):
    """ The bars of bystander """
    if result["scenario"] != "bystander":
        return None
    load = result["load"]
    if result.get("exclusive_ms"):
        load += "\\n+exclusive"
    return f"{load}\\n{two_lines(result['place'])}"


def chain_of(result):
    """ The bars of delete """
    if result["scenario"] != "delete":
        return None
    return f"{result['length']} away\\n{two_lines(result['place'])}"


def containers_of(result):
    """ The bars of cni """
    if result["scenario"] != "cni" or result["workers"] == 1:
        return None
    beside = "alone" if result["load"] == "none" else "beside a death"
    return f"{result['plugin']}\\n{beside}"


def plot(results, folder):
    """ All plots that there are results for; returns their files """
    child = "child-child"
    most = most_measured(results)
    plots = (
        ("setup", "per namespace", lines,
         "A namespace with 10 devices is set up, 2 workers",
         'set xlabel "namespaces"\nset logscale x\n'
         'set ylabel "ms per namespace"\nset yrange [0:*]\n',
         numbers(scenario="setup", namespaces=..., workers=2, place=child)),
        ("setup-workers", "per namespace", lines,
         f"Each of {most} namespaces is set up",
         'set xlabel "workers"\nset logscale x 2\n'
         'set ylabel "ms per namespace"\nset yrange [0:*]\n',
         numbers(scenario="setup", namespaces=most, workers=...,
                 place=child)),
        ("churn", "per cycle", lines,
         "A namespace comes, goes and is freed",
         'set xlabel "workers"\nset logscale x 2\n'
         'set ylabel "ms per namespace"\nset yrange [0:*]\n',
         numbers(scenario="churn", workers=..., place=child)),
        ("dismantle", "to the last free", bars,
         "Many namespaces die at once",
         'set xlabel "namespaces of their devices\' peers"\n'
         'set ylabel "ms to the last free"\nset yrange [0:*]\n',
         numbers(scenario="dismantle", peers=...)),
        ("bystander", "max", bars,
         "Small requests beside a load, the slowest",
         'set xlabel "load, and where its devices are"\n'
         'set ylabel "ms"\nset logscale y\n', load_of),
        ("delete", "p50", bars,
         "One command deletes devices in several namespaces, median time",
         'set xlabel "the last device, and where the first ones are"\n'
         'set ylabel "ms"\nset yrange [0:*]\n', chain_of),
        ("requests", "per operation", rates,
         "Addresses and routes, each worker in its namespace",
         'set xlabel "workers"\nset logscale x 2\n'
         'set ylabel "requests per ms"\nset yrange [0:*]\n',
         numbers(scenario="requests", workers=...)),
        ("possible", "p50", lines,
         "A veth pair is created, median time",
         'set xlabel "possible CPUs, of which 2 are online"\nset logscale x 2\n'
         'set ylabel "ms"\nset yrange [0:*]\n',
         numbers(scenario="possible", what="create", possible=...)),
        ("cni", "ADD max", bars,
         "Containers of 4 workers get their networks, the slowest",
         'set xlabel "plug-in, and what happens beside it"\n'
         'set ylabel "ms"\nset yrange [0:*]\n', containers_of),
    )
    paths = []
    for name, metric, style, what, commands, choose in plots:
        table = points(results, metric, choose)
        if not table:
            continue
        if style is not bars:
            table = dict(sorted(table.items()))
        path = os.path.join(folder, f"{name}.svg")
        title = message(what, style, table, results.kernels)
        gnuplot(path, f'set title "{title}"\n' + commands + style(results.kernels),
                table, results.kernels)
        paths.append(path)
    return paths + bounds_plot(results, folder)


def most_measured(results):
    """ The number of namespaces of setup that there is most to say of """
    count = collections.Counter(
        run["result"]["namespaces"] for run in results.runs
        if run["result"]["scenario"] == "setup" and not run["traced"] and
        run["result"]["place"] == "child-child")
    return max(count, key=lambda size: (count[size], size), default=0)


def report(folder):
    """ Print and write all """
    results = Results(folder)
    if not results.runs:
        sys.exit(f"error: no results in {folder}")
    text = "\n".join(description(results)) + "\n\n" + \
        format_rows(ratio_table(results)) + "\n"
    scaling = scaling_table(results)
    if len(scaling) > 1:
        text += "\nOperations per second, and scaling: how many times those " \
            "of one worker in the same boot:\n\n" + format_rows(scaling) + "\n"
    possible = possible_table(results)
    if len(possible) > 1:
        text += "\nWith so many possible CPUs, and how many times what it is with " \
            "the fewest on the same kernel:\n\n" + format_rows(possible) + "\n"
    write(folder, "table.md", text)
    traced = trace_table(results)
    if len(traced) > 1:
        text = "Counted by events, in one more boot of each kernel:\n\n" + \
            format_rows(traced) + "\n"
        missing = unseen(traced)
        if missing:
            text += "\nNo tracepoints for, or never: " + \
                ", ".join(missing) + "\n"
        exclusive = exclusive_table(results)
        if len(exclusive) > 1:
            text += "\nAcquisitions of RTNL that keep all others out, for each " \
                "namespace, cycle, command or request:\n\n" + \
                format_rows(exclusive) + "\n"
        write(folder, "events.md", text)
    text = serial_text(results)
    if text:
        write(folder, "serial.md", text)
    if not shutil.which("gnuplot"):
        sys.exit("error: gnuplot is missing, so there are no plots: run 'make deps'")
    paths = plot(results, folder)
    print("The plots are " + ", ".join(map(os.path.basename, paths)) +
          f" in {folder}, the tables table.md, events.md and serial.md")


def main():
    """ One argument """
    if len(sys.argv) != 2 or not glob.glob(f"{sys.argv[1]}/*.json"):
        sys.exit("error: name a folder with results: report.py DIR")
    report(sys.argv[1])


if __name__ == "__main__":
    main()
