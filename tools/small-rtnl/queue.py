#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""The patch queue: patches/ and our new files <-> commits in build/linux.

  queue.py tree    build/linux becomes the base with one commit per patch
  queue.py export  the way back: commits of build/linux become patches/
  queue.py bases   whether the queue applies to each base that the mirrors offer
  queue.py mbox    mailable series; OUT= where to, SERIES= only this one,
                   SIGNOFF="Name <mail>" sender and sign-off

A patch file holds: subject, blank line, body, '---', a line 'New-file: path'
for each file that it brings from this repository, blank line, and the hunks
to files that the base has or that an earlier patch brings. The repository has
a new file as the last patch leaves it; what its first patch brings is that
without the hunks of the later ones.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from email.header import Header

TOOLS = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.dirname(os.path.dirname(TOOLS))
BUILD = os.path.abspath(os.environ.get('BUILD') or os.path.join(TOP, 'build'))
LINUX = os.path.join(BUILD, 'linux')

BRANCH = 'small-rtnl'
# What tree and export left behind: a branch that stands elsewhere holds work
EXPORTED = 'refs/small-rtnl/exported'
# Where a step that was killed was heading; it holds nobody's work either
NEXT = 'refs/small-rtnl/next'
STATE = 'small-rtnl-queue'

FOLDER = r'[0-9][0-9]-[A-Za-z0-9][A-Za-z0-9._-]*'
TRAILER = re.compile(rf'^(Patch-file: ({FOLDER})/(\S+\.patch)'
                     rf'|Series: ({FOLDER}))[ \t]*$\n?', re.M)
# Ours and never the kernel's
OWN = ('patches/', 'build/', 'bench/', 'tools/small-rtnl/', '.ci/', '.git')
IDENTITY = ('small-rtnl', 'small-rtnl@localhost')
# Fixed dates and identity: the same queue gives the same commits
EPOCH = 1767225600
START = time.monotonic()


class Refused(Exception):
    """What is wrong and what to do, in one sentence"""


class DoesNotApply(Refused):
    """A patch and the hunks that do not fit"""
    def __init__(self, patch, what, version):
        super().__init__(f'{patch.path} does not apply to Linux {version} with the patches before it: '
                         f'{what}: correct this in the patch, or name a base that it fits with KERNEL_SRC=')
        self.short = f'{patch.path}: {what}'


def say(text):
    spent = int(time.monotonic() - START)
    print(f'[{spent // 60:3}:{spent % 60:02}] {text}', file=sys.stderr)


def show(path):
    """A path as the user may type it at the top of the repository"""
    return os.path.relpath(path, TOP) if path.startswith(TOP + os.sep) else path


def decode(data):
    return data.decode('utf-8', 'surrogateescape')


def encode(text):
    return text.encode('utf-8', 'surrogateescape')


def read(path):
    with open(path, 'rb') as file:
        return file.read()


def write(path, data, mode='100644'):
    """A file is replaced whole or not at all; an unchanged one is left"""
    if token_of_file(path) == token(mode, data):
        return
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path + '.tmp', 'wb') as file:
        file.write(data)
    os.chmod(path + '.tmp', 0o755 if mode == '100755' else 0o644)
    os.replace(path + '.tmp', path)


def token(mode, data):
    return hashlib.sha256(mode.encode() + data).hexdigest()


def mode_of(path):
    return '100755' if os.stat(path).st_mode & 0o100 else '100644'


def token_of_file(path):
    return token(mode_of(path), read(path)) if os.path.isfile(path) else None


def token_of_series(names):
    """Only its order counts: comments are the repository's own"""
    return token('series', encode(' '.join(names))) if names else None


# --- git -------------------------------------------------------------------

def git_env(name, mail, date):
    # The user's configuration and a caller's GIT_* must not shape a patch
    env = {k: v for k, v in os.environ.items() if not k.startswith('GIT_')}
    env.update(LC_ALL='C', GIT_CONFIG_GLOBAL=os.devnull, GIT_CONFIG_NOSYSTEM='1')
    for role in ('AUTHOR', 'COMMITTER'):
        env.update({f'GIT_{role}_NAME': name, f'GIT_{role}_EMAIL': mail,
                    f'GIT_{role}_DATE': f'{date} +0000'})
    return env


def git(*args, stdin=None, raw=False, repo=None, index=None, tree=None,
        who=IDENTITY, date=EPOCH):
    repo = repo or LINUX
    env = git_env(*who, date)
    # Named, or git would find the repository that build/ lies in
    env['GIT_DIR'] = os.path.join(repo, '.git')
    env['GIT_WORK_TREE'] = tree or repo
    if index:
        env['GIT_INDEX_FILE'] = index
    # In its own session: a Ctrl-C must not stop a checkout half-way
    done = subprocess.run(['git', *args], cwd=env['GIT_WORK_TREE'], env=env,
                          input=encode(stdin) if isinstance(stdin, str) else stdin or b'',
                          capture_output=True, start_new_session=True)
    if done.returncode:
        raise Refused(f'git {args[0]} failed in {show(repo)}: '
                      + decode(done.stderr).strip())
    return done.stdout if raw else decode(done.stdout).rstrip('\n')


