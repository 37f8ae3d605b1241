#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Test make bench: ratios and spread, what is made of a trace, bounds, and whole runs on
# guests that are played by a script; at last, on the kernel that the other tests
# boot as MACHINE=, whose times mean nothing.
#
# The tests are called through t(), which shellcheck does not see:
# shellcheck disable=SC2317

# shellcheck source=../lib.sh
. "$(dirname "$0")/../lib.sh"

export TMP=
TMP=$(mktemp -d "${TMPDIR:-/tmp}/small-rtnl-bench.XXXXXX")
trap 'rm -rf "$TMP"' EXIT

# t NAME COMMAND...: one line of result; what the command says if it fails
t()
{
	local name=$1 rc=0

	shift
	# Not after ||, where set -e would not hold
	set +e
	(set -e; "$@") >"$TMP/log" 2>&1
	rc=$?
	set -e
	result "$rc" "$name" "$TMP/log"
}

py()
{
	PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=$TOOLS/bench python3 -
}

ratios()
{
	py <<-'PY'
	import report as b

	assert b.spread([2], [1]) == (2, 2, 2)
	# Each with each: 1, 2, 3 to 1, 2
	assert b.spread([1, 2, 3], [1, 2]) == (1.25, 0.5, 3)
	assert b.spread([], [1]) is None
	assert b.spread([1], []) is None
	assert b.spread([1], [0]) is None

	# Slower for sure, perhaps slower, faster
	assert b.is_slower((1.2, 1.06, 1.3))
	assert not b.is_slower((1.2, 1.04, 1.3))
	assert not b.is_slower((0.8, 0.7, 0.9))
	assert not b.is_slower(None)
	assert not b.is_slower((1.2, 1.2, 1.2), 1)
	PY
}

units()
{
	py <<-'PY'
	import report as b

	for value, text in ((12, "12 ns"), (1500, "1.5 us"), (23456789, "23.5 ms"),
	                    (4e9, "4 s"), (1234e9, "1234 s")):
	    assert b.nice(value) == text, b.nice(value)

	churn = {"scenario": "churn", "freed_ns": 1000, "cycles": 4}
	assert list(b.metrics(churn)) == [("per cycle", 250)]
	churn["cycles"] = 0
	assert not list(b.metrics(churn))

	requests = {"scenario": "requests", "window_ns": 1000, "operations": 8}
	assert list(b.metrics(requests)) == [("per operation", 125)]

	# Beside a death there may be few, or none
	cni = {"scenario": "cni", "load": "none", "window_ns": 1000, "operations": 4,
	       "add_ns": {"samples": 100, "p50": 1, "p99": 2, "max": 3},
	       "del_ns": {"samples": 99, "p50": 4, "p99": 5, "max": 6}}
	assert list(b.metrics(cni)) == [("ADD p50", 1), ("ADD p99", 2), ("ADD max", 3),
	    ("DEL p50", 4), ("DEL max", 6), ("per container", 250)]
	cni.update(load="dismantle", add_ns={"samples": 0})
	assert list(b.metrics(cni)) == [("DEL p50", 4), ("DEL max", 6)]
	PY
}

# Each boot is compared with itself; one without its first case with none
scaling()
{
	py <<-'PY'
	import json
	import os
	import report as b

	def run(kernel, repeat, workers, operations, traced=False):
	    return {"key": f"requests W={workers}", "kernel": kernel,
	            "repeat": repeat, "traced": traced, "result": {
	                "scenario": "requests", "workers": workers,
	                "window_ns": 2 * 10**9, "operations": operations}}

	folder = os.environ["TMP"] + "/scaling"
	os.mkdir(folder)
	with open(f"{folder}/requests.json", "w") as file:
	    json.dump({"kernels": ["stock", "on"], "machines": {}, "host": {}, "runs": [
	        run("stock", 1, 1, 100), run("stock", 1, 2, 90),
	        run("on", 1, 1, 100), run("on", 1, 2, 190),
	        run("on", 2, 1, 200), run("on", 2, 2, 420), run("on", 3, 2, 1),
	        run("on", 1, 2, 1, True), run("stock", 2, 4, 70)]}, file)
	rows = b.scaling_table(b.Results(folder))
	assert rows == [["case", "stock", "on"],
	    ["requests W=1", "50/s, 1.00 [1.00-1.00]", "75/s, 1.00 [1.00-1.00]"],
	    ["requests W=2", "45/s, 0.90 [0.90-0.90]", "152/s, 2.00 [1.90-2.10]"]], rows
	PY
}

