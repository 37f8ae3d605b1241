#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""
objdiff.py OLD NEW: list the functions and variables that differ between two
folders of kernel objects, one "OBJECT SYMBOL CLASS" a line. Whole kernels are
compared, or the objects that standard input names: objdiff.py OLD NEW -

Objects are compared before they are linked: there, what a function refers to
has a name instead of an address. Strings are compared by what they say, places
in a table by the name of the table. Classes:

new, gone  one side lacks the symbol
code       its instructions differ
lines      the same, but for numbers of lines: where the old number leads to a
           line of the old source, the new one leads to the same line of the new
data       a variable's size or value differs

Debug information, exception tables and the like are not compared: they follow
from the code.
"""

import difflib
import os
import re
import subprocess
import sys
import tempfile
from bisect import bisect_right
from collections import defaultdict

# Tables that say where in the code something is, or which line that was
PLACES = re.compile(r"__bug_table|__ex_table|\.discard|__jump_table|"
                    r"\.altinst|\.static_call|__mcount|\.init\.rodata")
DATA = re.compile(r"\.(data|rodata|bss|init\.data|data\.\S+)$")
LOAD = re.compile(r"(mov\S* )\$(0x[0-9a-f]+)(,%\w+)$")


def run(*args, cwd=None):
    """ Output of a command """
    return subprocess.run(args, check=True, stdout=subprocess.PIPE, cwd=cwd,
                          encoding="latin-1").stdout


def tree_file(path, name):
    """ Lines of a file of the tree that an object was made in """
    name = os.path.join(path.partition("/.obj-")[0], name)
    if not os.path.exists(name):
        return []
    with open(name, encoding="latin-1") as file:
        return file.read().splitlines()


def compiled(top):
    """ Objects that the kernel in a folder and its modules are made of """
    found = set()
    for archive in ("vmlinux.a", "lib/lib.a", "arch/x86/lib/lib.a"):
        if os.path.exists(os.path.join(top, archive)):
            found.update(run("ar", "t", archive, cwd=top).split())
    with open(os.path.join(top, "modules.order"), encoding="ascii") as order:
        for module in order.read().split():
            path = os.path.join(top, module[:-2] + ".mod")
            with open(path, encoding="ascii") as names:
                found.update(names.read().split())
    return found


def objcopy(path, *args):
    """ What objcopy makes of an object """
    with tempfile.NamedTemporaryFile() as out:
        run("objcopy", *args, path, out.name)
        return out.read()


class Object:
    """ What is in an object file, with addresses replaced by names """

    def __init__(self, path):
        self.path = path
        self.strings = {}
        self.symbols = defaultdict(list)
        self.sizes = {}
        self.labels = {}
        self._read_symbols()
        self.functions = self._read_functions()
        self.data = self._read_data()

    def _read_symbols(self):
        # 0000000000000000 l     F .text	0000000000000042 name
        pattern = re.compile(r"([0-9a-f]{16}) .{5}([dD ])([FO ]) (\S+)\t"
                             r"([0-9a-f]{16}) (?:\.hidden )?(\S+)$")
        for line in run("objdump", "-t", self.path).splitlines():
            match = pattern.match(line)
            if not match or match[2] != " ":
                continue
            start, _, kind, section, size, name = match.groups()
            if name.startswith(".LC"):
                self.labels[name] = (section, int(start, 16))
                continue
            if kind != " " and section != "*UND*":
                self.symbols[section].append((int(start, 16), name))
            if kind == "O":
                self.sizes[name] = (section, int(start, 16), int(size, 16))
        for names in self.symbols.values():
            names.sort()

    def _section(self, name):
        if name not in self.strings:
            out = objcopy(self.path, "-O", "binary", "--only-section", name,
                          "--set-section-flags", name + "=alloc,load")
            self.strings[name] = out
        return self.strings[name]

    def _target(self, section, offset):
        """ A name for a place in a section """
        if ".str" in section:
            text = self._section(section)
            return repr(text[offset:text.find(b"\0", offset)])
        if PLACES.search(section):
            return section
        names = self.symbols.get(section)
        if names:
            at = bisect_right(names, (offset, "\x7f")) - 1
            if at >= 0:
                return f"{names[at][1]}+{offset - names[at][0]:#x}"
        # Without names: literals and jump tables of switches
        return section

    def _reloc(self, kind, target, pcrel):
        match = re.match(r"(.*?)([-+]0x[0-9a-f]+)?$", target)
        base, offset = match[1], int(match[2] or "0", 16)
        if "PC32" in kind or "PLT32" in kind:
            offset += pcrel
        if base in self.labels:
            base, start = self.labels[base]
            offset += start
        if base.startswith((".", "__bug_table", "__ex_table", "__jump_table")):
            return f"{kind} {self._target(base, offset)}"
        return f"{kind} {base}{offset:+#x}"

    def _read_functions(self):
        """ Lines of assembly by function """
        functions = {}
        lines = None
        relocs = []
        out = run("objdump", "-dr", "--no-show-raw-insn", "-w", self.path)
        for line in out.splitlines():
            if match := re.match(r"[0-9a-f]+ <(.*)>:$", line):
                self._flush(lines, relocs, None)
                lines = functions.setdefault(match[1], [])
                relocs = []
            elif match := re.match(r" *([0-9a-f]+):\t(.*)$", line):
                text, _, rest = match[2].partition("\t")
                self._flush(lines, relocs, int(match[1], 16))
                # Places in this function are relative to its start
                text = re.sub(r"\b[0-9a-f]+ (<[^>]*>)", r"\1", text)
                text = re.sub(r" +#.*", "", text)
                lines.append(re.sub(r"\s+", " ", text).strip())
                relocs = []
                relocs = re.findall(r"([0-9a-f]+): (R_\w+)\t(\S+)", rest)
        self._flush(lines, relocs, None)
        # Alternatives have no function's name, they belong to one
        functions = {name: lines for name, lines in functions.items()
                     if not name.startswith(".")}
        # Padding between functions
        for lines in functions.values():
            while lines and re.match(r"(nop|cs nop|data16|xchg %ax,%ax|int3)",
                                     lines[-1]):
                lines.pop()
        return functions

    def _flush(self, lines, relocs, following):
        """ The relocations of the last instruction, whose end is now known """
        for at, kind, target in relocs:
            pcrel = following - int(at, 16) if following is not None else 4
            # What the target field holds before it is linked means nothing
            lines[-1] = (re.sub(r" <[^>]*>$", "", lines[-1]) + " " +
                         self._reloc(kind, target, pcrel))

    def _read_data(self):
        """ Contents of each variable: bytes and what they refer to """
        relocs = defaultdict(list)
        section = None
        for line in run("objdump", "-r", "-w", self.path).splitlines():
            if match := re.match(r"RELOCATION RECORDS FOR \[(.*)\]", line):
                section = match[1]
            elif match := re.match(r"([0-9a-f]{16}) (R_\S+) +(\S+)", line):
                if section and DATA.search(section):
                    relocs[section].append((int(match[1], 16),
                                            self._reloc(match[2], match[3], 0)))
        data = {}
        for name, (section, start, size) in self.sizes.items():
            # Not those with a number: __func__.12, __UNIQUE_ID_init_module_851
            if not DATA.search(section) or re.search(r"[._]\d+$", name):
                continue
            content = b""
            if "bss" not in section:
                content = self._section(section)[start:start + size]
            data[name] = (size, content,
                          [(at - start, text) for at, text in relocs[section]
                           if start <= at < start + size])
        return data


def unnumbered(lines):
    """ Without the numbers in names that the compiler or a macro makes up """
    return [re.sub(r"\b([A-Za-z_]\w*)\.\d+\b", r"\1",
                   re.sub(r"\b(__UNIQUE_ID_\w*?)\d+\b", r"\1", line))
            for line in lines]


def moved_line(old, new, texts):
    """ Do two instructions load the numbers of one and the same line? """
    old, new = LOAD.match(old), LOAD.match(new)
    if not old or not new or old.group(1, 3) != new.group(1, 3):
        return False
    at = [int(match[2], 16) - 1 for match in (old, new)]
    return any(all(0 <= num < len(text) for num, text in zip(at, pair)) and
               pair[0][at[0]].strip() and
               pair[0][at[0]] == pair[1][at[1]] for pair in texts)


def function_class(old, new, paths, name):
    """ How two versions of a function differ, None if they do not """
    old, new = unnumbered(old), unnumbered(new)
    if old == new:
        return None
    # A warning names the file of its line, which may be a header
    files = {name[:-2] + ".c",
             *re.findall(r"b'([\w./-]+\.[ch])'", "\n".join(old))}
    texts = [[tree_file(path, file) for path in paths] for file in files]
    if len(old) == len(new) and all(a == b or moved_line(a, b, texts)
                                    for a, b in zip(old, new)):
        return "lines"
    return "code"


def compare(old, new, obj):
    """ (symbol, class) of all that differs """
    paths = old.path, new.path
    for name in sorted(old.functions.keys() | new.functions.keys()):
        if name not in new.functions:
            yield name, "gone"
        elif name not in old.functions:
            yield name, "new"
        elif kind := function_class(old.functions[name], new.functions[name],
                                    paths, obj):
            yield name, kind
    for name in sorted(old.data.keys() | new.data.keys()):
        if name not in new.data:
            yield name, "gone"
        elif name not in old.data:
            yield name, "new"
        elif old.data[name] != new.data[name]:
            yield name, "data"


def show(old_top, new_top, name, symbol):
    """ The difference of one function """
    old, new = (unnumbered(Object(os.path.join(top, name)).functions[symbol])
                for top in (old_top, new_top))
    print("\n".join(difflib.unified_diff(old, new, lineterm="", n=2)))


def main():
    """ Walk both folders """
    if len(sys.argv) == 5:
        show(*sys.argv[1:])
        return
    some = len(sys.argv) == 4 and sys.argv[3] == "-"
    if len(sys.argv) != 3 and not some:
        sys.exit("usage: objdiff.py OLD NEW [-|OBJECT FUNCTION]")
    old_top, new_top = map(os.path.abspath, sys.argv[1:3])
    if some:
        names = sys.stdin.read().split()
        old, new = ({name for name in names
                     if os.path.exists(os.path.join(top, name))}
                    for top in (old_top, new_top))
    else:
        old, new = compiled(old_top), compiled(new_top)
        if len(old) < 100:
            sys.exit(f"error: {old_top} holds {len(old)} objects: build it first")
    for name in sorted(old ^ new):
        print(name, "-", "gone" if name in old else "new")
    for name in sorted(old & new):
        paths = [os.path.join(top, name) for top in (old_top, new_top)]
        if len({objcopy(path, "--strip-debug") for path in paths}) == 1:
            continue
        for symbol, kind in compare(*map(Object, paths), name):
            print(name, symbol, kind)


main()