def exists(rev):
    with contextlib.suppress(Refused):
        return git('rev-parse', '--verify', '-q', rev + '^{commit}')
    return None


def listed(*args):
    return [entry for entry in git(*args).split('\0') if entry]


def in_base(base, paths):
    return set(listed('ls-tree', '-r', '-z', '--name-only', base, '--', *paths)) if paths else set()


def files_in(tree=None, paths=(), index=None):
    """Mode and blob of each file of an index, or of these in a tree"""
    if index:
        found = git('ls-files', '-z', '--format=%(objectmode) %(objectname)%x09%(path)', index=index)
    else:
        found = git('ls-tree', '-z', '--format=%(objectmode) %(objectname)%x09%(path)', tree, '--', *paths)
    entries = (entry.split('\t') for entry in found.split('\0') if entry)
    return {path: tuple(about.split()) for about, path in entries}


def version_in(makefile):
    value = dict(re.findall(r'^(VERSION|PATCHLEVEL|SUBLEVEL|EXTRAVERSION) *=[ \t]*(\S*)', makefile, re.M))
    return (f"{value.get('VERSION')}.{value.get('PATCHLEVEL')}"
            f".{value.get('SUBLEVEL')}{value.get('EXTRAVERSION', '')}")


def version_of(base):
    return version_in(git('show', base + ':Makefile'))


# --- the queue on disk -----------------------------------------------------

@dataclass
class Patch:
    folder: str
    name: str
    message: str
    diff: str
    new: dict = field(default_factory=dict)     # path: (mode, content), as this patch brings it
    text: str = ''
    final: dict = field(default_factory=dict)   # the same files, as the last patch leaves them

    @property
    def path(self):
        return f'patches/{self.folder}/{self.name}'


def parse(where, text):
    """The message, the paths of new files and the diff of a patch file"""
    head, found, rest = text.partition('\n---\n')
    message = head.strip('\n')
    if not found:
        raise Refused(f"{where} has no line '---' that ends its message: add one")
    if not message or '\n' in message and message.split('\n')[1]:
        raise Refused(f'{where} must begin with a subject line and a blank line')
    start = re.search(r'^diff --git ', rest, re.M)
    cut = start.start() if start else len(rest)
    new = []
    for line in filter(str.strip, rest[:cut].split('\n')):
        if not line.startswith('New-file: '):
            raise Refused(f"{where} has the line '{line}' between '---' and its "
                          "first diff: only 'New-file: path' may stand there")
        new.append(line[len('New-file: '):].strip())
    created = re.search(r'^diff --git a/(.*) b/\1\nnew file mode ', rest, re.M)
    if created:
        raise Refused(f'{where} creates {created[1]} by a diff: put the file at that path '
                      f"in this repository and name it by a line 'New-file: {created[1]}'")
    if not new and not start:
        raise Refused(f'{where} changes nothing: give it hunks or a New-file, or delete it')
    return message, new, rest[cut:]


def form(message, new, diff):
    lines = ''.join(f'New-file: {path}\n' for path in sorted(new))
    return f'{message}\n---\n{lines}' + (f'\n{diff}' if diff else '')


def by_file(diff):
    """The part of a diff for each file"""
    parts = re.split(r'^(?=diff --git )', diff, flags=re.M)
    return {match[1]: part for part in parts
            for match in [re.match(r'diff --git a/(.*) b/\1\n', part)] if match}


def folders():
    patches = os.path.join(TOP, 'patches')
    found = []
    for name in sorted(os.listdir(patches)) if os.path.isdir(patches) else []:
        if os.path.isdir(os.path.join(patches, name)):
            if not re.fullmatch(FOLDER, name):
                raise Refused(f'patches/{name} is no series: name it NN-theme or move it away')
            found.append(name)
    return found


def read_series(folder):
    """The text on top, (name, comment above it) of each patch, what follows"""
    path = os.path.join(TOP, 'patches', folder, 'series')
    lines = decode(read(path)).splitlines(True) if os.path.isfile(path) else []
    top, entries, above = '', [], ''
    for line in lines:
        name = line.strip()
        if not name or name.startswith('#'):
            above += line
            if not name and not entries:
                top, above = top + above, ''
            continue
        if not re.fullmatch(r'[^\s/]+\.patch', name):
            raise Refused(f"patches/{folder}/series has the line '{name}': "
                          'it must be a file name NNNN-slug.patch or a # comment')
        entries.append((name, above))
        above = ''
    return (top, entries, above) if entries else (top + above, [], '')


def load_new_file(where, path):
    full = os.path.join(TOP, path)
    if os.path.normpath(path) != path or path.startswith(OWN + ('/', '../')):
        raise Refused(f'{where} names New-file {path}: that path is not for kernel files')
    if not os.path.isfile(full) or os.path.islink(full):
        raise Refused(f'{where} names New-file {path}, but the repository has no such '
                      'regular file: add it, or delete the line')
    return mode_of(full), read(full)


