#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Break the patched kernel on purpose and see that a test notices.

  mutants.py [NAME...]   all of mutants/*.patch, or these

Each is applied to a copy of build/linux, built as User-mode Linux, and the
tests that it names run there. First they all run on the unbroken kernel, where
they must pass. A mutant that no named test notices fails the command, and so
does one that does not apply or build.

A mutant is a header and a diff:

  Rule: what it breaks, and where that is written; the next lines, if they are
    indented, belong to it
  Caught-by: kunit SUITE.CASE [NAME]
  Caught-by: selftest FILE.py [NAME]
  Hidden-by: why no test can notice it; instead of the Caught-by lines
  ---
  diff --git ...

One of the Caught-by lines must come true; the kernels boot in their order. Of
KUnit only that case runs. NAME is a part of the name of a test that fails; or
what the harness says about the whole run: log (a warning or a report), leak,
dead, time. Without it any test of the file will do. A hidden mutant must build,
and is not run. TIMEOUT= seconds for a boot (600), GUEST_ENV= as for make um.
"""

import contextlib
import fcntl
import os
import re
import shlex
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass

TOOLS = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.dirname(os.path.dirname(TOOLS))
BUILD = os.path.abspath(os.environ.get('BUILD') or os.path.join(TOP, 'build'))
FOLDER = os.path.join(TOOLS, 'mutants')
# scratch.sh makes it; for build.sh it is what build/ is else
WORK = os.path.join(BUILD, 'scratch')
TREE = os.path.join(WORK, 'linux')
# ST_ in lib.sh
FAULTS = {200: 'log', 201: 'leak', 202: 'dead', 203: 'time'}


class Refused(Exception):
    """What is wrong and what to do, in one sentence"""


@dataclass
class Mutant:
    name: str
    rule: str
    expected: list      # of (run, part of a failing test's name)
    diff: str
    hidden: str = ''

    def runs(self):
        return list(dict.fromkeys(run for run, _ in self.expected))


def say(text):
    print(f'mutants: {text}', file=sys.stderr, flush=True)


def parse(name, text):
    where = f'mutants/{name}.patch'
    head, found, diff = text.partition('\n---\n')
    if not found or not re.match(r'diff --git ', diff.lstrip('\n')):
        raise Refused(f"{where} must have a header, a line '---' and a diff that begins with 'diff --git'")
    rule, hidden, expected = '', '', []
    for line in re.sub(r'\n[ \t]+', ' ', head.strip('\n')).split('\n'):
        key, _, value = line.partition(': ')
        words = value.split()
        if key == 'Rule' and words:
            rule = value
        elif key == 'Hidden-by' and words:
            hidden = value
        elif key == 'Caught-by' and re.fullmatch(r'kunit \w+\.\S+( \S+)?', value):
            expected.append((f'kunit {words[1]}', words[-1]))
        elif key == 'Caught-by' and re.fullmatch(r'selftest [\w.-]+( \S+)?', value):
            expected.append((f'selftest {words[1]}', (words + [''])[2]))
        else:
            raise Refused(f"{where} has the line '{line}': it must be 'Rule: ...', "
                          "'Caught-by: kunit SUITE.CASE', 'Caught-by: selftest FILE [NAME]' or 'Hidden-by: ...'")
    if not rule or bool(expected) == bool(hidden):
        raise Refused(f"{where} must have a 'Rule:' line, and 'Caught-by:' lines or one 'Hidden-by:' line: say "
                      'which rule it breaks, and which test must notice or why none can')
    for run, _ in expected:
        kind, test = run.split()
        if kind == 'selftest' and not os.access(os.path.join(TOP, 'tools/testing/selftests/net', test), os.X_OK):
            raise Refused(f'{where} is caught by {test}, but tools/testing/selftests/net has no such test')
    return Mutant(name, rule, expected, diff.lstrip('\n'), hidden)


def load(names):
    have = sorted(name[:-len('.patch')] for name in os.listdir(FOLDER) if name.endswith('.patch'))
    for name in names:
        if name not in have:
            raise Refused(f'{name} is no mutant: it may be {", ".join(have)}')
    if not have:
        raise Refused('tools/small-rtnl/mutants holds no mutant')
    found = []
    for name in names or have:
        with open(os.path.join(FOLDER, name + '.patch'), encoding='utf-8') as file:
            found.append(parse(name, file.read()))
    return found


def git(*args, repo=TREE, stdin=None):
    done = subprocess.run(['git', '-C', repo, *args], input=stdin, text=True, capture_output=True, check=False)
    if done.returncode:
        raise Refused(f'git {args[0]} failed in {repo}: {done.stderr.strip()}')
    return done.stdout.strip()


def copy_tree():
    done = subprocess.run([os.path.join(TOOLS, 'scratch.sh')], stdout=subprocess.DEVNULL, check=False)
    if done.returncode:
        # It has said why
        sys.exit(done.returncode)


def script(file, run):
    """What the guest does"""
    if run.startswith('kunit'):
        suite = run.partition(' ')[2].partition('.')[0]
        line = f"KUNIT_SUITE={suite} {shlex.quote(os.path.join(TOOLS, 'kunit.sh'))}"
    else:
        line = f'{shlex.quote(os.path.join(TOOLS, "guest/selftests.sh"))} {run.split()[1]}'
    file.write(f'export SELFTESTS_NET={shlex.quote(os.path.join(TREE, "tools/testing/selftests/net"))}\n'
               f'{line}\n')
    file.flush()


def environment(**more):
    env = {key: value for key, value in os.environ.items() if key not in ('KERNEL', 'CONFIG', 'SCRIPT', 'LOG')}
    return env | {'BUILD': WORK} | more


def build():
    """The end of the log if it does not build"""
    done = subprocess.run([os.path.join(TOOLS, 'build.sh'), 'patched', 'um'], env=environment(), text=True,
                          capture_output=True, stdin=subprocess.DEVNULL, check=False)
    return done.stderr[-3000:] if done.returncode else ''


def failures_in(log):
    """The names of the tests that fail, as far as the log goes"""
    with open(log, encoding='utf-8', errors='replace') as file:
        return re.findall(r'^(?:# )*not ok \d+ (\S.*?)(?: # .*)?$', file.read(), re.M)


def boot(run, log, enough):
    """The names of the tests that fail in this run, and the harness's word for it.
    One of which a name holds a part is enough: a broken kernel may hang after that."""
    with tempfile.NamedTemporaryFile('w', dir=WORK, suffix='.sh') as file, open(log, 'w', encoding='utf-8') as out:
        script(file, run)
        args = ['kunit.enable=1']
        if run.startswith('kunit '):
            args.append(f'kunit.filter_glob={run.split()[1]}')
        more = {'MACHINE': 'um', 'KERNEL': 'patched', 'CONFIG': 'debug', 'SCRIPT': file.name,
                'LOG': log.removesuffix('.log') + '-console.log',
                'KERNEL_ARGS': ' '.join([*args, os.environ.get('KERNEL_ARGS', '')]),
                'TIMEOUT': os.environ.get('TIMEOUT') or '600',
                'GUEST_ENV': os.environ.get('GUEST_ENV') or 'RACES=2'}
        with subprocess.Popen([os.path.join(TOOLS, 'vm.sh')], env=environment(**more), stdout=out,
                              stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL) as guest:
            try:
                while guest.poll() is None:
                    time.sleep(0.2)
                    failed = failures_in(log)
                    if any(part in name for part in enough for name in failed):
                        # Its trap ends the guest
                        guest.terminate()
                        guest.wait()
                        return failed
            finally:
                guest.terminate()
        status = guest.returncode
    failed = failures_in(log)
    if status in FAULTS:
        failed.append(FAULTS[status])
    if status and not failed:
        failed.append(f'status {status}')
    return failed


def run_log(name, run):
    return os.path.join(WORK, 'log', f'{name}-{run.split()[-1]}.log')


def try_mutant(mutant):
    """The test that caught it, or why this is a failure"""
    try:
        git('apply', '--whitespace=nowarn', '-', stdin=mutant.diff)
    except Refused as error:
        return None, f'it does not apply: {error}'
    why = build()
    if why:
        return None, f'it does not build: {why}'
    if mutant.hidden:
        return 'nobody', ''
    others = []
    for run in mutant.runs():
        failed = boot(run, run_log(mutant.name, run), [part for wanted, part in mutant.expected if wanted == run])
        for wanted, part in mutant.expected:
            caught = [name for name in failed if part in name] if wanted == run else []
            if caught:
                return f'{"kunit" if run.startswith("kunit") else run}: {caught[0]}', ''
        others += failed
    if others:
        return None, f'only these noticed it: {", ".join(others)}: name one, or correct the test'
    return None, f'it survives {", ".join(mutant.runs())}: a test is missing, or its rule is'


def control(mutants):
    """Each run of the unbroken kernel, and what fails there"""
    copy_tree()
    say('building the unbroken kernel')
    why = build()
    if why:
        raise Refused(f'the unbroken kernel does not build: {why}')
    # All of KUnit at once
    for run in dict.fromkeys('kunit' if run.startswith('kunit') else run for mutant in mutants for run in mutant.runs()):
        say(f'the unbroken kernel: {run}')
        yield run, boot(run, run_log('control', run), [])


def table(rows):
    rows = [('MUTANT', 'CAUGHT BY', 'TIME'), *rows]
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    for name, caught, spent in rows:
        print(f'{name:{widths[0]}}  {caught:{widths[1]}}  {spent}')


def main():
    mutants = load(sys.argv[1:])
    os.makedirs(os.path.join(WORK, 'log'), exist_ok=True)
    with open(os.path.join(WORK, 'lock'), 'w', encoding='utf-8') as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Refused(f'another make mutants or make bisect uses {WORK}: wait for it') from None
        return run_all(mutants)


def run_all(mutants):
    number = failures = 0
    rows = []

    def result(good, name, why=''):
        nonlocal number, failures
        number += 1
        failures += not good
        print(f'{"" if good else "not "}ok {number} {name}', flush=True)
        if why:
            print(re.sub('^', '# ', why.strip(), flags=re.M), flush=True)

    for run, failed in control(mutants):
        result(not failed, f'unbroken: {run}', f'{", ".join(failed)}: see {run_log("control", run)}' if failed else '')
    if failures:
        raise Refused('a test fails on the unbroken kernel, so what mutants do there says nothing: correct that first')
    for mutant in mutants:
        start = time.monotonic()
        say(mutant.name)
        try:
            caught, why = try_mutant(mutant)
        finally:
            with contextlib.suppress(Refused):
                git('checkout', '-q', '-f', '--detach', 'HEAD')
        spent = f'{time.monotonic() - start:.0f} s'
        result(caught, f'{mutant.name}: {mutant.rule}', why or mutant.hidden and f'hidden: {mutant.hidden}')
        rows.append((mutant.name, caught or 'NOT CAUGHT', spent))
    table(rows)
    print(f'{number - failures} passed, {failures} failed, 0 skipped')
    return failures > 0


if __name__ == '__main__':
    try:
        sys.exit(main())
    except Refused as error:
        sys.exit(f'error: {error}')
    except KeyboardInterrupt:
        sys.exit('error: interrupted')
