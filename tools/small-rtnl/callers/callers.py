#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0

"""
callers.py [TREE]: find every call in the kernel that unregisters or queues a
network device, and say under which mutex the device dies:

  own      that of its own netns, which the caller holds
  queued   that of its own netns, which is left to drain what is pending there
  plain    RTNL alone: the caller holds no netns's mutex
  unknown  nobody has looked

What follows from the call itself is decided here: see judge(). All others are
in the file known, a line for each function, with the reason. Status 1 if a
call is unknown, or if a line there has no call.

It reads text: what a parser of C skips because a macro confuses it would be a
caller that nobody sees.
"""

import collections
import os
import re
import subprocess
import sys

CORE = ("net/core/dev.c", "net/core/rtnetlink.c", "net/core/net_namespace.c",
        "include/linux/netdevice.h", "include/net/rtnl_pair.h",
        "include/net/rtnl_tunnel.h", "include/net/rtnl_port.h",
        "net/core/rtnl_net_test.c", "drivers/net/ipvlan/ipvlan_test.c")
# Not built by default, or tests
SKIP = ("drivers/staging/", "tools/", "Documentation/", "scripts/", "samples/")

QUEUED = {"unregister_netdevice_queue_net", "unregister_netdevice_queue_upper",
          "unregister_netdevice_claim_net",
          "unregister_netdevice_claim_upper",
          "unregister_netdevice_queue_many_net",
          "unregister_netdevice_many_home", "rtnl_tunnel_queue",
          "rtnl_tunnel_exit_list", "rtnl_pair_dellink",
          "rtnl_pair_dellink_upper"}
# They find the device's netns and lock it, or assert that it is locked
OWN = {"unregister_netdev", "unregister_netdevice_home",
       "rtnl_tunnel_dellink", "rtnl_tunnel_dellink_list"}
PLAIN = {"unregister_netdevice", "unregister_netdevice_queue",
         "unregister_netdevice_many", "unregister_netdevice_many_notify",
         "cfg80211_unregister_netdevice", "rtnl_delete_link", "dellink"}

CALL = re.compile(r"(?:\b(%s)|->(dellink))\(([^;{]*)" %
                  "|".join(sorted(QUEUED | OWN | (PLAIN - {"dellink"}))))
COMMENT = re.compile(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"', re.S)
FUNCTION = re.compile(r"\b(\w+)\s*\([^;{}]*\)[^;{}()]*$", re.S)


def blank(match):
    """ As many lines, and nothing on them """
    return re.sub(r"[^\n]", " ", match.group())


def functions(text):
    """ Name, parameters, first line and body of each, in kernel style """
    for found in re.finditer(r"^\{\n(.*?)^\}", text, re.S | re.M):
        head = text[:found.start()].rsplit("\n\n", 1)[-1]
        name = FUNCTION.search(head.strip())
        if name:
            yield (name.group(1), name.group(),
                   text.count("\n", 0, found.start()) + 2, found.group(1))


def judge(name, params, callee, args, body, text):
    """ The class of a call, if that is plain to see """
    if callee in QUEUED:
        return "queued"
    if callee in OWN:
        return "own"
    arg = re.match(r"\s*&?([\w.>-]+)", args)
    arg = arg.group(1) if arg else ""
    # ->dellink() is called under the mutex of its device's netns
    if callee == "unregister_netdevice_queue" and \
            re.search(rf"\.dellink\s*=\s*{name}\b", text) and \
            re.match(rf"\w+\s*\(\s*struct net_device \*{arg}\b", params):
        return "own"
    # What ->newlink() made, it may unmake: it holds that mutex, too
    if callee == "unregister_netdevice" and \
            re.search(rf"\.newlink\s*=\s*{name}\b", text) and \
            re.match(rf"\w+\s*\(\s*struct net_device \*{arg}\b", params):
        return "own"
    # A kill list that a helper filled holds what is at home
    if callee == "unregister_netdevice_many" and \
            re.search(rf"({'|'.join(QUEUED)})\([^;]*&{arg}\b", body):
        return "queued"
    return "unknown"


def scan(tree, path):
    """ The calls of one file """
    with open(os.path.join(tree, path), encoding="utf-8",
              errors="replace") as file:
        text = file.read()
    text = COMMENT.sub(blank, text)
    seen = set()
    for name, params, line, body in functions(text):
        for call in CALL.finditer(body):
            callee = call.group(1) or call.group(2)
            where = line + body.count("\n", 0, call.start())
            seen.add((where, callee))
            yield (name, callee, where,
                   judge(name, params, callee, call.group(3), body, text))
    # Outside of what looks like a function: prototypes, macros, odd style
    for call in CALL.finditer(text):
        callee = call.group(1) or call.group(2)
        where = 1 + text.count("\n", 0, call.start())
        start = text.rfind("\n", 0, call.start()) + 1
        if (where, callee) in seen or \
                re.match(r"(static |extern |inline )*[\w ]+\*?$",
                         text[start:call.start()]) and text[start] not in "\t ":
            continue
        yield ("-", callee, where, "unknown")


def candidates(tree):
    """ The files that may have such a call """
    ret = subprocess.run(
        ["grep", "-rlE", "--include=*.[ch]", "--exclude-dir=.?*",
         "unregister_netdev|rtnl_delete_link|rtnl_tunnel_|rtnl_pair_|->dellink",
         "."], cwd=tree, check=True, capture_output=True, text=True)
    return sorted(name[2:] for name in ret.stdout.splitlines())


def read_list(path):
    """ (file, function, callee): the class and the line that says so """
    said = {}
    with open(path, encoding="utf-8") as file:
        for num, line in enumerate(file, 1):
            line = line.split("#")[0].split(None, 4)
            if not line:
                continue
            if len(line) < 5 or line[3] not in ("own", "queued", "plain"):
                sys.exit(f"error: {path}:{num}: want FILE FUNCTION CALLEE "
                         "own|queued|plain REASON")
            for func in line[1].split(","):
                for callee in line[2].split(","):
                    said[line[0], func, callee] = [line[3], num]
    return said


def main():
    """ Print the table """
    here = os.path.dirname(os.path.abspath(__file__))
    tree = sys.argv[1] if len(sys.argv) > 1 else \
        os.path.join(here, "../../../build/linux")
    if not os.path.isdir(os.path.join(tree, "net/core")):
        sys.exit(f"error: {tree} is no kernel tree: run 'make tree'")
    listed = os.path.join(here, "known")
    said = read_list(listed)
    used = set()
    count = collections.Counter()
    for path in candidates(tree):
        if path in CORE or path.startswith(SKIP):
            continue
        for func, callee, line, kind in scan(tree, path):
            key = path, func, callee
            if key in said:
                kind = said[key][0]
                used.add(key)
            count[kind] += 1
            if kind == "unknown" or "-v" in sys.argv:
                print(f"{path} {func} {callee} {kind} line {line}")
    stale = [key for key in said if key not in used]
    for key in stale:
        print(f"{listed}:{said[key][1]}: there is no such call: {' '.join(key)}")
    print(", ".join(f"{count[kind]} {kind}"
                    for kind in ("own", "queued", "plain", "unknown")))
    return 1 if stale or count["unknown"] else 0


if __name__ == "__main__":
    sys.exit(main())