def load_queue():
    queue, brought = [], {}
    for folder in folders():
        names = [name for name, _ in read_series(folder)[1]]
        for name in sorted(os.listdir(os.path.join(TOP, 'patches', folder))):
            if name.endswith('.patch') and name not in names:
                raise Refused(f'patches/{folder}/{name} is not named in '
                              f'patches/{folder}/series: add it there or delete it')
        for name in names:
            where = f'patches/{folder}/{name}'
            if names.count(name) > 1:
                raise Refused(f'patches/{folder}/series names {name} twice: delete one line')
            if not os.path.isfile(os.path.join(TOP, where)):
                raise Refused(f'patches/{folder}/series names {name}, which does not exist: '
                              'add the patch or delete the line')
            text = decode(read(os.path.join(TOP, where)))
            message, new, diff = parse(where, text)
            for path in new:
                if path in brought:
                    raise Refused(f'{where} names New-file {path}, which {brought[path]} '
                                  'brings already: delete one of the two lines')
                brought[path] = where
            files = {path: load_new_file(where, path) for path in new}
            queue.append(Patch(folder, name, message, diff, dict(files), text, files))
    require_grown_in_order(queue, brought)
    return queue


def require_grown_in_order(queue, brought):
    """Hunks for a new file stand in patches after the one that brings it"""
    seen = set()
    for patch in queue:
        for path, part in by_file(patch.diff).items():
            if brought.get(path) == patch.path:
                raise Refused(f'{patch.path} has hunks for {path}, which it brings itself as a New-file: '
                              'put the change into the file')
            if path in brought and path not in seen:
                raise Refused(f'{patch.path} has hunks for {path}, which only a later patch, {brought[path]}, '
                              "brings as a New-file: move one of the two in the series, or move the line "
                              f"'New-file: {path}'")
            if path in brought and re.search(r'^deleted file mode ', part, re.M):
                raise Refused(f'{patch.path} deletes {path}, which {brought[path]} brings as a New-file: '
                              'a new file must last to the end of the queue')
        seen.update(patch.new)


def tokens(queue):
    """A digest of all that the queue is made of, by path"""
    found = {}
    for patch in queue:
        found[patch.path] = token('100644', encode(patch.text))
        for path, (mode, data) in patch.final.items():
            found[path] = token(mode, data)
    for folder in {patch.folder for patch in queue}:
        found[f'patches/{folder}/series'] = token_of_series(
            [patch.name for patch in queue if patch.folder == folder])
    return found


def tokens_on_disk(paths):
    found = {}
    for path in paths:
        if re.fullmatch(r'patches/[^/]+/series', path):
            found[path] = token_of_series([name for name, _ in read_series(path.split('/')[1])[1]])
        else:
            found[path] = token_of_file(os.path.join(TOP, path))
    return found


# --- build/linux -----------------------------------------------------------

def gitfile(name):
    return os.path.join(LINUX, '.git', name)


def recorded():
    """What the queue was made of when build/linux last agreed with it"""
    try:
        return json.loads(read(gitfile(STATE)))
    except (FileNotFoundError, ValueError):
        return {}


def require_repository():
    if not os.path.isdir(gitfile('refs')) or not exists('refs/tags/base'):
        raise Refused(f"{show(LINUX)} is not a tree that 'make tree' made (it has no tag base): "
                      'move it away and run make tree')
    head = git('rev-parse', '--abbrev-ref', 'HEAD')
    if os.path.isdir(gitfile('rebase-merge')) or os.path.isdir(gitfile('rebase-apply')):
        raise Refused(f'a rebase or am is under way in {show(LINUX)}: finish or abort it')
    if head != BRANCH:
        raise Refused(f'{show(LINUX)} is at {head}, not on its branch {BRANCH}: '
                      f'run git -C {show(LINUX)} checkout {BRANCH}')


def untracked():
    """New files that wait for a 'git add'. Debian's .gitignore ends by ignoring
    everything, which blinds git status to them: read it without that line."""
    with tempfile.NamedTemporaryFile('wb', suffix='.gitignore') as rules:
        if os.path.isfile(os.path.join(LINUX, '.gitignore')):
            lines = read(os.path.join(LINUX, '.gitignore')).split(b'\n')
            rules.write(b'\n'.join(line for line in lines if line != b'/*'))
            rules.flush()
        return listed('ls-files', '-z', '--others', '--exclude-from=' + rules.name)


def dirty():
    """A few words on what is not committed, or nothing"""
    changed = listed('status', '--porcelain', '--no-renames', '--untracked-files=no', '-z')
    paths = [line[3:] for line in changed] + untracked()
    more = f' and {len(paths) - 1} more' if len(paths) > 1 else ''
    return paths[0] + more if paths else ''


def require_exported():
    where, what = show(LINUX), dirty()
    if what and exists(NEXT):
        raise Refused(f'the last make tree was killed in the middle ({what} in {where} differs): if you '
                      f'edited nothing there since, run git -C {where} reset --hard {NEXT}')
    if what:
        raise Refused(f'{where} holds work that is not exported ({what}): commit it (a new file '
                      'needs git add -f) and run make export, or put it aside '
                      f'(git -C {where} stash; move new files away)')
    head, old = exists('HEAD'), exists(EXPORTED) or exists('refs/tags/base')
    if head not in (old, exists(NEXT)):
        raise Refused(f'{where} holds work that is not exported (commits other than the queue\'s): run make '
                      f'export, or drop them with git -C {where} reset --keep {git("rev-parse", "--short", old)}')


