#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Test mutants.py and bisect.sh on a tree of a few files, with programs of our
# own in the places of build.sh, vm.sh and make, so that it takes seconds.

# shellcheck source=../lib.sh
. "$(dirname "$0")/../lib.sh"
# shellcheck source=says.sh
. "$TOOLS/tests/says.sh"

TMP=$(mktemp -d)
trap 'rm -rf "$TMP"' EXIT
REPO=$TMP/repo
T=$REPO/tools/small-rtnl
export BUILD=$REPO/build SMALL_RTNL_CACHE=$TMP/cache TMP
export GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_NOSYSTEM=1
export GIT_AUTHOR_NAME=x GIT_AUTHOR_EMAIL=x GIT_COMMITTER_NAME=x GIT_COMMITTER_EMAIL=x
unset PATCHES TIMEOUT GUEST_ENV

# mutant NAME CAUGHT-BY FROM TO: one that changes a word of net/a.c
mutant()
{
	printf 'Rule: a word stays\n  what it is\nCaught-by: %s\n---\n' "$2" >"$T/mutants/$1.patch"
	printf 'diff --git a/net/a.c b/net/a.c\n--- a/net/a.c\n+++ b/net/a.c\n@@ -1,2 +1,2 @@\n-%s\n+%s\n two\n' \
		"$3" "$4" >>"$T/mutants/$1.patch"
}

patch()
{
	git -C "$BUILD/linux" add -A
	git -C "$BUILD/linux" commit -q -m "$1" -m "Patch-file: $2"
}

mkdir -p "$T/mutants" "$T/kernel-config" "$REPO/tools/testing/selftests/net" "$BUILD/linux/net" "$TMP/bin"
cp "$TOOLS"/{lib.sh,kbuild.sh,scratch.sh,matrix.sh,bisect.sh,mutants.py} "$T/"
# A tree of a few files needs no disk
sed -i 's/^\(\t*\)need_space .*/\1:/' "$T"/scratch.sh
install /dev/null "$REPO/tools/testing/selftests/net/a.py"
git -C "$BUILD/linux" init -q
printf 'one\ntwo\n' >"$BUILD/linux/net/a.c"
echo 'obj-y := a.o' >"$BUILD/linux/net/Makefile"
git -C "$BUILD/linux" add -A
git -C "$BUILD/linux" commit -q -m base
git -C "$BUILD/linux" tag base
printf 'three\n' >"$BUILD/linux/net/b.c"
printf 'four\n' >"$BUILD/linux/net/not-enabled.c"
echo 'obj-y += b.o' >>"$BUILD/linux/net/Makefile"
patch 'net: b' 01-x/0001-b.patch
sed -i 's/one/#warning/' "$BUILD/linux/net/a.c"
patch 'net: a' 01-x/0002-a.patch
sed -i 's/#warning/one/' "$BUILD/linux/net/a.c"
patch 'net: a again' 02-y/0001-a.patch

cat >"$T/build.sh" <<'EOS'
#!/bin/bash
! grep -q ERROR "$BUILD/linux/net/a.c" || { echo "error: ERROR" >&2; exit 1; }
EOS
cat >"$T/vm.sh" <<'EOS'
#!/bin/bash
case "$(head -n 1 "$BUILD/linux/net/a.c")" in
bad) echo "not ok 1 x.case"; exit 1 ;;
dead) exit 202 ;;
slow) echo "# not ok 1 a.slow"; trap 'exit 130' TERM; sleep 90 & wait $! ;;
flaky) echo "# not ok 2 a.other"; exit 1 ;;
esac
EOS
# A compiler that warns of the word #warning; what there is to compile is asked of
# the real make
REAL_MAKE=$(command -v make)
export REAL_MAKE
cat >"$TMP/bin/make" <<'EOS'
#!/bin/bash
[ "${!#}" != small-rtnl-print ] || exec "$REAL_MAKE" "$@"
cd "${2:?}" || exit
for word; do
	case "$word" in
	O=*) obj=${word#O=} ;;
	*.o)	source=${word%.o}.c
		[ "$obj/$word" -nt "$source" ] && continue
		echo "  CC      $word"
		grep -q '#error' "$source" && { echo "$source:1:1: error: no"; exit 2; }
		grep -q '#warning' "$source" && echo "../$source:1:1: warning: what"
		mkdir -p "$(dirname "$obj/$word")" && touch "$obj/$word" ;;
	allnoconfig) mkdir -p "$obj/include/config" && touch "$obj/.config" "$obj/include/config/auto.conf" ;;
	esac
done
exit 0
EOS
for name in gcc ccache sparse clang-99; do
	ln -s /bin/true "$TMP/bin/$name"