# With the fewest CPUs of the same kernel; what was counted is traced
possible()
{
	py <<-'PY'
	import json
	import os
	import report as b

	def run(kernel, cpus, p50, uevents, waits=None):
	    result = {"scenario": "possible", "what": "create", "possible": cpus,
	              "uevents": uevents, "latency_ns": {"samples": 10, "p50": p50}}
	    if waits is not None:
	        result["trace"] = {"gp_wait": {"count": waits}}
	    return {"key": f"possible={cpus} create host-child", "kernel": kernel,
	            "repeat": 1, "traced": waits is not None, "result": result}

	lost = run("on", 64, 1, 1, 1)
	lost["result"]["trace"] = {"lost_events": 1}
	folder = os.environ["TMP"] + "/possible"
	os.mkdir(folder)
	with open(f"{folder}/possible.json", "w") as file:
	    json.dump({"kernels": ["stock", "on"], "machines": {}, "host": {}, "runs": [
	        run("stock", 64, 9000, 2540), run("stock", 2, 1000, 60),
	        run("stock", 2, 2000, 60), run("on", 2, 1000, 60),
	        run("on", 64, 1100, 60), run("stock", 2, 1, 1, 20), lost]}, file)
	rows = b.possible_table(b.Results(folder))
	name = "create host-child"
	assert rows == [["case", "metric", "possible CPUs", "stock", "on"],
	    [name, "p50", "2", "1.5 us", "1 us"],
	    [name, "p50", "64", "9 us, 6.75 [4.50-9.00]", "1.1 us, 1.10 [1.10-1.10]"],
	    [name, "uevents", "2", "6.0", "6.0"],
	    [name, "uevents", "64", "254.0, 42.33 [42.33-42.33]", "6.0, 1.00 [1.00-1.00]"],
	    [name, "waits for expedited grace periods", "2", "2.0", "-"]], rows
	PY
}