def base_sh(*args):
    done = subprocess.run(['bash', os.path.join(TOOLS, 'base.sh'), *args], stdout=subprocess.PIPE)
    if done.returncode:
        # base.sh has said why
        sys.exit(done.returncode)
    return decode(done.stdout).strip()


def base_folder():
    source = base_sh()
    # A git tree's .gitignore tells what was built; a tarball's may not be trusted to
    if not os.path.exists(os.path.join(source, '.git')):
        for name in ('.config', 'include/config/auto.conf'):
            if os.path.exists(os.path.join(source, name)):
                raise Refused(f'{source} has been configured or built in ({name} exists): '
                              f'run make -C {source} mrproper')
    return source


def base_tree(source, repo):
    """The base as a git tree. Its own index stays, so that only the first time is slow."""
    force = [] if os.path.exists(os.path.join(source, '.git')) else ['-f']
    index = os.path.join(repo, '.git', 'small-rtnl-base-index')
    if not os.path.exists(index):
        say(f'reading {source}, about a minute')
    # A threshold of 1 puts all into one pack, not into 95,000 files
    git('-c', 'core.bigFileThreshold=1', '-c', 'core.compression=1', 'add', '-A', *force, '.',
        # The kernel's own python scripts leave these behind
        ':(exclude)*.pyc',
        repo=repo, index=index, tree=source)
    return git('write-tree', repo=repo, index=index)


def base_commit(source, tree, repo):
    version = version_in(decode(read(os.path.join(source, 'Makefile'))))
    return git('commit-tree', tree, '-m', f'Linux {version}', repo=repo)


def create_linux(source):
    """build/linux with the base checked out; it appears only when whole"""
    if shutil.disk_usage(BUILD).free < 3e9:
        raise Refused(f'{BUILD} has less than 3 GB free: free some space or set BUILD= to a larger disk')
    say(f'importing the base into {show(LINUX)}')
    new = LINUX + '.tmp'
    shutil.rmtree(new, ignore_errors=True)
    git_dir = os.path.join(new, '.git')
    os.makedirs(git_dir)
    git('init', '-q', '--template=', '-b', BRANCH, repo=new)
    git('config', 'gc.auto', '0', repo=new)
    git('config', 'user.name', IDENTITY[0], repo=new)
    git('config', 'user.email', IDENTITY[1], repo=new)
    commit = base_commit(source, base_tree(source, new), new)
    say('checking it out')
    git('update-ref', 'refs/heads/' + BRANCH, commit, repo=new)
    git('reset', '-q', '--hard', repo=new)
    git('tag', 'base', commit, repo=new)
    os.rename(new, LINUX)


def with_trailer(patch):
    last = patch.message.split('\n\n')[1:][-1:]
    together = last and all(re.match(r'[A-Za-z-]+: ', line) for line in last[0].split('\n'))
    return f'{patch.message}\n{"" if together else chr(10)}Patch-file: {patch.folder}/{patch.name}\n'


def apply_failure(patch, error, base):
    """Name the patch, the kernel's files and their hunks"""
    names = []
    for path, line in re.findall(r'^error: patch failed: (.*):(\d+)$', error, re.M):
        part = re.search(rf'^diff --git a/{re.escape(path)} b/.*?(?=^diff --git |\Z)', patch.diff, re.M | re.S)
        hunks = re.findall(r'^(@@ -(\d+).*)$', part[0] if part else '', re.M)
        for number, (header, start) in enumerate(hunks, 1):
            if start == line:
                names.append(f'{path}, hunk {number} of {len(hunks)} ({header.strip()})')
                break
        else:
            names.append(f'{path}, line {line}')
    for path in re.findall(r'^error: (.*): does not exist in index$', error, re.M):
        names.append(f'{path}, which this base does not have')
    what = '; '.join(names) or error.split('\n')[0]
    return DoesNotApply(patch, what, version_of(base))


def why_not_taken_back(path, part, data, error):
    """Which hunk is not in a file, and for want of which line"""
    have = set(decode(data).split('\n'))
    hunks = re.split(r'^(?=@@ -)', part, flags=re.M)[1:]
    line = re.search(rf'^error: patch failed: {re.escape(path)}:(\d+)$', error, re.M)
    for number, hunk in enumerate(hunks, 1):
        header, *lines = hunk.rstrip('\n').split('\n')
        start = re.match(r'@@ -\S+ \+(\d+)', header)[1]
        if not line or start != line[1]:
            continue
        where = f'hunk {number} of {len(hunks)} ({re.match("@@.*?@@", header)[0]})'
        for kind, what in (('+', 'that it adds'), (' ', 'around it')):
            for text in lines:
                if text[:1] == kind and text[1:] not in have:
                    return (f"{where}: the file has no line '{text[1:].strip()}' {what}, "
                            'so it was edited there by hand')
        return f'{where}: the file has its lines in another order, or more between or after them'
    return error.split('\n')[0]