done
chmod +x "$T"/*.sh "$TMP"/bin/make "$REPO/tools/testing/selftests/net/a.py"
for name in base drivers qemu matrix debug patched; do
	touch "$T/kernel-config/$name.config"
done
PATH=$TMP/bin:$PATH

check "no mutants" says 1 'error: ' 'holds no mutant' -- "$T/mutants.py"
mutant good 'kunit x.case' one bad
check "one that a test catches" says 0 'ok 1 unbroken: kunit' 'ok 2 good: a word stays what it is' \
	'good    kunit: x.case' '2 passed, 0 failed' -- "$T/mutants.py"
check "the copy is whole again" git -C "$BUILD/scratch/linux" diff --quiet
check "a name that is none" says 1 'error: none is no mutant: it may be good' -- "$T/mutants.py" none
mutant survivor 'selftest a.py' one fine
check "one that survives" says 1 'not ok 2 survivor' 'survives selftest a.py' 'NOT CAUGHT' '1 passed, 1 failed' \
	-- "$T/mutants.py" survivor
mutant other 'selftest a.py case' one flaky
check "one that only another test notices" says 1 'only these noticed it: a.other' -- "$T/mutants.py" other
mutant dead 'selftest a.py dead' one dead
check "one that kills the kernel" says 0 'selftest a.py: dead' -- "$T/mutants.py" dead
mutant slow 'selftest a.py slow' one slow
check "one that hangs after the test has failed is not waited for" says 0 'selftest a.py: a.slow' \
	-- timeout 60 "$T/mutants.py" slow
mutant hidden 'selftest a.py' one bad
sed -i 's/^Caught-by: .*/Hidden-by: RTNL/' "$T/mutants/hidden.patch"
check "one that no test can notice is built and not run" says 0 'ok 1 hidden' '# hidden: RTNL' 'hidden  nobody' \
	-- "$T/mutants.py" hidden
mutant old 'selftest a.py' once bad
check "one that does not apply" says 1 'not ok 2 old' 'does not apply' -- "$T/mutants.py" old
mutant broken 'selftest a.py' one ERROR
check "one that does not build" says 1 'not ok 2 broken' 'does not build: error: ERROR' -- "$T/mutants.py" broken
mutant wrong 'selftest none.py' one bad
check "a test that is not there" says 1 'error: mutants/wrong.patch' 'no such test' -- "$T/mutants.py" wrong
mutant wrong 'somebody' one bad
check "a header that it does not know" says 1 "the line 'Caught-by: somebody'" -- "$T/mutants.py" wrong
sed -i '/^Caught/d' "$T/mutants/wrong.patch"
check "no test at all" says 1 "or one 'Hidden-by:' line" -- "$T/mutants.py" wrong
sed -i '/^---$/,$d' "$T/mutants/wrong.patch"
check "no diff" says 1 "a diff that begins with" -- "$T/mutants.py" wrong
sed -i 's/^bad)/one | &/' "$T/vm.sh"
check "a test that fails on the unbroken kernel" says 1 'not ok 1 unbroken: kunit' 'error: a test fails on the unbroken' \
	-- "$T/mutants.py" good

name=gcc-x86_64-on-m
check "bisect: a patch that adds a warning, and what each compiles" says 1 \
	"ok 1 $name 1 01-x/0001-b.patch: 1 files" "not ok 2 $name 2 01-x/0002-a.patch: 1 files" \
	'# net/a.c:1:1: warning: what' "ok 3 $name 3 02-y/0001-a.patch: 1 files" '2 passed, 1 failed' -- "$T/bisect.sh" "$name"
PATCHES=02-y check "a series" says 0 "ok 1 $name 3 02-y" '1 passed, 0 failed' -- "$T/bisect.sh" "$name"
PATCHES=1 check "one patch, all four" says 0 'gcc-x86_64-off-y 1' '4 passed, 0 failed' -- "$T/bisect.sh"
for range in 0..1 2..1 1..4 3.. x; do
	PATCHES=$range check "PATCHES=$range" says 1 "error: PATCHES=$range is n" -- "$T/bisect.sh" "$name"
done
check "a compiler that is none" says 1 "error: 'icc-x86_64-on-m' is no" -- "$T/bisect.sh" icc-x86_64-on-m
exec 7>"$BUILD/scratch/lock"
flock 7
check "two at once" says 1 'error: another make' -- "$T/bisect.sh" "$name"
check "nor the other" says 1 'error: another make' -- "$T/mutants.py" good
exec 7>&-
rm -rf "$BUILD"
check "no tree" says 1 "error: there is no patched tree" -- "$T/bisect.sh" "$name"
check "no tree for mutants" says 1 "error: there is no patched tree" -- "$T/mutants.py" good
finish