trace()
{
	py <<-'PY'
	import guest

	# a-1 spins, then sleeps for RTNL; b-2 waits for another, and for a rwsem
	lines = """\
	# a comment
	   a-1  [000] ..... 1.000000: contention_begin: 00000000000000aa (flags=SPIN|MUTEX)
	   a-1  [000] ..... 1.100000: contention_begin: 00000000000000aa (flags=MUTEX)
	   b 2-2  [001] ..... 1.200000: contention_begin: 00000000000000bb (flags=MUTEX)
	   b 2-2  [001] ..... 1.300000: contention_end: 00000000000000bb (ret=0)
	   b 2-2  [001] ..... 1.400000: contention_begin: 00000000000000cc (flags=WRITE)
	   b 2-2  [001] ..... 1.500000: contention_end: 00000000000000cc (ret=0)
	   a-1  [000] ..... 2.000000: contention_end: 00000000000000aa (ret=0)
	   rcu-9  [000] d.... 2.100000: rcu_grace_period: rcu_preempt 40 start
	   rcu-9  [000] d.... 2.200000: rcu_grace_period: rcu_preempt 40 end
	   k-7  [000] ..... 2.300000: rcu_exp_grace_period: rcu_preempt 0x8 start
	   k-7  [000] ..... 2.400000: rcu_barrier: rcu_preempt Begin cpu -1 remaining 0 # 1
	   k-7  [000] ..... 2.500000: rcu_barrier: rcu_preempt Inc1 cpu -1 remaining 0 # 1
	""".splitlines()
	names = ["contention_begin", "contention_end", "rcu_grace_period",
	         "rcu_exp_grace_period", "rcu_barrier"]
	seen = guest.summarise(lines, names, 0xaa)
	assert seen["contended_rtnl"] == {"count": 1, "ns": 10**9, "max_ns": 10**9}, seen
	assert seen["contended_other"] == {"count": 1, "ns": 10**8, "max_ns": 10**8}, seen
	assert (seen["gp_normal"], seen["gp_expedited"], seen["gp_barrier"]) == (1, 1, 1)
	# No such event is not the same as never
	assert seen["wakeups"] is None
	assert seen["hold_rtnl"] is None and seen["gp_wait_locked"] is None
	assert seen["gp_wait"] == {"count": 0, "ns": 0, "max_ns": 0}, seen

	# RTNL as a rw_semaphore
	seen = guest.summarise(lines, names, 0xcc)
	assert seen["contended_rtnl"] == {"count": 1, "ns": 10**8, "max_ns": 10**8}, seen
	assert seen["contended_other"]["count"] == 2, seen

	# b-2 waits for a grace period too, without a lock
	lines = """\
	   a-1  [000] ..... 1.000000: rtnl_net_lock_request: net_inum=0 net_cookie=0 caller=f+0x1/0x2
	   a-1  [000] ..... 1.500000: rtnl_net_lock_acquired: net_inum=0 net_cookie=0 caller=f+0x1/0x2
	   a-1  [000] ..... 1.550000: rtnl_net_lock_request: net_inum=42 net_cookie=7 caller=f+0x1/0x2
	   a-1  [000] ..... 1.600000: rtnl_net_lock_acquired: net_inum=42 net_cookie=7 caller=f+0x1/0x2
	   b-2  [001] ..... 1.650000: rtnl_net_lock_request: net_inum=0 net_cookie=0 caller=g+0x1/0x2
	   b-2  [001] ..... 1.660000: rtnl_net_lock_failed: net_inum=0 net_cookie=0 err=-16 caller=g+0x1/0x2
	   b-2  [001] ..... 1.700000: rcu_exp_grace_period: rcu_preempt 8 snap
	   a-1  [000] ..... 1.700000: rcu_exp_grace_period: rcu_preempt 8 snap
	   a-1  [000] ..... 1.750000: rcu_exp_grace_period: rcu_preempt 8 start
	   a-1  [000] ..... 1.800000: rcu_exp_grace_period: rcu_preempt 8 done
	   b-2  [001] ..... 1.900000: rcu_exp_grace_period: rcu_preempt 8 done
	   a-1  [000] ..... 2.000000: rtnl_net_lock_release: net_inum=42 net_cookie=7 caller=f+0x1/0x2
	   a-1  [000] ..... 3.500000: rtnl_net_lock_release: net_inum=0 net_cookie=0 caller=f+0x1/0x2
	""".splitlines()
	seen = guest.summarise(lines, [*guest.LOCK_EVENTS, "rcu_exp_grace_period"])
	assert (seen["wait_rtnl"]["ns"], seen["wait_rtnl"]["count"]) == (5 * 10**8, 1)
	assert seen["wait_netns"]["ns"] == 5 * 10**7
	assert seen["hold_rtnl"]["ns"] == 2 * 10**9
	assert seen["hold_netns"]["ns"] == 4 * 10**8
	assert (seen["gp_wait"]["ns"], seen["gp_wait"]["count"]) == (3 * 10**8, 2)
	assert (seen["gp_wait_locked"]["ns"], seen["gp_wait_locked"]["count"]) == (10**8, 1)
	assert seen["gp_expedited"] == 1
	assert seen["contended_rtnl"] is None

	# a-1 and b-2 share RTNL, from 1.1 and 1.2 to 1.6 and 1.5
	lines = """\
	   a-1  [000] ..... 1.000000: rtnl_net_lock_request: net_inum=0 net_cookie=0 caller=f+0x1/0x2
	   b-2  [001] ..... 1.000000: rtnl_net_lock_request: net_inum=0 net_cookie=0 caller=f+0x1/0x2
	   a-1  [000] ..... 1.100000: rtnl_net_lock_acquired: net_inum=0 net_cookie=0 caller=f+0x1/0x2 rtnl=shared
	   b-2  [001] ..... 1.200000: rtnl_net_lock_acquired: net_inum=0 net_cookie=0 caller=f+0x1/0x2 rtnl=shared
	   b-2  [001] ..... 1.500000: rtnl_net_lock_release: net_inum=0 net_cookie=0 caller=f+0x1/0x2
	   a-1  [000] ..... 1.550000: rcu_exp_grace_period: rcu_preempt 8 snap
	   b-2  [001] ..... 1.550000: rcu_exp_grace_period: rcu_preempt 8 snap
	   a-1  [000] ..... 1.560000: rcu_exp_grace_period: rcu_preempt 8 done
	   b-2  [001] ..... 1.560000: rcu_exp_grace_period: rcu_preempt 8 done
	   a-1  [000] ..... 1.600000: rtnl_net_lock_release: net_inum=0 net_cookie=0 caller=f+0x1/0x2
	""".splitlines()
	seen = guest.summarise(lines, [*guest.LOCK_EVENTS, "rcu_exp_grace_period"])
	assert seen["wait_rtnl"] == {"count": 2, "ns": 3 * 10**8, "max_ns": 2 * 10**8}, seen
	assert seen["hold_rtnl"] == {"count": 2, "ns": 8 * 10**8, "max_ns": 5 * 10**8}, seen
	assert (seen["gp_wait"]["count"], seen["gp_wait_locked"]["count"]) == (2, 1), seen
	assert seen["exclusive"] == {}, seen

	# Exclusive ones by caller, whatever they are for; no mutex of a namespace
	lines = """\
	   a-1  [000] ..... 1.000000: rtnl_net_lock_acquired: net_inum=0 net_cookie=0 caller=f+0x1/0x2 rtnl=exclusive
	   a-1  [000] ..... 1.100000: rtnl_net_lock_acquired: net_inum=7 net_cookie=1 caller=f+0x1/0x2 rtnl=exclusive
	   a-1  [000] ..... 1.200000: rtnl_net_lock_acquired: net_inum=0 net_cookie=0 caller=g+0x1/0x2 [m] rtnl=exclusive:kind
	   a-1  [000] ..... 1.300000: rtnl_net_lock_acquired: net_inum=0 net_cookie=0 caller=f+0x9/0x20 rtnl=exclusive
	""".splitlines()
	assert guest.summarise(lines, guest.LOCK_EVENTS)["exclusive"] == {"f": 2, "g": 1}
	assert guest.summarise(lines, [])["exclusive"] is None
	PY
}