def take_back(patch, grown, index):
    """Undo a patch's hunks for new files in an index of these files"""
    parts = {path: part for path, part in by_file(patch.diff).items() if path in grown}
    for path, part in parts.items():
        try:
            git('apply', '-R', '--cached', '--whitespace=nowarn', '-', stdin=part, index=index)
        except Refused as error:
            data = git('cat-file', 'blob', ':' + path, raw=True, index=index)
            why = why_not_taken_back(path, part, data, str(error).replace(': error:', ':\nerror:', 1))
            raise Refused(f'{patch.path} cannot be taken back from {path} to get what {grown[path].path} brings: '
                          f'{why}: make the same change in the patch, or undo it, make it in {show(LINUX)} '
                          'and run make export') from None


def first_contents(queue):
    """What patches bring is what the repository has, less what later patches add"""
    bringer = {path: patch for patch in queue for path in patch.final}
    grown = {path: bringer[path] for patch in queue for path in by_file(patch.diff) if path in bringer}
    if not grown:
        return
    lines = ''
    for path, patch in grown.items():
        mode, data = patch.final[path]
        lines += f'{mode} {git("hash-object", "-w", "--stdin", stdin=data)}\t{path}\n'
    with scratch_index() as index:
        git('update-index', '--add', '--index-info', stdin=lines, index=index)
        for patch in reversed(queue):
            take_back(patch, grown, index)
        for path, (mode, blob) in files_in(index=index).items():
            grown[path].new[path] = mode, git('cat-file', 'blob', blob, raw=True)


def require_same_files(queue, tip):
    """A hunk that fits in two places may be taken back from one and put in the other"""
    last = final_files(queue, tip)
    for patch in queue:
        for path, (mode, data) in patch.final.items():
            if path in last and last[path][0] != mode:
                raise Refused(f'{path} has mode {mode} in the repository and {last[path][0]} by the patches after '
                              f'{patch.path}: chmod it, or delete the mode lines of the later patch')
            if path in last and last[path][1] != data:
                raise Refused(f'the patches after {patch.path} do not give {path} as the repository has it, '
                              'because a hunk fits in more than one place: give that hunk more context')


def final_files(queue, tip):
    """New files that later patches change, as a commit has them"""
    paths = {path for patch in queue for path in patch.new}
    grown = sorted({path for patch in queue for path in by_file(patch.diff)} & paths)
    return {path: (mode, git('cat-file', 'blob', blob, raw=True))
            for path, (mode, blob) in (files_in(tip, grown) if grown else {}).items()}


def push(patch, base, index):
    """Apply a patch to the index, never with fuzz; returns the tree"""
    if patch.diff:
        try:
            git('apply', '--cached', '--whitespace=nowarn', '-', stdin=patch.diff, index=index)
        except Refused as error:
            raise apply_failure(patch, str(error).replace(': error:', ':\nerror:', 1), base) from None
    lines = ''
    for path, (mode, data) in patch.new.items():
        blob = git('hash-object', '-w', '--stdin', stdin=data)
        lines += f'{mode} {blob}\t{path}\n'
    if lines:
        git('update-index', '--add', '--index-info', stdin=lines, index=index)
    return git('write-tree', index=index)


@contextlib.contextmanager
def scratch_index(tree=None):
    """An index that no work tree knows of"""
    with tempfile.TemporaryDirectory(dir=os.path.join(LINUX, '.git')) as folder:
        index = os.path.join(folder, 'index')
        git('read-tree', tree or '--empty', index=index)
        yield index


def commit(patch, tree, parent, number):
    return git('commit-tree', tree, '-p', parent, stdin=with_trailer(patch), date=EPOCH + 60 * number)


def build_commits(queue, base):
    tip = base
    for patch in queue:
        patch.new = dict(patch.final)
    taken = in_base(base, [path for patch in queue for path in patch.new])
    first_contents(queue)
    with scratch_index(base) as index:
        for number, patch in enumerate(queue, 1):
            for path in sorted(taken & set(patch.new)):
                raise Refused(f'{patch.path} brings New-file {path}, which Linux {version_of(base)} '
                              'has already: rename ours')
            tip = commit(patch, push(patch, base, index), tip, number)
    require_same_files(queue, tip)
    return tip


@contextlib.contextmanager
def no_interruption():
    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.signal(number, signal.SIG_IGN) for number in signals]
    try:
        yield
    finally:
        for number, handler in zip(signals, before):
            signal.signal(number, handler)


def settle(base, tip, queue):
    """Move the branch and the work tree; unchanged files keep their times"""
    with no_interruption():
        git('update-ref', NEXT, tip)
        git('checkout', '-q', '-B', BRANCH, tip)
        write(gitfile(STATE), json.dumps(tokens(queue)).encode())
        git('update-ref', '--stdin', stdin=f'update refs/tags/base {base}\n'
            f'update {EXPORTED} {tip}\ndelete {NEXT}\n')


def tree():
    source = base_folder()
    os.makedirs(BUILD, exist_ok=True)
    queue = load_queue()
    if not os.path.lexists(LINUX):
        create_linux(source)
    require_repository()
    require_exported()
    base, wanted = exists('refs/tags/base'), base_tree(source, LINUX)
    # The same source may have been committed by other hands: keep that commit
    same_base = git('rev-parse', base + '^{tree}') == wanted
    if not same_base:
        base = base_commit(source, wanted, LINUX)
    about = f'{show(LINUX)}: {len(queue)} patches on Linux {version_of(base)}'
    if same_base and exists(EXPORTED) == exists('HEAD') and recorded() == tokens(queue):
        say(about + ', nothing to do')
        return base, queue
    settle(base, build_commits(queue, base), queue)
    say(about)
    return base, queue


# --- export ----------------------------------------------------------------

def commits_since(base):
    head = exists('HEAD')
    ids = git('rev-list', '--reverse', '--topo-order', f'{base}..{head}').split()
    for commit_id in [base, *ids]:
        if commit_id != base and git('rev-list', '--parents', '-n', '1', commit_id).count(' ') > 1:
            raise Refused(f'{called(commit_id)} in {show(LINUX)} is a merge: rebase it away')
    if git('merge-base', base, head) != base:
        raise Refused(f'{BRANCH} in {show(LINUX)} does not stand on tag base: rebase it onto base')
    return ids


def called(commit_id):
    return 'commit ' + git('log', '-1', "--format=%h '%s'", commit_id)


def message_of(commit_id):
    """The message without our trailers, the folder and name that they say"""
    text = git('log', '-1', '--format=%B', commit_id)
    found = list(TRAILER.finditer(text + '\n'))
    files = [(match[2], match[3]) for match in found if match[2]]
    series = [match[4] for match in found if match[4]]
    folder, name = files[0] if files else (None, None)
    message = TRAILER.sub('', text + '\n').strip('\n')
    bad = re.search(r'^(---|diff -|Index: )', message, re.M)
    if bad:
        raise Refused(f"{called(commit_id)} has a message line that begins with '{bad[1]}', where mail "
                      'ends a message: indent it')
    return message, series[0] if series else folder, (folder, name)


def changes(commit_id, base, brought):
    """The new files that a commit brings and its diff of the files before it"""
    entries = listed('diff-tree', '-r', '--no-renames', '-z', f'{commit_id}^', commit_id)
    entries = [(*entries[i].split(), entries[i + 1]) for i in range(0, len(entries), 2)]
    old = in_base(base, [entry[-1] for entry in entries]) | set(brought)
    new = {}
    for _, mode, _, blob, status, path in entries:
        if path in old:
            if status == 'A':
                raise Refused(f'{called(commit_id)} brings back {path}, which a commit before it deletes: '
                              'squash the two (git rebase -i)')
            if path in brought and status != 'M':
                raise Refused(f'{called(commit_id)} deletes {path} or makes it no regular file, but '
                              f'{called(brought[path])} brings it, and a new file must last to the end of the '
                              'queue: take it out of both (git rebase -i)')
            continue
        if mode not in ('100644', '100755') or path.startswith(OWN):
            raise Refused(f'{called(commit_id)} brings {path}, which is no regular file or has a path '
                          'that is not for kernel files: take it out')
        new[path] = mode, git('cat-file', 'blob', blob, raw=True)
        brought[path] = commit_id
    paths = sorted(entry[-1] for entry in entries if entry[-1] in old)
    diff = git('diff-tree', '-p', '--no-renames', '--no-color', '--no-ext-diff', '--no-textconv', '--binary',
               f'{commit_id}^', commit_id, '--', *paths, raw=True) if paths else b''
    if not paths and not new:
        raise Refused(f'{called(commit_id)} changes nothing: drop it (git rebase -i)')
    # An index line names blobs, which another base changes (a binary diff needs it)
    text = decode(diff)
    if 'GIT binary patch' not in text:
        text = re.sub(r'^index [0-9a-f]+\.\.[0-9a-f]+.*\n', '', text, flags=re.M)
    return new, text


def same_but_moved(where, old, message, new, diff):
    """Whether a patch file says the same but for line numbers of hunks"""
    def placeless(text):
        return re.sub(r'^@@ -.* @@.*$', '@@', text, flags=re.M)
    try:
        was, brings, before = parse(where, old)
    except Refused:
        return False
    return (was, sorted(brings), placeless(before)) == (message, sorted(new), placeless(diff))


def read_commits(base):
    """The queue as the commits of build/linux say it, and its tip"""
    queue, origin, brought, tip, before = [], {}, {}, base, base
    here = (folders() or [None])[0]
    with scratch_index(base) as index:
        for number, commit_id in enumerate(commits_since(base), 1):
            message, folder, (old_folder, old_name) = message_of(commit_id)
            folder = folder or here
            if not folder:
                raise Refused(f'{called(commit_id)} names no series and patches/ has no folder: '
                              "add a line 'Series: 01-name' to its message")
            if queue and folder < here:
                raise Refused(f'{called(commit_id)} belongs to {folder} but stands after a commit of {here}: '
                              "move it (git rebase -i), or add a line 'Series: NN-name' to its message")
            here = folder
            new, fresh = changes(commit_id, base, brought)
            place = 1 + sum(patch.folder == folder for patch in queue)
            slug = git('log', '-1', '--format=%f', commit_id)[:52].rstrip('-.')
            patch = Patch(folder, f'{place:04}-{slug}.patch', message, fresh, new, form(message, new, fresh))
            wanted = git('rev-parse', commit_id + '^{tree}')
            origin[patch.path] = old = f'patches/{old_folder}/{old_name}' if old_name else patch.path
            full = os.path.join(TOP, old)
            text = decode(read(full)) if os.path.isfile(full) else ''
            if text and same_but_moved(old, text, message, new, fresh):
                patch.text, patch.diff = text, parse(old, text)[2]
            if try_push(patch, base, index) != wanted or not gives_back(patch, brought, before, wanted):
                patch.text, patch.diff = form(message, new, fresh), fresh
                git('read-tree', before, index=index)
                if push(patch, base, index) != wanted:
                    raise Refused(f'{called(commit_id)} cannot be written as a patch that gives the same '
                                  'tree (a fault of queue.py): nothing was changed')
            tip = commit(patch, wanted, tip, number)
            before = commit_id
            queue.append(patch)
    last = final_files(queue, tip)
    for patch in queue:
        patch.final = {path: last.get(path, here_it_is) for path, here_it_is in patch.new.items()}
    return queue, origin, tip