# The patch for stock applies, and its events are printed as those of our option are
stock_events()
{
	local file events=include/trace/events/rtnl_net.h

	for file in net/core/rtnetlink.c net/core/net-traces.c; do
		mkdir -p "$TMP/stock/$(dirname "$file")"
		git -C "$BUILD/linux" show "base:$file" >"$TMP/stock/$file"
	done
	patch -s -d "$TMP/stock" -p1 -i "$TOOLS/bench/stock-events.patch"
	grep -o '"net_inum=[^"]*"' "$TOP/$events" | sed -e 's/net_inum=%u/net_inum=0/' \
		-e 's/net_cookie=%llu/net_cookie=0/' -e 's/rtnl=%s/rtnl=exclusive/' \
		>"$TMP/formats"
	[ "$(grep -o '"net_inum=[^"]*"' "$TMP/stock/$events" | sort -u | wc -l)" -eq 3 ]
	while read -r file; do
		has "$file" "$TMP/formats"
	done < <(grep -o '"net_inum=[^"]*"' "$TMP/stock/$events")
	for file in request acquired failed release; do
		has "trace_rtnl_net_lock_$file(" "$TMP/stock/net/core/rtnetlink.c"
	done
}

# What stands in line, in two times that are measured
serial()
{
	py <<-'PY'
	import guest

	def line(thread, time, event, text):
	    return f"   {thread}  [000] ..... {time:.6f}: {event}: {text}"

	def lock(thread, time, step, net=0, how=None):
	    rtnl = f" rtnl={how}" if how else ""
	    return line(thread, time, f"rtnl_net_lock_{step}", f"net_inum={net % 100} "
	                f"net_cookie={net} caller=f+0x1/0x2{rtnl}")

	def rcu(thread, time, step):
	    return line(thread, time, "rcu_exp_grace_period", f"rcu_preempt 8 {step}")

	def mark(time, text):
	    return line("m-9", time, "tracing_mark_write", text)

	def times(lines):
	    seen = guest.summarise(lines, guest.LOCK_EVENTS, init_net=1)["serial"]
	    return {name: tuple(round(value[of] / 1e6) for of in ("ns", "gp_ns"))
	            for name, value in seen.items()}, seen["others"]["count"]

	# Exclusive, with a mutex: once, with one of two waits for a grace period
	exclusive = [lock("a-1", 1.0, "acquired", 0, "exclusive:kind"),
	    lock("a-1", 1.1, "acquired", 7, "exclusive:kind"), rcu("a-1", 1.2, "snap"),
	    rcu("b-2", 1.2, "snap"), rcu("b-2", 1.25, "done"), rcu("a-1", 1.3, "done"),
	    lock("a-1", 1.4, "release", 7), lock("a-1", 1.5, "release"),
	    rcu("a-1", 1.6, "snap"), rcu("a-1", 1.9, "done")]
	assert times(exclusive) == ({"exclusive": (500, 100), "init": (0, 0),
	    "other": (0, 0), "others": (0, 0)}, 0), times(exclusive)

	# Shared, side by side: that of init_net, and two with the same inode number
	shared = [lock("a-1", 2.0, "acquired", 0, "shared"),
	    lock("a-1", 2.0, "acquired", 1, "shared"),
	    lock("a-1", 2.0, "acquired", 207, "shared"),
	    lock("b-2", 2.1, "acquired", 0, "shared"),
	    lock("b-2", 2.1, "acquired", 307, "shared"),
	    line("b-2", 2.2, "rcu_sr_normal", "rcu_preempt rhp=0xa event=request"),
	    lock("a-1", 2.3, "release", 207), lock("a-1", 2.3, "release", 1),
	    lock("a-1", 2.4, "release"),
	    line("b-2", 2.5, "rcu_sr_normal", "rcu_preempt rhp=0xa event=complete"),
	    lock("b-2", 2.6, "release", 307), lock("b-2", 2.9, "release")]
	expected = {"exclusive": (0, 0), "init": (300, 0), "other": (500, 300),
	    "others": (800, 300)}
	assert times(shared) == (expected, 2), times(shared)

	# What was held before does not count, what is held at the end does as far as
	# that; the time between is not held
	windows = [lock("a-1", 0.5, "acquired", 0, "exclusive"), mark(1, "begin"),
	    lock("a-1", 1.5, "release"), lock("b-2", 1.6, "acquired", 0, "exclusive"),
	    rcu("b-2", 1.7, "snap"), mark(2, "end"),
	    mark(9, "begin"), rcu("b-2", 9.1, "done"), lock("b-2", 9.2, "release"),
	    lock("b-2", 9.3, "acquired", 0, "exclusive"),
	    lock("b-2", 9.4, "release"), mark(10, "end")]
	assert times(windows)[0]["exclusive"] == (500, 300), times(windows)
	hold = guest.summarise(windows, guest.LOCK_EVENTS)["hold_rtnl"]
	assert hold["max_ns"] == 10**8, hold

	assert guest.summarise(shared, [])["serial"] is None
	PY
}

# 100 operations in a second of 2 CPUs: 4 ms exclusive, 2 ms of init_net, 1 of another
bounds()
{
	py <<-'PY'
	import json
	import os
	import bounds
	import report as b

	def run(traced, window=10**9, idle=10**9, kernel="on", key="requests W=4", **fields):
	    result = {"scenario": "requests", "operations": 100, "window_ns": window,
	              "idle_ns": idle, **fields}
	    if traced:
	        times = [{"ns": ns * 10**8, "gp_ns": gp * 10**8, "count": 3}
	                 for ns, gp in ((4, 1), (2, 2), (1, 1), (2, 1))]
	        result["trace"] = {"serial": dict(zip(
	            ("exclusive", "init", "other", "others"), times))}
	    return {"key": key, "kernel": kernel, "repeat": 1, "traced": traced,
	            "result": result}

	def near(value, other):
	    assert abs(value - other) < 1e-9, (value, other)

	def demand(*runs):
	    return bounds.demands(runs, {"on": {"cpus": 2}})["requests W=4"]["on"]

	one = demand(run(True))
	near(one.serial, 0.006)
	near(one.cpu, 0.01)
	near(one.waiting, 0.5)
	near(one.bound(1).rate, 100)
	near(one.bound(2).rate, 1 / 0.006)
	assert (one.bound(1).by, one.bound(64).by) == ("CPUs", "RTNL")
	assert not list(one.faults())

	# Rate and CPU time without events, two boots as one: 200 in 3 s, 3 s of CPU
	two = demand(run(True), run(False), run(False, window=2 * 10**9, idle=2 * 10**9))
	near(two.rate, 200 / 3)
	near(two.cpu, 0.015)
	near(two.serial, 0.006)
	assert not list(two.faults())
	# A key of its own, or of another kernel, is nothing to it
	assert demand(run(True), run(False, kernel="off"), run(False, key="x")).rate == 100

	# 1000 in a second is more than 1 / 6 ms; 100 in 0.5 s with 0.6 s of locks, too
	fast = demand(run(True), run(False, operations=1000))
	assert len(list(fast.faults())) == 1, list(fast.faults())
	assert "1000 per second were measured, and 166.7 are the bound by RTNL" in \
	    next(fast.faults())
	assert "with events, 200 per" in next(demand(run(True, window=5 * 10**8)).faults())

	# No idle time in older results, no CPU bound; no operations, nothing at all
	old = run(True)
	del old["result"]["idle_ns"]
	assert demand(old).cpu is None and demand(old).bound(2).by == "RTNL"
	for result in (run(True, operations=0), run(False),
	               run(True, scenario="bystander", load="churn")):
	    assert not bounds.demands([result], {})
	dismantle = run(True, scenario="dismantle", namespaces=50,
	                latency_ns={"samples": 4})
	near(bounds.demands([dismantle], {})["requests W=4"]["on"].rate, 200)

	# A kernel without lock events has a row if another one has them
	off = run(True, kernel="off")
	off["result"]["trace"] = {"serial": None}
	assert not bounds.demands([off], {})
	both = bounds.demands([off, run(True)], {})["requests W=4"]
	assert not both["off"].known and both["off"].bound(64).by == "CPUs"

	folder = os.environ["TMP"] + "/bounds"
	os.mkdir(folder)
	with open(f"{folder}/requests.json", "w") as file:
	    json.dump({"kernels": ["stock", "off", "on"], "machines": {}, "host": {}, "runs": [
	        run(True, kernel="stock"), off, run(True), run(False, operations=1000)]}, file)
	results = b.Results(folder)
	text = b.serial_text(results)
	assert "| requests W=4 | stock  | request  | 100 (only with events)" in text, text
	assert text.count("no events") == 5 and "| 200 CPUs  | unknown " in text, text
	assert "| 1000 (100) " in text and "| 2 ms      | 1 ms of 3     | 50%       |" in text, text
	assert "167 RTNL" in text and text.count("WRONG") == 3, text
	assert "* requests W=4, on: without events, 1000 per" in text, text
	assert b.bounds_plot(results, folder) == [f"{folder}/bounds.svg"]
	with open(f"{folder}/bounds.svg") as file:
	    svg = file.read()
	assert "the bound of 'on' is 1 times that of stock" in svg, svg[:3000]
	assert b.serial_text(b.Results(os.environ["TMP"])) == ""
	PY
}

# A title says what the plot shows; a kernel has one colour
titles()
{
	py <<-'PY'
	import report as b

	table = {1: {"stock": [2], "on": [1, 3]}, 2: {"stock": [4], "on": [1]},
	         3: {"stock": [1]}}
	say = b.message("Work", b.lines, table, ["stock", "off", "on"])
	assert say == "Work:\\n'on' takes 0.25 to 1.00 of stock's time", say
	say = b.message("Work", b.rates, table, ["stock", "on"])
	assert say == "Work:\\n'on' does 1.00 to 4.00 times as many as stock", say
	assert b.message("Work", b.lines, table, ["stock"]) == "Work"
	for style in (b.lines, b.rates, b.bars):
	    assert b.COLORS["on"] in style(["on"]), style(["on"])
	    assert b.COLORS["on"] in style(["stock", "off", "on"])
	PY
}

# For each operation
exclusive()
{
	py <<-'PY'
	import json
	import os
	import report as b

	folder = os.environ["TMP"] + "/exclusive"
	os.mkdir(folder)
	with open(f"{folder}/churn.json", "w") as file:
	    json.dump({"kernels": ["on"], "machines": {}, "host": {}, "runs": [
	        {"key": "churn W=4", "kernel": "on", "repeat": 1, "traced": True,
	         "result": {"scenario": "churn", "cycles": cycles, "trace": {
	             "exclusive": {"f": 8, "g": 2}}}} for cycles in (4, 0)]}, file)
	rows = b.exclusive_table(b.Results(folder))
	assert rows == [["case", "kernel", "in all", "by caller"],
	    ["churn W=4", "on", "2.50", "f 2.00, g 0.50"]], rows
	PY
}

# A guest that measures delete: on 'slow' twice as long, on 'dies' not to the end
fake_tools()
{
	mkdir -p "$TMP/tools/small-rtnl/bench" "$TMP/build/bench"
	cp "$TOOLS/lib.sh" "$TMP/tools/small-rtnl"
	cp "$TOOLS"/bench/{bench,bounds,report}.py "$TMP/tools/small-rtnl/bench"
	cat >"$TMP/tools/small-rtnl/vm.sh" <<-'FAKE'
	#!/bin/bash
	python3 - "$KERNEL" "$BUILD/bench/plan.json" <<PY
	import json, sys
	kernel = sys.argv[1]
	plan = json.load(open(sys.argv[2]))
	print(json.dumps({"machine": {"release": "7.2", "arch": "x", "cpus": 2,
	                              "memory_kb": 2048, "config": {}}}))
	print("what any kernel may say")
	ns = 2000 if kernel == "slow" else 1000
	for num, case in enumerate(plan["cases"]):
	    if kernel == "dies" and num == 2:
	        sys.exit(0)
	    if kernel == "fails" and num == 1:
	        print(json.dumps({"key": case["key"], "error": "no such device"}))
	        continue
	    result = {"scenario": "delete", "release": kernel, "length": int(case["args"][2]),
	              "place": case["args"][-1],
	              "latency_ns": {"samples": 100, "p50": ns, "p99": ns, "max": ns}}
	    print(json.dumps({"key": case["key"], "result": result}))
	print(json.dumps({"end": True}))
	PY
	[ "$KERNEL" != dies ] || exit 202
	FAKE
	chmod 755 "$TMP/tools/small-rtnl/vm.sh"
}

bench()
{
	PYTHONDONTWRITEBYTECODE=1 SCENARIOS=${SCENARIOS:-delete} REPEAT=2 MEM=256M BUILD=$TMP/build \
		RESULTS=${RESULTS:-$TMP/results} "$TMP/tools/small-rtnl/bench/bench.py" "$@"
}

# has TEXT FILE
has()
{
	grep -qF -- "$1" "$2" || {
		echo "'$1' is not in $2:"
		cat "$2"
		return 1
	}
}

whole_run()
{
	fake_tools
	TRACE=0 bench run stock=fast off=slow >"$TMP/out" 2>"$TMP/err" || {
		cat "$TMP/err"
		return 1
	}
	has "2.00 [2.00-2.00] !" "$TMP/out"
	has "off: Linux 7.2 x, 2 CPUs" "$TMP/out"
	[ "$(jq '.runs | length' "$TMP/results/delete.json")" -eq 24 ]
	[ "$(jq -r '[.runs[] | select(.repeat == 1) | .kernel] | unique | join(" ")' \
		"$TMP/results/delete.json")" = "off stock" ]
	has "<svg" "$TMP/results/delete.svg"
	has "2.00 [2.00-2.00] !" "$TMP/results/table.md"
}

traced_image()
{
	fake_tools
	bench run stock=fast traced:stock=slow off=slow >"$TMP/out" 2>"$TMP/err" || {
		cat "$TMP/err"
		return 1
	}
	[ "$(jq -r '[.runs[] | select(.traced) | .kernel + " " + .result.release] |
		unique | join(", ")' "$TMP/results/delete.json")" = "off slow, stock slow" ]
	[ "$(jq -r '[.runs[] | select(.traced | not) | .kernel + " " + .result.release] |
		unique | join(", ")' "$TMP/results/delete.json")" = "off slow, stock fast" ]
}

# fails KERNEL TEXT RESULTS: with it, a run says that and keeps so many results
fails()
{
	local rc=0

	fake_tools
	TRACE=0 bench run stock=fast off="$1" >"$TMP/out" 2>"$TMP/err" || rc=$?
	[ "$rc" -eq 1 ]
	has "$2" "$TMP/err"
	[ "$(jq '.runs | length' "$TMP/results/delete.json")" -eq "$3" ]
}

# Each number of CPUs has boots of its own, all kernels in turn; a fake's time is it
possible_run()
{
	fake_tools
	sed -i -e 's/^ns = .*/ns = 1000 * int("'"\${POSSIBLE:-0}"'")/' \
		-e 's/"scenario": "delete".*/"scenario": case["args"][0], "uevents": 4,/' \
		-e '/"place":/d' "$TMP/tools/small-rtnl/vm.sh"
	SCENARIOS=possible TRACE=0 POSSIBLE="8 2" RESULTS=$TMP/possible-run \
		bench run stock=fast on=other >"$TMP/out" 2>"$TMP/err" || {
		cat "$TMP/err"
		return 1
	}
	has "| p50     | 8             | 8 us, 4.00 [4.00-4.00] |" "$TMP/possible-run/table.md"
	[ "$(jq -r '[.runs[] | select(.repeat == 1) | "\(.kernel) \(.result.possible)"] |
		join(" ")' "$TMP/possible-run/possible.json")" = \
		"stock 2 stock 2 on 2 on 2 stock 8 stock 8 on 8 on 8" ]
	has "<svg" "$TMP/possible-run/possible.svg"
	[ ! -e "$TMP/possible-run/dismantle.svg" ]
}

lost_guest()
{
	# Six of the one, and two of the other
	fails dies "error: the guest 'off' was lost at 'delete length=1 host-host' (it died)" 8
	has "1.00 [1.00-1.00]" "$TMP/out"
	! grep -q Traceback "$TMP/err"
}

failed_case()
{
	fails fails "error: off, delete length=1 host-child: no such device" 22
}

# refused TEXT VARIABLE=VALUE...: one sentence
refused()
{
	local text=$1 rc=0

	shift
	env "$@" "$TOOLS/bench/bench.py" check >"$TMP/out" 2>"$TMP/err" || rc=$?
	[ "$rc" -eq 1 ]
	has "$text" "$TMP/err"
	[ "$(wc -l <"$TMP/err")" -eq 1 ]
}

# count FILTER NUMBER: what jq finds in all results
count()
{
	local have

	have=$(jq -s "[.[].runs[] | $1] | length" "$TMP"/real/*.json)
	[ "$have" -ge "$2" ] || {
		echo "$have results and not $2 have: $1"
		return 1
	}
}

real_guest()
{
	local file

	KERNELS=debug MACHINE=$machine MEM=2G N=4 POSSIBLE="2 8" SCALE=2 REPEAT=1 RESULTS=$TMP/real \
		"$TOOLS/bench/bench.sh" >"$TMP/out" 2>"$TMP/err" || {
		cat "$TMP/err"
		return 1
	}
	count "select(.traced | not)" 35
	count "select(.result.possible == 8 and .result.uevents > 0)" 4
	# All that the trace events are for has been seen
	for file in wait_rtnl wait_netns hold_rtnl hold_netns gp_wait_locked; do
		count "select(.traced and .result.trace.$file.count > 0)" 10
	done
	count "select(.traced and .result.trace.serial.exclusive.ns > 0)" 1
	count "select(.traced and .result.trace.serial.init.ns > 0)" 3
	count "select(.traced and .result.trace.serial.others.ns > 0)" 10
	count "select(.result.idle_ns > 0)" 35
	has "<svg" "$TMP/real/bounds.svg"
	for file in setup churn dismantle bystander delete requests cni; do
		has "| $file " "$TMP/real/serial.md"
	done
	for file in setup churn dismantle bystander delete requests possible cni; do
		has "<svg" "$TMP/real/$file.svg"
		has "| $file" "$TMP/real/table.md"
	done
}

machine=${MACHINE:-um}
unset KERNELS SCENARIOS REPEAT BUDGET SCALE TIMEOUT TRACE N MEM RESULTS MACHINE \
	SMP POSSIBLE
t "ratios and their spread" ratios
t "units and metrics" units
t "operations per second and their scaling" scaling
t "what more possible CPUs cost" possible
t "what a trace comes to" trace
t "what stands in line, of a trace" serial
t "stock with lock events" stock_events
t "bounds by demands, and what breaks them" bounds
t "titles and colours of plots" titles
t "exclusive acquisitions for each operation" exclusive
t "a whole run" whole_run
t "guests with more possible CPUs" possible_run
t "a kernel of its own for the traced boots" traced_image
t "a guest is lost: finished scenarios keep their results" lost_guest
t "a scenario fails: the others go on" failed_case
t "an unknown scenario" refused "there is no scenario 'foo'" SCENARIOS="setup foo" MEM=1G N=10
t "too little memory for N" refused "smaller N or a larger MEM" N=5000 MEM=1G
t "more memory than there is" refused "smaller MEM" MEM=9000G
t "N is no number" refused "is not a number of namespaces" N=many
t "REPEAT is no number" refused "REPEAT=0 is not" REPEAT=0
t "POSSIBLE is no number" refused "8x is not a number of CPUs" POSSIBLE="2 8x"
t "fewer possible CPUs than there are" refused "from SMP=4 to" POSSIBLE=2 SMP=4
t "more than QEMU has" refused "256 is not a number of CPUs from SMP=2 to 255" \
	POSSIBLE="2 256" MACHINE=qemu
t "a real kernel" real_guest
finish