def gives_back(patch, brought, before, after):
    """Whether hunks for new files can be undone: an old patch's may have moved too far"""
    paths = sorted(set(by_file(patch.diff)) & set(brought))
    if not paths:
        return True
    with contextlib.suppress(Refused), scratch_index() as index:
        git('update-index', '--add', '--index-info', stdin=git('ls-tree', after, '--', *paths), index=index)
        take_back(patch, dict.fromkeys(paths, patch), index)
        return files_in(index=index) == files_in(before, paths)
    return False


def try_push(patch, base, index):
    with contextlib.suppress(Refused):
        return push(patch, base, index)
    return None


def series_text(folder, queue, origin):
    """The series with the comments that its patches had, wherever they went"""
    top, entries, end = read_series(folder)
    comments, by_slug = {}, {}
    for name in folders():
        for entry, comment in read_series(name)[1]:
            comments[f'patches/{name}/{entry}'] = comment
            by_slug[entry.partition('-')[2]] = comment
    patches = [patch for patch in queue if patch.folder == folder]
    if not entries and top and patches and not top.endswith('\n\n'):
        top = top.rstrip('\n') + '\n\n'
    text = top
    for patch in patches:
        slug = patch.name.partition('-')[2]
        text += comments.get(origin[patch.path], by_slug.get(slug, '')) + patch.name + '\n'
    return text + end


def require_untouched(paths, new, old):
    """An edit in the repository that build/linux never saw must survive"""
    for path, disk in tokens_on_disk(paths).items():
        if disk not in (new.get(path), old.get(path)):
            where = show(LINUX)
            raise Refused(f'{path} was changed since the last make tree and is not what {where} holds: '
                          f'if {where} has no commits of yours run make tree, else put them on a branch (git -C '
                          f'{where} branch mine; git -C {where} reset --keep {EXPORTED}), run make tree '
                          'and cherry-pick them')


def export():
    if not os.path.isdir(LINUX):
        raise Refused(f'{show(LINUX)} does not exist: run make tree first')
    require_repository()
    what = dirty()
    if what:
        raise Refused(f'{show(LINUX)} holds changes that are not committed ({what}): commit them '
                      f'(a new file needs git add -f), or put them aside (git -C {show(LINUX)} stash; move new files away)')
    base = exists('refs/tags/base')
    queue, origin, tip = read_commits(base)
    new, old = tokens(queue), recorded()
    on_disk = {f'patches/{folder}/{name}' for folder in folders() for name, _ in read_series(folder)[1]}
    paths = sorted({*new, *old, *on_disk})
    require_untouched(paths, new, old)
    series = {folder: series_text(folder, queue, origin)
              for folder in sorted({*folders(), *(patch.folder for patch in queue)})}
    for patch in queue:
        write(os.path.join(TOP, patch.path), encode(patch.text))
        for path, (mode, data) in patch.final.items():
            write(os.path.join(TOP, path), data, mode)
    for folder, text in series.items():
        path = os.path.join(TOP, 'patches', folder, 'series')
        if text or os.path.isfile(path):
            write(path, encode(text))
    # Last, so that whatever interrupts this leaves too much rather than too little
    for path in paths:
        full = os.path.join(TOP, path)
        if path not in new and not path.endswith('/series') and os.path.isfile(full):
            os.remove(full)
    settle(base, tip, queue)
    say(f'patches/: {len(queue)} patches in {len({patch.folder for patch in queue})} series')


# --- mbox ------------------------------------------------------------------

def sender():
    signoff = os.environ.get('SIGNOFF', '').strip()
    if not signoff:
        return None
    match = re.fullmatch(r'([^<>]*[^<>\s])\s*<([^<>\s@]+@[^<>\s@]+)>', signoff)
    if not match:
        raise Refused(f'SIGNOFF={signoff} is no "Name <mail>": give both')
    return match[1], match[2]


def read_cover(folder):
    path = os.path.join(TOP, 'patches', folder, 'cover')
    text = decode(read(path)) if os.path.isfile(path) else ''
    subject, _, body = text.partition('\n')
    if not subject.strip() or body and not body.startswith('\n') or not body.strip():
        raise Refused(f'patches/{folder}/cover must hold the cover letter: the subject on its first line, '
                      'a blank line, and the text')
    if not subject.isascii():
        raise Refused(f'the subject in patches/{folder}/cover is not plain ASCII: rewrite it')
    return subject.strip(), body.strip('\n')


def fill_cover(path, subject, body):
    text = decode(read(path))
    head, _, rest = text.partition('\n\n')
    head = head.replace('*** SUBJECT HERE ***', subject)
    # git encodes the sender's name in patches, but not here
    head = re.sub(r'^From: (.*) <', lambda match: f'From: {Header(match[1]).encode()} <', head, flags=re.M)
    if not (body + rest).isascii() and 'Content-Type:' not in head:
        head += '\nMIME-Version: 1.0\nContent-Type: text/plain; charset=UTF-8\nContent-Transfer-Encoding: 8bit'
    write(path, encode(f'{head}\n\n{rest}'.replace('*** BLURB HERE ***', body)))


def mail_commits(ids, who, parent):
    """The commits as they are mailed: no trailer of ours, the sender's sign-off"""
    for number, commit_id in enumerate(ids):
        message, _, _ = message_of(commit_id)
        message = git('stripspace', stdin=message)
        if who:
            message = git('interpret-trailers', '--if-exists=addIfDifferent', '--no-divider', '--trailer',
                          f'Signed-off-by: {who[0]} <{who[1]}>', stdin=message + '\n')
        parent = git('commit-tree', commit_id + '^{tree}', '-p', parent, stdin=message + '\n',
                     who=who or IDENTITY, date=EPOCH + 60 * number)
    return parent


def mbox():
    only, who = os.environ.get('SERIES', ''), sender()
    out = os.path.abspath(os.environ.get('OUT') or os.path.join(BUILD, 'mbox'))
    base, queue = tree()
    names = sorted({patch.folder for patch in queue})
    if not names:
        raise Refused('patches/ holds no patch: there is nothing to mail')
    if only and only not in names:
        raise Refused(f'SERIES={only} is no folder of patches/: it may be {", ".join(names)}')
    wanted = [name for name in names if only in ('', name)]
    covers = {name: read_cover(name) for name in wanted}
    ids, parent = commits_since(base), base
    for name in names:
        mine = [commit_id for commit_id, patch in zip(ids, queue) if patch.folder == name]
        if name in wanted:
            tip = mail_commits(mine, who, parent)
            folder = os.path.join(out, name)
            os.makedirs(folder, exist_ok=True)
            # Mails of an earlier run must not be sent along with these
            for old in os.listdir(folder):
                if re.fullmatch(r'\d{4}-.*\.patch', old):
                    os.remove(os.path.join(folder, old))
            git('format-patch', '-q', '--cover-letter', '-n', '--subject-prefix=PATCH net-next', '--no-base',
                '--no-signature', '--no-renames', '--zero-commit', '-o', folder, f'{parent}..{tip}',
                who=who or IDENTITY)
            fill_cover(os.path.join(folder, '0000-cover-letter.patch'), *covers[name])
            print(f'{folder}: {len(mine)} patches')
        parent = mine[-1]
    if not who:
        say('nobody has signed these off: SIGNOFF="Name <mail>" sets the sender and adds the sign-off')


# --- bases -----------------------------------------------------------------

def try_base(folder, queue):
    """Apply the queue to a tree of only the files that it touches"""
    with scratch_index() as index:
        git('add', '-A', '-f', '.', ':(exclude).list', index=index, tree=folder)
        base = base_commit(folder, git('write-tree', index=index), LINUX)
    build_commits(queue, base)


def bases():
    queue = load_queue()
    if not queue:
        raise Refused('patches/ holds no patch: there is nothing to try')
    require_repository()
    names = {'Makefile'}.union(*(by_file(patch.diff) for patch in queue), *(patch.new for patch in queue))
    offers = [line.split() for line in base_sh('offers').split('\n')]
    failed = 0
    with tempfile.NamedTemporaryFile('wb', suffix='.list') as file:
        file.write(encode(''.join(f'{name}\n' for name in sorted(names))))
        file.flush()
        for version, package, suite, _ in offers:
            folder = base_sh('files', version, file.name)
            try:
                try_base(folder, queue)
                print(f'ok {version} ({suite}, {package})', flush=True)
            except DoesNotApply as error:
                failed += 1
                print(f'not ok {version}: {error.short}', flush=True)
            except Refused as error:
                failed += 1
                print(f'not ok {version}: {error}', flush=True)
    print(f'{len(offers) - failed} passed, {failed} failed, 0 skipped')
    if failed:
        sys.exit(1)


COMMANDS = {'tree': tree, 'export': export, 'mbox': mbox, 'bases': bases}


def main():
    if len(sys.argv) != 2 or sys.argv[1] not in COMMANDS:
        raise Refused(f'usage: queue.py {" | ".join(COMMANDS)}')
    os.makedirs(BUILD, exist_ok=True)
    with open(os.path.join(BUILD, '.queue.lock'), 'w') as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        COMMANDS[sys.argv[1]]()


if __name__ == '__main__':
    try:
        main()
    except Refused as error:
        sys.exit(f'error: {error}')
    except KeyboardInterrupt:
        sys.exit('error: interrupted; nothing half-done is left, run it again')
